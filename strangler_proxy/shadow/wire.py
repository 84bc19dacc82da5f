"""One end of the socket pair between a proxy process and its judge: frames in, frames out, nothing unbounded unseen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from strangler_proxy.shadow.frames import BrokenFrame, FrameReader

FLUSH_S: Final = 0.005
CHUNK_BYTES: Final = 256 * 1024


class Wire(asyncio.Protocol):
    """Gives each message and its size to `heard`. What is sent waits here while the other end does not read.

    `bytes` and `pairs` are what waits; whoever sends looks at them before. `closed` is done when the other end is gone.
    """

    def __init__(self, heard: Callable[[tuple[Any, ...], int], None], *, high_bytes: int = CHUNK_BYTES) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(heard)
        self._high = high_bytes
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._paused = False
        self._flushing = False
        self.bytes = 0
        self.pairs = 0
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def __repr__(self) -> str:
        return f"<Wire bytes={self.bytes} pairs={self.pairs}{' paused' if self._paused else ''}>"

    @property
    def is_connected(self) -> bool:
        """Was it ever connected? Then closing it closes its socket."""
        return self._transport is not None

    def send(self, data: bytes, pairs: int = 0) -> None:
        """Have a frame sent within some milliseconds, together with others. Nothing happens once it is closed."""
        self._waiting.append((data, pairs))
        self.bytes += len(data)
        self.pairs += pairs
        if not self._flushing:
            self._flushing = True
            self._loop.call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Hand on what waits, as far as the other end reads."""
        self._flushing = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        while self._waiting and not self._paused:
            pieces, size = [], 0
            while self._waiting and size < CHUNK_BYTES:
                data, pairs = self._waiting.popleft()
                pieces.append(data)
                size += len(data)
                self.pairs -= pairs
            self.bytes -= size
            transport.write(b"".join(pieces))

    def pause_reading(self) -> None:
        """Let the other end wait."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close; what waits is not sent any more."""
        if self._transport is not None:
            self._transport.close()
        if not self.closed.done():
            self.closed.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self._transport.set_write_buffer_limits(high=self._high)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except BrokenFrame:
            self.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
