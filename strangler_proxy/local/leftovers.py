"""What a killed `strangler up` left running: found by the state file and by a mark in the environment, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil

from strangler_proxy.local.references import POSTGRES
from strangler_proxy.local.state_file import MARKER, RunRecord

GRACE_S = 5.0


def find(var: Path, record: RunRecord | None) -> list[psutil.Process]:
    """Processes of an earlier run over this folder; never this process or one above it."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for unit in record.units if record is not None else ():
        if unit.pid is not None and unit.alive:
            found[unit.pid] = psutil.Process(unit.pid)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARKER) == str(var):
                found[process.pid] = process
    return [process for pid, process in found.items() if pid not in spared and _runs(process)]


def end(var: Path, record: RunRecord | None, *, grace_s: float = GRACE_S) -> list[str]:
    """End them: politely, then by force. What was ended, in words. Takes at most grace_s and a few seconds."""
    processes = find(var, record)
    said = [f"pid {process.pid} ({_command(process)})" for process in processes]
    servers = {unit.pid for unit in record.units if unit.name == POSTGRES} if record is not None else set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # To PostgreSQL SIGTERM means "wait until everybody has left"; SIGINT is its fast shutdown.
            process.send_signal(signal.SIGINT if process.pid in servers else signal.SIGTERM)
    _, stubborn = psutil.wait_procs(processes, timeout=grace_s)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=3.0)
    return said


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:120]
    except psutil.Error:
        return "gone"
