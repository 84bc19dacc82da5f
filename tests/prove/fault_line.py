"""A TCP line to a server with faults: silence, resets, delay, one deaf direction, an end after COMMIT was sent."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections.abc import Coroutine
from typing import Any

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
    """Listens on a port of its own and leads to another; a thread with an event loop. `put` a fault at any time."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.fault = Fault.NONE
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def put(self, fault: Fault) -> None:
        """From now on; a reset ends what is open."""
        self.fault = fault
        if fault in (Fault.RESET, Fault.NONE):  # after silence, TCP would wait for its timers: begin anew
            self._loop.call_soon_threadsafe(self._abort_all)

    def close(self) -> None:
        """End everything."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._abort_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _abort_all(self) -> None:
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
        try:
            pumps = {
                asyncio.ensure_future(self._pump(near_in, far_out, ends, outward=True)),
                asyncio.ensure_future(self._pump(far_in, near_out, ends, outward=False)),
            }
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
        except asyncio.CancelledError:
            return  # the line is being closed
        finally:
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
