"""Starts units in the order of their needs, keeps services running, and ends everything in the reverse order."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.local.child import Child
from strangler_proxy.local.declaration import Restart
from strangler_proxy.local.output import Output
from strangler_proxy.local.unit import Job, Service, Status, UnitState

FIRST_TRIES = 3
"""A service that ends this often before it was ready for the first time makes `up` fail."""
PREPARE_LIMIT_S = 120.0
PR_SET_CHILD_SUBREAPER = 36


class UnitFailed(StranglerError):
    """A step failed or a process did not come up; the message ends with its last lines."""


def adopt_orphans() -> None:
    """On Linux: what children leave behind becomes our child, so that it can be found, ended and reaped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Supervisor:
    """One run. Everything happens in one event loop; each unit's Status is written by its own task only."""

    def __init__(
        self, units: Sequence[Job | Service], output: Output, *, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.units = units
        self.status = {unit.name: Status(since=time.time()) for unit in units}
        self._output = output
        self._changed = changed
        self._ready = {unit.name: asyncio.Event() for unit in units}
        self._leave = {unit.name: asyncio.Event() for unit in units}

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Until `stop` is set. Calls `ready` once when every unit is. Raises UnitFailed, with nothing left."""
        tasks = {unit.name: asyncio.create_task(self._unit(unit), name=unit.name) for unit in self.units}
        stopping = asyncio.create_task(stop.wait(), name="stop")
        all_ready = asyncio.create_task(self._when_ready(ready), name="ready")
        try:
            waiting = {stopping, *tasks.values()}
            while not stopping.done() and not any(task.done() and task.exception() for task in tasks.values()):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            all_ready.cancel()
            stopping.cancel()
            await self._stop_all(tasks)
            await asyncio.gather(all_ready, stopping, return_exceptions=True)
        for task in tasks.values():
            error = task.exception()
            if error is not None:
                raise error

    async def _when_ready(self, ready: Callable[[], None]) -> None:
        await asyncio.gather(*(event.wait() for event in self._ready.values()))
        ready()

    async def _stop_all(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        """Each leaves when nobody who needs it is left, also where a step that was done long ago stands between."""
        needed_by = {unit.name: [other.name for other in self.units if unit.name in other.needs] for unit in self.units}
        left = {unit.name: asyncio.Event() for unit in self.units}

        async def leave(name: str) -> None:
            await asyncio.gather(*(left[other].wait() for other in needed_by[name]))
            self._leave[name].set()
            await asyncio.wait([tasks[name]])
            left[name].set()

        await asyncio.gather(*(leave(unit.name) for unit in self.units))

    async def _unit(self, unit: Job | Service) -> None:
        leave = self._leave[unit.name]
        try:
            if not await self._or_leave(unit.name, self._needs_are_ready(unit)):
                self._set(unit.name, UnitState.STOPPED)
            elif isinstance(unit, Job):
                await self._do(unit, leave)
            else:
                await self._keep(unit, leave)
        except Exception:
            self._set(unit.name, UnitState.FAILED)
            raise

    async def _needs_are_ready(self, unit: Job | Service) -> None:
        await asyncio.gather(*(self._ready[need].wait() for need in unit.needs))

    async def _do(self, job: Job, leave: asyncio.Event) -> None:
        self._set(job.name, UnitState.STARTING)
        began = time.monotonic()
        if job.call is not None:
            async with asyncio.timeout(PREPARE_LIMIT_S):
                said = await asyncio.to_thread(job.call)
            self._output.lines(job.name, [said.encode()])
        else:
            child = await self._start(job)
            code = await self._end_of(child, leave, job.timeout_s)
            await child.stop(signal.SIGTERM, 3.0)
            self._set(job.name, UnitState.STARTING, gone=True)
            if leave.is_set():
                self._set(job.name, UnitState.STOPPED)
                return
            if code != 0:
                what = f"did not end in {job.timeout_s:g} s" if code is None else f"ended with {_say(code)}"
                raise self._failed(f'step "{job.name}" {what}', job.name)
        self._set(job.name, UnitState.DONE)
        self._output.say(f"{job.name}: done in {time.monotonic() - began:.1f} s")
        self._ready[job.name].set()

    async def _keep(self, service: Service, leave: asyncio.Event) -> None:
        name, status = service.name, self.status[service.name]
        deadline = time.monotonic() + service.within_s
        while not leave.is_set():
            if service.prepare is not None:
                await self._prepare(service)
            began = time.monotonic()
            self._set(name, UnitState.STARTING)
            child = await self._start(service)
            try:
                code = await self._watch(service, child, leave, deadline)
            finally:
                if leave.is_set():
                    self._set(name, UnitState.STOPPING)
                await child.stop(service.stop_signal, service.grace_s)
            if leave.is_set():
                break
            up_for_s = time.monotonic() - began
            status.backoff, wait_s = status.backoff.after_end(up_for_s)
            ended = f"ended with {_say(code)}" if code is not None else f"was not ready in {service.within_s:g} s"
            first = not self._ready[name].is_set()
            if first and (code is None or status.backoff.in_a_row >= FIRST_TRIES or service.restart is Restart.NEVER):
                raise self._failed(f'process "{name}" {ended}', name)
            if service.restart is Restart.NEVER or (service.restart is Restart.ON_FAILURE and code == 0):
                self._output.say(f"{name}: {ended}, and is not to be restarted")
                self._set(name, UnitState.DONE if code == 0 else UnitState.FAILED, gone=True)
                await leave.wait()
                return
            self._set(name, UnitState.RESTARTING, gone=True)
            status.restarts += 1
            self._output.say(f"{name}: {ended} after {up_for_s:.1f} s, restarting {_when(wait_s)}")
            await self._or_leave(name, asyncio.sleep(wait_s))
            if not first:
                deadline = time.monotonic() + service.within_s
        self._set(name, UnitState.STOPPED, gone=True)

    async def _prepare(self, service: Service) -> None:
        assert service.prepare is not None
        async with asyncio.timeout(PREPARE_LIMIT_S):
            await asyncio.to_thread(service.prepare)

    async def _watch(self, service: Service, child: Child, leave: asyncio.Event, deadline: float) -> int | None:
        """Until the command ends (its exit status) or has to; None when it was not ready in time."""
        watching = asyncio.create_task(self._probe(service, child, deadline), name=f"probe-{service.name}")
        ended = asyncio.create_task(child.wait(), name=f"end-{service.name}")
        leaving = asyncio.create_task(leave.wait(), name=f"leave-{service.name}")
        try:
            await asyncio.wait([watching, ended, leaving], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            if watching.done():
                watching.result()
            return None
        finally:
            for task in (watching, ended, leaving):
                task.cancel()
            await asyncio.gather(watching, ended, leaving, return_exceptions=True)

    async def _probe(self, service: Service, child: Child, deadline: float) -> None:
        """Ends only when the service was not ready in time."""
        name, pause_s = service.name, 0.05
        while service.probe is not None and (reason := await service.probe.look()):
            self.status[name].health = reason
            if time.monotonic() > deadline:
                self._output.say(f"{name}: not ready in {service.within_s:g} s: {reason}")
                return
            await asyncio.sleep(pause_s)
            pause_s = min(0.5, pause_s * 1.5)
        if service.complete is not None and not self._ready[name].is_set():
            async with asyncio.timeout(PREPARE_LIMIT_S):
                await asyncio.to_thread(service.complete)
        again = " again" if self._ready[name].is_set() else ""
        self._set(name, UnitState.READY, health="ok" if service.probe else "")
        self._output.say(f"{name}: ready{again} (pid {child.pid}){f' {service.url}' if service.url else ''}")
        self._ready[name].set()
        while True:
            await asyncio.sleep(service.every_s)
            if service.probe is not None:
                self._note_health(name, await service.probe.look() or "ok")

    def _note_health(self, name: str, health: str) -> None:
        if self.status[name].health != health:
            self._output.say(f"{name}: health: {health}")
            self._set(name, self.status[name].state, health=health)

    async def _start(self, unit: Job | Service) -> Child:
        try:
            child = await Child.start(
                unit.command,
                env=unit.env,
                folder=unit.folder,
                death_signal=unit.stop_signal if isinstance(unit, Service) else signal.SIGTERM,
                take=lambda lines: self._output.lines(unit.name, lines),
            )
        except OSError as error:
            raise UnitFailed(f'"{unit.name}" cannot be started in {unit.folder}: {error.strerror}') from error
        status = self.status[unit.name]
        status.pid, status.pid_started = child.pid, child.started
        self._changed()
        return child

    async def _end_of(self, child: Child, leave: asyncio.Event, timeout_s: float) -> int | None:
        ended = asyncio.create_task(child.wait())
        leaving = asyncio.create_task(leave.wait())
        await asyncio.wait([ended, leaving], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        code = ended.result() if ended.done() else None
        ended.cancel()
        leaving.cancel()
        await asyncio.gather(ended, leaving, return_exceptions=True)
        return code

    async def _or_leave(self, name: str, waiting: Awaitable[None]) -> bool:
        """Wait for something, or until the unit has to leave; was it the first?"""
        task = asyncio.ensure_future(waiting)
        leaving = asyncio.create_task(self._leave[name].wait())
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        done = task.done()
        for other in (task, leaving):
            other.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)
        return done

    def _set(self, name: str, state: UnitState, *, gone: bool = False, health: str | None = None) -> None:
        status = self.status[name]
        if status.state is not state:
            status.since = time.time()
        status.state = state
        if gone:
            status.pid = status.pid_started = None
        if health is not None:
            status.health = health
        self._changed()

    def _failed(self, what: str, name: str) -> UnitFailed:
        lines = [f"    {line}" for line in self._output.last(name)] or ["    (it wrote nothing)"]
        return UnitFailed("\n".join([f"{what}; its last lines:", *lines]), next_command=f"strangler logs {name}")


def _say(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _when(wait_s: float) -> str:
    return f"in {wait_s:g} s" if wait_s else "now"
