"""TCP lines to servers with faults: silence, resets, delay, one deaf direction, an end after COMMIT was sent.

All lines of a site are one process, so that nothing else delays them: `python -m tests.prove.fault_line PORT...` says
the port of each line, then takes `NUMBER FAULT` a line and answers when it is so.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import subprocess
import sys
from collections.abc import Mapping

import uvloop

from tests.servers import ROOT

_CHUNK = 65_536


class Fault(enum.Enum):
    """What the line does with bytes."""

    NONE = "none"
    BLACKHOLE = "blackhole"  # nothing arrives, nobody is told
    RESET = "reset"  # open connections are reset, new ones refused
    DELAY = "delay"  # every chunk comes 150 ms later
    DEAF = "deaf"  # requests arrive, answers do not
    LOST_COMMIT = "lost_commit"  # COMMIT arrives, its answer does not: the connection is reset


class FaultLine:
    """Listens on a port of its own and leads to another. `put` a fault at any time."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.fault = Fault.NONE
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> int:
        """The port that it listens on."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = server
        port: int = server.sockets[0].getsockname()[1]
        return port

    def put(self, fault: Fault) -> None:
        """From now on; a reset ends what is open."""
        self.fault = fault
        if fault in (Fault.RESET, Fault.NONE):  # after silence, TCP would wait for its timers: begin anew
            for writer in self._open:
                writer.transport.abort()

    async def _accept(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        if self.fault is Fault.RESET:
            near_out.transport.abort()
            return
        try:
            far_in, far_out = await asyncio.open_connection(*self._target)
        except OSError:
            near_out.transport.abort()
            return
        ends = {near_out, far_out}
        self._open |= ends
        pumps = {
            asyncio.ensure_future(self._pump(near_in, far_out, ends, outward=True)),
            asyncio.ensure_future(self._pump(far_in, near_out, ends, outward=False)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for writer in ends:
                writer.transport.abort()
            self._open -= ends

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        ends: set[asyncio.StreamWriter],
        *,
        outward: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                fault = self.fault
                if fault is Fault.BLACKHOLE or (fault is Fault.DEAF and not outward):
                    continue
                if fault is Fault.DELAY:
                    await asyncio.sleep(0.15)
                sink.write(data)
                await sink.drain()
                if fault is Fault.LOST_COMMIT and outward and b"COMMIT" in data:
                    await asyncio.sleep(0.05)  # it arrives, and is done
                    for writer in ends:
                        writer.transport.abort()
                    return


class Lines:
    """The process of all lines of a site. `names` lead to ports on this machine."""

    def __init__(self, names: Mapping[tuple[str, str], int]) -> None:
        self.faults = dict.fromkeys(names, Fault.NONE)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.fault_line", *map(str, names.values())],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._numbers = {name: number for number, name in enumerate(names)}
        self.ports = dict(zip(names, map(int, self._answer().split()), strict=True))

    def put(self, name: tuple[str, str], fault: Fault) -> None:
        """When this returns it is so."""
        if self.faults[name] is not fault:
            self.faults[name] = fault
            assert self._process.stdin is not None
            self._process.stdin.write(f"{self._numbers[name]} {fault.value}\n")
            self._process.stdin.flush()
            self._answer()

    def close(self) -> None:
        """End everything."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


async def _serve(ports: list[int]) -> None:
    lines = [FaultLine("127.0.0.1", port) for port in ports]
    print(*[await line.listen() for line in lines], flush=True)
    loop = asyncio.get_running_loop()
    while word := await loop.run_in_executor(None, sys.stdin.readline):
        number, fault = word.split()
        lines[int(number)].put(Fault(fault))
        print("ok", flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(list(map(int, sys.argv[1:]))))
