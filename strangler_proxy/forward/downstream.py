"""One connection of a client: reads requests with llhttp, answers them in order, keeps to limits and deadlines.

Requests that are pipelined wait in `_queue` (no more than one read holds: reading stops while there are any). After an
answer that the client may not have read yet while it still sends, the connection lingers: it is closed for writing,
what comes in is thrown away for a short time, and the answer is not lost to a reset (RFC 9112 9.6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

import httptools

from strangler_proxy.forward import errors
from strangler_proxy.forward.errors import Problem, problem_answer
from strangler_proxy.forward.exchange import Exchange
from strangler_proxy.forward.metrics import PROBLEMS
from strangler_proxy.forward.peer import Peer

if TYPE_CHECKING:
    from strangler_proxy.forward.context import Context

_BODY: Final = 1
_QUEUED: Final = 2


class _Stopped(Exception):
    """Ends the parser's run: nothing more of this connection is read."""


class Downstream(asyncio.Protocol):
    """The protocol of a client's connection."""

    __slots__ = (
        "_advancing",
        "_broken",
        "_fields",
        "_fresh",
        "_head_bytes",
        "_in_head",
        "_linger_until",
        "_parser",
        "_paused",
        "_queue",
        "_read_bytes",
        "_reading",
        "_silent_bytes",
        "_since",
        "_target",
        "closing",
        "context",
        "exchange",
        "peer",
        "transport",
    )

    def __init__(self, context: Context) -> None:
        self.context = context
        self.exchange: Exchange | None = None
        self.closing = False
        self._advancing = False
        self._broken: Problem | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._fresh = True
        self._head_bytes = self._read_bytes = self._silent_bytes = 0
        self._in_head = False
        self._linger_until = 0.0
        self._paused = 0
        self._queue: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._since = 0.0
        self._target = b""
        self._parser = httptools.HttpRequestParser(self)

    def __repr__(self) -> str:
        return f"<Downstream {self.exchange or 'idle'} queued={len(self._queue)}>"

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = Peer(transport, self.context.options.trusted_proxies)
        self._since = monotonic()
        self.context.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.context.connections.discard(self)
        self._queue.clear()
        exchange = self.exchange
        if exchange is not None:
            exchange.client_left()

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
            self._resume(_BODY | _QUEUED)
        else:
            self.transport.close()

    @property
    def body_paused(self) -> bool:
        """Is the client kept from sending because the upstream does not take more?"""
        return bool(self._paused & _BODY)

    def pause_body(self) -> None:
        """Read no more for now."""
        self._pause(_BODY)

    def resume_body(self) -> None:
        """Read on."""
        if self._paused & _BODY:
            self._resume(_BODY)

    def _pause(self, why: int) -> None:
        if not self._paused and not self.closing:
            self.transport.pause_reading()
        self._paused |= why

    def _resume(self, why: int) -> None:
        if self._paused:
            self._paused &= ~why
            if not self._paused and not self.transport.is_closing():
                self.transport.resume_reading()

    # Reading.

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if self._in_head:
            self._head_bytes += len(data)
        self._read_bytes = len(data)
        before = self._reading.body_bytes if self._reading is not None else 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as stop:
            self._stopped(stop, data)
        exchange = self.exchange
        if exchange is not None and exchange.outgoing:
            exchange.flush()
        if self.closing:
            return
        if self._in_head:
            if self._head_bytes > self.context.options.max_header_bytes:
                self._malformed(errors.HEADERS_TOO_LARGE if self._fields else errors.TARGET_TOO_LONG)
            elif exchange is None and not self._fresh:
                self._fresh = True
                self._since = monotonic()
        elif exchange is not None and not exchange.body_complete:
            self._watch_silence(exchange, before)

    def _watch_silence(self, exchange: Exchange, before: int) -> None:
        """Chunk extensions and trailers bring no body: bound them like a head."""
        if exchange is not self._reading or exchange.body_bytes != before:
            self._silent_bytes = 0
            return
        self._silent_bytes += self._read_bytes
        if self._silent_bytes > self.context.options.max_header_bytes:
            exchange.refuse(errors.HEADERS_TOO_LARGE)

    def _stopped(self, stop: Exception, data: bytes) -> None:
        if isinstance(stop, httptools.HttpParserUpgrade):
            # The request was read in full and is forwarded without its Upgrade: what follows is HTTP again.
            self._parser = httptools.HttpRequestParser(self)
            rest = data[stop.args[0] :]
            if rest and not self.closing:
                try:
                    self._parser.feed_data(rest)
                except (httptools.HttpParserError, httptools.HttpParserUpgrade) as again:
                    self._stopped(again, rest)
        elif isinstance(stop, httptools.HttpParserCallbackError):
            if not isinstance(stop.__context__, _Stopped):
                raise stop
        elif not self.closing:
            self._malformed(errors.MALFORMED)

    def _malformed(self, problem: Problem) -> None:
        reading, exchange = self._reading, self.exchange
        if reading is not None and not reading.body_complete_read:
            if reading is exchange:
                exchange.refuse(problem)
            else:
                reading.problem = problem
        elif exchange is None:
            self._answer(problem)
        else:
            self._broken = problem
        if not self.closing:
            self._pause(_QUEUED)

    def _answer(self, problem: Problem) -> None:
        context = self.context
        context.metrics.count(PROBLEMS, code=problem.code)
        self.transport.write(
            problem_answer(
                problem,
                pseudonym=context.pseudonym,
                request_id=context.identities.request_id(b""),
                close=True,
                head_only=False,
                retry_after_s=context.options.retry_after_s,
            )
        )
        self.close(linger=True)

    def on_message_begin(self) -> None:
        if self.closing:
            raise _Stopped
        self._in_head = True
        self._head_bytes = self._read_bytes
        self._target = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._fields.append((name, value))
        elif self._reading is not None:
            reading = self._reading
            trailers = reading.trailers = reading.trailers or []
            trailers.append((name, value))
            if len(trailers) > self.context.options.max_header_count:
                reading.problem = errors.HEADERS_TOO_LARGE

    def on_headers_complete(self) -> None:
        self._in_head = self._fresh = False
        parser = self._parser
        keep_alive = parser.should_keep_alive()
        # Without a Connection field only HTTP/1.1 is kept alive; asking llhttp costs as much as ten calls.
        version = "1.1" if keep_alive and self.peer.sends_again(self._fields) else parser.get_http_version()
        reading = self._reading = Exchange(
            self.context,
            self,
            parser.get_method(),
            self._target,
            self._fields,
            version == "1.0",
            keep_alive,
        )
        options = self.context.options
        if len(self._fields) > options.max_header_count or self._head_bytes > options.max_header_bytes:
            reading.problem = self._too_large()
        if version not in ("1.1", "1.0"):
            reading.problem = errors.MALFORMED
        elif len(self._target) > options.max_target_bytes:
            reading.problem = errors.TARGET_TOO_LONG
        if self.exchange is None:
            self.exchange = reading
            reading.begin()
        else:
            self._queue.append(reading)
            self._pause(_QUEUED)

    def _too_large(self) -> Problem | None:
        options = self.context.options
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._fields)
        if len(self._fields) > options.max_header_count or size > options.max_header_bytes:
            return errors.HEADERS_TOO_LARGE
        return None

    def on_body(self, body: bytes) -> None:
        reading = self._reading
        if reading is not None:
            if reading is self.exchange:
                reading.feed(body)
            else:
                reading.early = reading.early or []
                reading.early.append(body)

    def on_message_complete(self) -> None:
        reading = self._reading
        if reading is not None:
            reading.body_complete_read = True
            if reading is self.exchange:
                if reading.problem is not None:
                    reading.refuse(reading.problem)
                reading.body_done()

    # In order.

    def exchange_done(self, exchange: Exchange, close: bool) -> None:
        """The answer is written. Go on with the next request, or end the connection."""
        self.exchange = None
        if self.closing:
            return
        if close:
            self.close(linger=not exchange.body_complete_read)
            return
        if not self._queue and self._broken is None:
            self._since = monotonic()
            self._fresh = self._in_head
            if self._paused:
                self._resume(_QUEUED | _BODY)
        elif not self._advancing:
            self._advance()

    def _advance(self) -> None:
        self._advancing = True
        while self.exchange is None and self._queue and not self.closing:
            exchange = self.exchange = self._queue.popleft()
            exchange.started = monotonic()
            exchange.begin()
            exchange.catch_up()
        self._advancing = False
        if self._queue or self.closing:
            return
        if self._broken is None:
            if self._paused & _QUEUED:
                self._resume(_QUEUED)
        elif self.exchange is None:
            self._answer(self._broken)

    def check(self, now: float) -> None:
        """Look at the deadlines; the sweep calls it a few times a second."""
        options = self.context.options
        if self.exchange is not None:
            self.exchange.check(now)
        elif self._linger_until:
            if now >= self._linger_until:
                self.transport.abort()
        elif self.closing:
            return
        elif self._fresh:
            if now - self._since >= options.header_timeout_s:
                if self._in_head:
                    self._answer(errors.TOO_SLOW)
                else:
                    self.close(linger=False)
        elif now - self._since >= options.keep_alive_s:
            self.close(linger=False)

    def leave(self, now: float, quiet_s: float) -> bool:
        """Close if it has been idle for some time (its client has seen that we leave by then); True if it was."""
        if self.exchange is None and not self._queue and not self._in_head and now - self._since >= quiet_s:
            self.close(linger=False)
            return True
        return False
