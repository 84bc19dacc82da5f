"""What another terminal does with a run: start one in the background, look at it, read its logs, end it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.local import leftovers
from strangler_proxy.local.output import ALL
from strangler_proxy.local.parse import load_project
from strangler_proxy.local.run import UpOptions
from strangler_proxy.local.state_file import RunRecord, StateFile

DETACHED_LOG = "up.log"
FOLLOW_PAUSE_S = 0.2


class NotUp(StranglerError):
    """Nothing runs over this var folder, or nothing ever ran."""


class UpFailed(StranglerError):
    """A run in the background did not come up; the message is what it said."""


class DownFailed(StranglerError):
    """Something could not be ended in time."""

    exit_code = 5


def detach(options: UpOptions, *, timeout_s: float) -> RunRecord:
    """Start a run in the background and wait until everything is ready.

    Raises UpFailed when it ended before, or (exit code 5) is not ready in time; it then goes on.
    """
    project = load_project(options.file, var=options.var)
    folder = project.var / "log"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / DETACHED_LOG
    command = [sys.executable, "-m", "strangler_proxy.local", "--file", str(project.path), "--var", str(project.var)]
    command += ["--port-offset", str(options.port_offset)] + (["--free-ports"] if options.free_ports else [])
    pid = _spawn(command, log)
    deadline = time.monotonic() + timeout_s
    state = StateFile(project.var)
    while time.monotonic() < deadline:
        record = state.read()
        if record is not None and record.pid == pid and record.state == "ready":
            return record
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise UpFailed(log.read_text(errors="replace").strip(), next_command=f"strangler logs --var {project.var}")
        time.sleep(0.1)
    late = UpFailed(
        f"{project.name} is not ready after {timeout_s:g} s; it goes on starting (pid {pid})",
        next_command=f"strangler ps --var {project.var}",
    )
    late.exit_code = 5
    raise late


def _spawn(command: list[str], log: Path) -> int:
    # Not subprocess: that one warns about a child which is meant to outlive us.
    return os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def look(var: Path) -> RunRecord:
    """The run over `var` as it is now. Raises NotUp where none was ever started.

    A `strangler up` that was killed is shown with state "killed", and its units by what is true of them.
    """
    record = StateFile(var).read()
    if record is None:
        raise NotUp(f"nothing was ever started over {var}", next_command="strangler up")
    if record.state in ("stopped", "failed") or record.alive:
        return record
    units = [
        replace(unit, state="left over" if unit.alive else unit.state if unit.pid is None else "killed")
        for unit in record.units
    ]
    return replace(record, state="killed", reason=f"strangler up (pid {record.pid}) was killed", units=units)


def down(var: Path, *, timeout_s: float) -> str:
    """End the run over `var`, and what a killed one left. What was done, in words. Raises NotUp and DownFailed."""
    record = look(var)
    if record.alive:
        supervisor = psutil.Process(record.pid)
        supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(timeout_s)
        except psutil.TimeoutExpired:
            supervisor.kill()
            leftovers.end(var, record)
            raise DownFailed(
                f"{record.project} did not stop in {timeout_s:g} s and was killed", next_command="strangler ps"
            ) from None
        return f"{record.project} is down"
    ended = leftovers.end(var, record)
    if ended:
        return "\n".join(["ended what a killed run left:", *ended])
    return f"{record.project} is down already"


def log_path(var: Path, name: str | None) -> Path:
    """The log file of a unit, or of everything. Raises NotUp with the names that there are."""
    folder = var / "log"
    path = folder / f"{name or ALL}.log"
    if not path.is_file():
        names = sorted(file.stem for file in folder.glob("*.log") if file.stem not in (ALL, "up"))
        if not names:
            raise NotUp(f"there are no logs in {folder}", next_command="strangler up")
        raise NotUp(f'there is no log of "{name}"; there are: {", ".join(names)}')
    return path


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log file and of the one before it."""
    kept: deque[str] = deque(maxlen=count)
    for file in (path.with_name(f"{path.name}.1"), path):
        if file.exists():
            with file.open(errors="replace") as lines:
                kept.extend(line.rstrip("\n") for line in lines)
    return list(kept)


def follow(path: Path) -> Iterator[str]:
    """New lines as they come, also over a rotation; never ends by itself."""
    file = path.open(errors="replace")
    try:
        file.seek(0, os.SEEK_END)
        part = ""
        while True:
            text = file.readline()
            if text:
                part += text
                if part.endswith("\n"):
                    yield part.rstrip("\n")
                    part = ""
                continue
            if path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                file.close()
                file = path.open(errors="replace")
                continue
            time.sleep(FOLLOW_PAUSE_S)
    finally:
        file.close()
