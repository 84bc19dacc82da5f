"""Several proxy processes on one port: the parent starts them, restarts dead ones, replaces them, passes signals on.

Child K has its health listener on the admin port plus K. A child whose parent is gone drains by itself. The parent
forwards nothing; it keeps the listening sockets, so that no connection is lost with a child. On SIGUSR1 it replaces
the children one after the other: the new one accepts before the old one stops to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from typing import Final

import structlog
from pydantic import SecretStr

from strangler_proxy.serve_listeners import one_listener, open_listeners
from strangler_proxy.serve_plan import ServePlan
from strangler_proxy.serve_shadow import LEAVING_S
from strangler_proxy.settings import ServeSettings

log = structlog.get_logger(__name__)

Child = asyncio.subprocess.Process

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_STEADY_S: Final = 10.0
_READY_WITHIN_S: Final = 30.0
_KILL_AFTER_S: Final = 10.0
_PREFIX: Final = "STRANGLER_"


class ProcessGroup:
    """The parent. `run` until SIGTERM or SIGINT."""

    def __init__(self, settings: ServeSettings, plan: ServePlan) -> None:
        self._settings = settings
        self._plan = plan
        self._kill_after_s = _KILL_AFTER_S + (0.0 if plan.mirror is None else LEAVING_S)
        self._stop = asyncio.Event()
        self._listeners: list[socket.socket] = []
        self._children: dict[int, Child] = {}
        self._successors: dict[int, Child] = {}
        self._replacing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Start all, keep all running, end all. Raises StranglerError where the port belongs to somebody else."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._pass_on)
        if self._plan.certificate is not None:
            loop.add_signal_handler(signal.SIGHUP, self._pass, signal.SIGHUP)
        loop.add_signal_handler(signal.SIGUSR1, self._begin_replacing)
        self._listeners = await open_listeners(*self._plan.listen, self._settings.workers)
        log.info("processes.started", address=self._plan.address, count=self._settings.workers)
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._settings.workers):
                    tasks.create_task(self._keep(number))
        finally:
            self._close_listeners()
            if self._replacing is not None:
                self._replacing.cancel()
                await asyncio.gather(self._replacing, return_exceptions=True)
        log.info("processes.stopped")

    async def _keep(self, number: int) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            begun = time.monotonic()
            child: Child | None = await self._spawn(number)
            while child is not None:
                self._children[number] = child
                code = await self._ended(child)
                child = self._successors.pop(number, None)
            del self._children[number]
            if self._stop.is_set():
                return
            if time.monotonic() - begun > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.error("process.died", number=number, code=code, restart_in_s=pause_s)
            if pause_s > _FIRST_PAUSE_S:  # it dies again and again: leave its connections to the others meanwhile
                self._listeners[number].close()
            await self._sleep(pause_s)
            if self._listeners[number].fileno() < 0 and not self._stop.is_set():
                self._listeners[number] = one_listener(*self._plan.listen)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _spawn(self, number: int, *, tells: int | None = None) -> Child:
        """Start a child; it writes to the descriptor `tells` once it accepts connections."""
        listener = self._listeners[number].fileno()
        told = () if tells is None else ("--tell", str(tells))
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "strangler_proxy.serve",
            "--child",
            str(number),
            "--parent",
            str(os.getpid()),
            "--listener",
            str(listener),
            *told,
            env=child_environment(self._settings, number),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(listener,) if tells is None else (listener, tells),
            process_group=0,  # Ctrl-C on a terminal reaches the parent alone, so that no child gets it twice
        )
        if self._stop.is_set():
            _signal(child, signal.SIGTERM)
        return child

    # One after the other.

    def _begin_replacing(self) -> None:
        if (self._replacing is None or self._replacing.done()) and not self._stop.is_set():
            self._replacing = asyncio.create_task(self._replace_all())

    async def _replace_all(self) -> None:
        for number in range(self._settings.workers):
            old = self._children.get(number)
            if old is not None and not await self._replace(number, old):
                return

    async def _replace(self, number: int, old: Child) -> bool:
        """Start a successor, and let the old one drain once it accepts; False, and it stays, if that never happens."""
        _signal(old, signal.SIGUSR1)
        hears, tells = os.pipe()
        try:
            new = await self._spawn(number, tells=tells)
        finally:
            os.close(tells)
        ready = await _hears(hears)
        if not ready or self._stop.is_set():
            _signal(new, signal.SIGKILL)
            await new.wait()
            log.error("process.not_replaced", number=number)
            return False
        self._successors[number] = new
        _signal(old, signal.SIGTERM)
        if await self._within(old, self._settings.drain_s + self._kill_after_s):
            log.info("process.replaced", number=number, pid=new.pid)
        return not self._stop.is_set()

    # Ends.

    async def _ended(self, child: Child) -> int:
        """Wait for its end; one that does not end after the signal to stop is killed."""
        ended = asyncio.ensure_future(child.wait())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not ended.done():
            await self._within(child, self._settings.drain_notice_s + self._settings.drain_s + self._kill_after_s)
        return await ended

    async def _within(self, child: Child, seconds: float) -> bool:
        """Did it end in time? It is killed if not."""
        try:
            await asyncio.wait_for(child.wait(), seconds)
        except TimeoutError:
            log.error("process.killed", pid=child.pid)
            _signal(child, signal.SIGKILL)
            return False
        return True

    def _pass_on(self) -> None:
        """The first signal lets children drain, the second ends them at once: each gets both.

        Only children accept from now on: what nobody would take has to be refused, not to wait.
        """
        self._stop.set()
        self._close_listeners()
        self._pass(signal.SIGTERM)

    def _pass(self, name: signal.Signals) -> None:
        for child in (*self._children.values(), *self._successors.values()):
            _signal(child, name)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return


def _signal(child: Child, name: signal.Signals) -> None:
    if child.returncode is None:
        child.send_signal(name)


async def _hears(descriptor: int) -> bool:
    """Does a child say in time that it accepts? Its end closes the pipe, which is an answer too."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        return bool(await asyncio.wait_for(reader.read(1), _READY_WITHIN_S))
    except TimeoutError:
        return False
    finally:
        transport.close()


def child_environment(settings: ServeSettings, number: int) -> dict[str, str]:
    """The parent's environment with its settings in it, so that options of its command reach the child."""
    environment = dict(os.environ)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        key = f"{_PREFIX}{name.upper()}"
        if value is None:
            environment.pop(key, None)
        else:
            environment[key] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if settings.proxy_id:
        environment[f"{_PREFIX}PROXY_ID"] = f"{settings.proxy_id}-{number}"
    return environment
