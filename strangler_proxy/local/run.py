"""`strangler up`: one run from the lock to the last process ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import psutil

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.local import leftovers, shell_file
from strangler_proxy.local.assembly import Assembly, assemble, choose_ports
from strangler_proxy.local.output import Output
from strangler_proxy.local.parse import load_project
from strangler_proxy.local.ports import require_free
from strangler_proxy.local.references import POSTGRES, VALKEY
from strangler_proxy.local.state_file import RunRecord, StateFile, UnitRecord
from strangler_proxy.local.supervisor import Supervisor, UnitFailed, adopt_orphans
from strangler_proxy.local.unit import Job, Service

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class AlreadyUp(StranglerError):
    """Another `strangler up` runs over the same var folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """`file` is a strangler.toml or its folder. `quiet` shows our own lines only; the files have everything."""

    file: Path = Path()
    var: Path | None = None
    port_offset: int = 0
    free_ports: bool = False
    quiet: bool = False
    colour: bool = False


def up(options: UpOptions, *, stream: TextIO = sys.stdout) -> None:
    """Run until a signal. Raises StranglerError when something did not come up; nothing is left running then either."""
    project = load_project(options.file, var=options.var)
    project.var.mkdir(parents=True, exist_ok=True)
    state = StateFile(project.var)
    before = state.read()
    if not state.lock():
        who = f"pid {before.pid}" if before is not None and before.alive else "another process"
        raise AlreadyUp(
            f"{project.name} is up already ({who} runs over {project.var})",
            next_command=f"strangler ps --var {project.var}, or end it: strangler down --var {project.var}",
        )
    try:
        ended = leftovers.end(project.var, before)
        ports = choose_ports(project, offset=options.port_offset, free=options.free_ports)
        assembly = assemble(project, ports, os.environ)
        require_free(
            assembly.bound, next_command="end that process, or use other ports: strangler up --port-offset 100"
        )
        names = [unit.name for unit in assembly.units]
        output = Output(project.var / "log", names, stream=stream, colour=options.colour, quiet=options.quiet)
        try:
            for line in ended:
                output.say(f"ended a leftover of a killed run: {line}")
            asyncio.run(_Run(assembly, state, output).run())
        finally:
            output.close()
    finally:
        state.unlock()


class _Run:
    def __init__(self, assembly: Assembly, state: StateFile, output: Output) -> None:
        self._assembly = assembly
        self._state = state
        self._output = output
        self._since = time.time()
        self._phase = "starting"
        self._reason = ""
        self._supervisor = Supervisor(assembly.units, output, changed=self._write)

    async def run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._leave, number, stop)
        adopt_orphans()
        self._output.say(f"{self._assembly.project.name}: starting {len(self._assembly.units)} units")
        self._write()
        try:
            await self._supervisor.run(stop, ready=self._ready)
            self._phase = "stopped"
        except BaseException as error:
            self._phase, self._reason = "failed", str(error)
            if isinstance(error, UnitFailed):
                self._output.say(f"{error.message.splitlines()[0]} stopping everything")
            raise
        finally:
            _end_descendants()
            self._write()
            self._output.say(f"{self._assembly.project.name}: {self._phase}, nothing is left running")

    def _leave(self, number: signal.Signals, stop: asyncio.Event) -> None:
        if stop.is_set():
            self._output.say("asked a second time: killing everything now")
            _kill_descendants()
            return
        self._phase = "stopping"
        self._output.say(f"{number.name}: stopping everything (once more: kill)")
        self._write()
        stop.set()

    def _ready(self) -> None:
        self._phase = "ready"
        self._write()
        took = time.time() - self._since
        self._output.say(f"{self._assembly.project.name}: everything is ready after {took:.1f} s")
        shell = self._assembly.project.var / shell_file.NAME
        if self._assembly.project.shell:
            self._output.say(f"for other terminals: . {shell}")

    def _write(self) -> None:
        me = psutil.Process()
        self._state.write(
            RunRecord(
                project=self._assembly.project.name,
                file=str(self._assembly.project.path),
                pid=me.pid,
                pid_started=me.create_time(),
                since=self._since,
                state=self._phase,
                reason=self._reason,
                ports=dict(self._assembly.ports),
                databases=dict(self._assembly.databases),
                units=[self._record(unit) for unit in self._assembly.units],
            )
        )

    def _record(self, unit: Job | Service) -> UnitRecord:
        status = self._supervisor.status[unit.name]
        kind = "server" if unit.name in (POSTGRES, VALKEY) else "step" if isinstance(unit, Job) else "process"
        return UnitRecord(
            name=unit.name,
            kind=kind,
            state=status.state.value,
            since=status.since,
            pid=status.pid,
            pid_started=status.pid_started,
            restarts=status.restarts,
            ports=list(unit.ports) if isinstance(unit, Service) else [],
            url=unit.url if isinstance(unit, Service) else "",
            health=status.health,
        )


def _kill_descendants() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return found


def _end_descendants() -> None:
    """The last sweep: whatever left its process group."""
    psutil.wait_procs(_kill_descendants(), timeout=3.0)
