"""One child: its process group, what it writes, and how it is ended with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

LAUNCH = Path(__file__).with_name("launch.py")
LINE_BYTES = 65_536
READ_BYTES = 65_536
ORPHANS_GRACE_S = 1.0
READ_REST_S = 1.0


class Child:
    """A command in a session of its own, so that a Ctrl-C meant for us does not reach it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stream: asyncio.StreamReader,
        transport: asyncio.ReadTransport,
        take: Callable[[list[bytes]], None],
    ) -> None:
        self._process = process
        self._stream = stream
        self._transport = transport
        self.pid = process.pid
        self.started = _created(process.pid)
        self._reading = asyncio.create_task(self._read(take), name=f"read-{process.pid}")

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        death_signal: signal.Signals,
        take: Callable[[list[bytes]], None],
    ) -> Child:
        """Start it; `take` gets its whole lines (both streams). Raises OSError where the folder does not exist."""
        # A pipe of our own: with asyncio's, wait() waits for everybody who has inherited it (before Python 3.12.4).
        reading, writing = os.pipe()
        stream = asyncio.StreamReader(limit=READ_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb")
        )
        try:
            process = await cls._spawn(command, env=env, folder=folder, death_signal=death_signal, output=writing)
        except BaseException:
            transport.close()
            raise
        finally:
            os.close(writing)
        return cls(process, stream, transport, take)

    @staticmethod
    async def _spawn(
        command: Sequence[str], *, env: Mapping[str, str], folder: Path, death_signal: signal.Signals, output: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(LAUNCH), str(int(death_signal)), str(os.getpid()), *command),
            env=dict(env),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    async def wait(self) -> int:
        """Exit status of the command itself; negative is a signal."""
        return await self._process.wait()

    async def stop(self, stop_signal: signal.Signals, grace_s: float) -> None:
        """Ask it to end, then end what is left of its group. Returns when nothing is left."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(stop_signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        if self._process.returncode is None:
            self._signal_group(signal.SIGKILL)
            await self._process.wait()
        await self.clear_group()

    async def clear_group(self, grace_s: float = ORPHANS_GRACE_S) -> None:
        """After the end of the command: end what it left behind, and read what it still wrote."""
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        pause_s = 0.005
        while self._group_exists():
            if time.monotonic() > deadline:
                self._signal_group(signal.SIGKILL)
            if time.monotonic() > deadline + 5.0:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(0.1, pause_s * 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_REST_S):
                await asyncio.shield(self._reading)
        if not self._reading.done():
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._transport.close()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _group_exists(self) -> bool:
        # Orphans of the group become our children (see supervisor.adopt_orphans): reap them, or they stay as zombies.
        try:
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    async def _read(self, take: Callable[[list[bytes]], None]) -> None:
        rest = b""
        while data := await self._stream.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE_BYTES:
                lines, rest = [*lines, rest], b""
            if lines:
                take([line.rstrip(b"\r")[:LINE_BYTES] for line in lines])
        if rest:
            take([rest])


def _created(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
