"""The writing half of a client's connection: its pace, and its ends.

An answer may be on its way to a client that still sends. Then the connection lingers: it is closed for writing, what
comes in is thrown away for a short time, and the answer is not lost to a reset (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strangler_proxy.forward.context import Context
    from strangler_proxy.forward.exchange import Exchange

BODY: Final = 1
QUEUED: Final = 2
"""Why reading is paused: the upstream is slower, or requests wait for their turn."""


class ClientTransport(asyncio.Protocol):
    """What `Downstream` stands on. `exchange` is the request that is being answered; others wait in `_queue`."""

    __slots__ = ("_linger_until", "_paused", "_queue", "closing", "context", "exchange", "transport")

    transport: asyncio.Transport

    def __init__(self, context: Context) -> None:
        self.context = context
        self.exchange: Exchange | None = None
        self.closing = False
        self._linger_until = 0.0
        self._paused = 0
        self._queue: deque[Exchange] = deque()

    def pause_writing(self) -> None:
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause()

    def resume_writing(self) -> None:
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.moved = True
            self.exchange.upstream.resume()

    def abort(self) -> None:
        """Break the connection, so that nobody takes what was sent for the whole."""
        self.closing = True
        self.transport.abort()

    def close(self, *, linger: bool) -> None:
        """End the connection after what was written; `linger` where the client may still be sending."""
        if self.closing:
            return
        self.closing = True
        self._queue.clear()
        if linger and self.transport.can_write_eof():
            self._linger_until = monotonic() + self.context.options.linger_s
            self.transport.write_eof()
            self._resume(BODY | QUEUED)
        else:
            self.transport.close()

    @property
    def body_paused(self) -> bool:
        """Is the client kept from sending because the upstream does not take more?"""
        return bool(self._paused & BODY)

    def pause_body(self) -> None:
        """Read no more for now."""
        self._pause(BODY)

    def resume_body(self) -> None:
        """Read on."""
        if self._paused & BODY:
            self._resume(BODY)

    def _pause(self, why: int) -> None:
        if not self._paused and not self.closing:
            self.transport.pause_reading()
        self._paused |= why

    def _resume(self, why: int) -> None:
        if self._paused:
            self._paused &= ~why
            if not self._paused and not self.transport.is_closing():
                self.transport.resume_reading()
