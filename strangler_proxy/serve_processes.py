"""Several proxy processes on one port (SO_REUSEPORT): the parent starts them, restarts dead ones, passes signals on.

The kernel spreads connections over them. Child K has its health listener on the admin port plus K. A child whose
parent is gone drains by itself. The parent forwards nothing and holds no state, so nothing is lost with it.
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

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.serve_plan import ServePlan
from strangler_proxy.settings import ServeSettings

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_STEADY_S: Final = 10.0
_BIND_TRIES: Final = 9
_BIND_PAUSE_S: Final = 0.25
_KILL_AFTER_S: Final = 10.0
_PREFIX: Final = "STRANGLER_"


class ProcessGroup:
    """The parent. `run` until SIGTERM or SIGINT."""

    def __init__(self, settings: ServeSettings, plan: ServePlan) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = asyncio.Event()
        self._children: dict[int, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        """Start all, keep all running, end all. Raises StranglerError where the port belongs to somebody else."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._pass_on)
        await self._check_port()
        log.info("processes.started", address=self._plan.address, count=self._settings.workers)
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._settings.workers):
                tasks.create_task(self._keep(number))
        log.info("processes.stopped")

    async def _keep(self, number: int) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            begun = time.monotonic()
            child = await self._spawn(number)
            self._children[number] = child
            if self._stop.is_set():
                child.send_signal(signal.SIGTERM)
            code = await self._ended(child)
            del self._children[number]
            if self._stop.is_set():
                return
            if time.monotonic() - begun > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.error("process.died", number=number, code=code, restart_in_s=pause_s)
            await self._sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "strangler_proxy.serve",
            "--child",
            str(number),
            "--parent",
            str(os.getpid()),
            env=child_environment(self._settings, number),
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _ended(self, child: asyncio.subprocess.Process) -> int:
        """Wait for its end; one that does not end after the signal to stop is killed."""
        ended = asyncio.ensure_future(child.wait())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not ended.done():
            settings = self._settings
            await asyncio.wait({ended}, timeout=settings.drain_notice_s + settings.drain_s + _KILL_AFTER_S)
            if not ended.done():
                log.error("process.killed", pid=child.pid)
                child.kill()
        return await ended

    def _pass_on(self) -> None:
        """The first signal lets children drain, the second ends them at once: each gets both."""
        self._stop.set()
        for child in self._children.values():
            if child.returncode is None:
                child.send_signal(signal.SIGTERM)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _check_port(self) -> None:
        """SO_REUSEPORT would share the port with a stranger of the same user without a word: look first."""
        host, port = self._plan.listen
        for attempt in range(_BIND_TRIES):
            try:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with socket.socket(family) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
                return
            except OSError as error:
                if attempt == _BIND_TRIES - 1:
                    said = os.strerror(error.errno or 0)
                    raise StranglerError(f"STRANGLER_LISTEN: cannot listen on {host}:{port}: {said}") from error
            await self._sleep(_BIND_PAUSE_S)


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
