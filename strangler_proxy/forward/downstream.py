"""One connection of a client: reads requests with llhttp, answers them in order, keeps to limits and deadlines.

Requests that are pipelined wait in `_queue` (no more than one read holds: reading stops while there are any).
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

import httptools

from strangler_proxy.forward import errors
from strangler_proxy.forward.client_transport import BODY, QUEUED, ClientTransport
from strangler_proxy.forward.errors import Problem, problem_answer
from strangler_proxy.forward.exchange import Exchange
from strangler_proxy.forward.guard import CONTINUE
from strangler_proxy.forward.metrics import PROBLEMS
from strangler_proxy.forward.peer import Peer
from strangler_proxy.forward.phase import ANSWERING
from strangler_proxy.forward.repeated import END
from strangler_proxy.forward.routing import SAFE
from strangler_proxy.forward.tunnel import Withheld
from strangler_proxy.forward.upgrade import BodyOfUpgrade, is_framed

if TYPE_CHECKING:
    from strangler_proxy.forward.context import Context


class _Stopped(Exception):
    """Ends the parser's run: nothing more of this connection is read."""


class Downstream(ClientTransport):
    """The protocol of a client's connection."""

    __slots__ = (
        "_advancing",
        "_after",
        "_fields",
        "_fresh",
        "_half_closed",
        "_head_bytes",
        "_head_span",
        "_in_head",
        "_parser",
        "_reading",
        "_silent_bytes",
        "_since",
        "_target",
        "last_read",
        "peer",
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._advancing = False
        self._after: Problem | Withheld | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._fresh = True
        self._half_closed = False
        self._head_bytes = self._head_span = self._silent_bytes = 0
        self._in_head = False
        self.last_read = b""
        self._reading: Exchange | None = None
        self._since = 0.0
        self._target = b""
        self._parser: httptools.HttpRequestParser = httptools.HttpRequestParser(self)

    def __repr__(self) -> str:
        return f"<Downstream {self.exchange or 'idle'} queued={len(self._queue)}>"

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = Peer(transport, self.context.options.trusted_proxies)
        self._since = monotonic()
        connections = self.context.connections
        connections.add(self)
        if len(connections) > self.context.options.connection_limit:
            self._answer(errors.TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.context.connections.discard(self)
        self._queue.clear()
        exchange = self.exchange
        if exchange is not None:
            exchange.client_left()

    def eof_received(self) -> bool:
        """The client sends no more. One that only closed its sending side still reads: it gets the answer it waits for.

        From here both look the same; an interim answer tells: who is gone refuses it, and `check` finds that out.
        TLS has no half-closed connections.
        """
        last = self._queue[-1] if self._queue else self.exchange
        if self.closing or last is None or not last.body_complete_read or not self.peer.may_half_close():
            return False
        self._half_closed = True
        last.keep_alive = False
        if self.exchange is not None and self.exchange.phase is not ANSWERING and not self.exchange.version_10:
            self.transport.write(CONTINUE)
        return True

    def hand_over(self) -> bytes:
        """This connection becomes an end of a tunnel; what the client sent already for it."""
        self.closing = True
        self.context.connections.discard(self)
        if self._paused:
            self._paused = 0
            self.transport.resume_reading()
        return bytes(self._after.data) if isinstance(self._after, Withheld) else b""

    # Reading.

    def data_received(self, data: bytes) -> None:
        if self.closing or (self.exchange is None and self._repeats(data)):
            return
        if self._in_head:
            self._head_bytes += len(data)
        self.last_read = data
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
        if self.peer.repeated:
            self.peer.repeated = False
            if self._reading is not None and not self._queue:
                self.context.repeated.learn_exchange(data, self._reading)
        if self._in_head:
            if self._head_bytes > self.context.options.max_header_bytes:
                self._malformed(errors.HEADERS_TOO_LARGE if self._fields else errors.TARGET_TOO_LONG)
            elif exchange is None and not self._fresh:
                self._fresh = True
                self._since = monotonic()
        elif exchange is not None and not exchange.body_complete:
            self._watch_silence(exchange, before)

    def _repeats(self, data: bytes) -> bool:
        """Is this one whole request whose head came before? Then it has begun when this returns."""
        reading = self._reading
        if self._in_head or self._after is not None or (reading is not None and not reading.body_complete_read):
            return False
        known = self.context.repeated
        start = data.find(b"\r\n")
        end = start + self._head_span  # a head as long as the last one ends where that did: no need to search
        if not data.startswith(END, end):
            end = data.find(END)
            self._head_span = end - start
        head = known.requests.get(data[start:end])
        if head is None or len(data) - end - 4 != head.body_bytes:
            return False
        line = known.lines.get(data[:start]) or known.line(data[:start])
        if line is None:
            return False
        method, target, safe = line
        self._fresh = False
        self.peer.recall(head.raw, head.fields)
        reading = Exchange(self.context, self, method, target, head.raw, False, True, safe)
        self._reading = self.exchange = reading
        if head.body_bytes:
            reading.begin()
            self.on_body(data[end + 4 :])
            self.on_message_complete()
        else:
            reading.body_complete_read = True
            reading.begin()
        if self.exchange is reading and reading.outgoing:
            reading.flush()
        return True

    def _watch_silence(self, exchange: Exchange, before: int) -> None:
        """Chunk extensions and trailers bring no body: bound them like a head."""
        if exchange is not self._reading or exchange.body_bytes != before:
            self._silent_bytes = 0
            return
        self._silent_bytes += len(self.last_read)
        if self._silent_bytes > self.context.options.max_header_bytes:
            exchange.refuse(errors.HEADERS_TOO_LARGE)

    def _stopped(self, stop: Exception, data: bytes) -> None:
        reading = self._reading
        if isinstance(stop, httptools.HttpParserUpgrade) and reading is not None and not reading.body_complete_read:
            reading.keep_alive = False
            body = BodyOfUpgrade(self, reading.raw_fields)
            self._parser = cast(httptools.HttpRequestParser, body)
            try:
                body.feed_data(data[stop.args[0] :])
            except httptools.HttpParserError as again:
                self._stopped(again, b"")
        elif isinstance(stop, httptools.HttpParserUpgrade):
            # The request was read in full. What follows are frames or HTTP again: its answer will say.
            withheld = self._after = Withheld(self)
            self._parser = cast(httptools.HttpRequestParser, withheld)
            withheld.feed_data(data[stop.args[0] :])
            if self.exchange is None:
                self.context.loop.call_soon(self._read_on, withheld)
        elif isinstance(stop, httptools.HttpParserCallbackError):
            if not isinstance(stop.__context__, _Stopped):
                raise stop
        elif not self.closing:
            self._malformed(errors.of_parser(stop, data))

    def _read_on(self, withheld: Withheld) -> None:
        """The connection stays with HTTP: read what was withheld."""
        if self.closing or self._after is not withheld:
            return
        self._after = None
        self._parser = httptools.HttpRequestParser(self)
        if self._paused:
            self._resume(BODY | QUEUED)
        if withheld.data:
            self.data_received(bytes(withheld.data))

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
            self._after = problem
        if not self.closing:
            self._pause(QUEUED)

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
        self._head_bytes = len(self.last_read)
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
        method = parser.get_method()
        reading = self._reading = Exchange(
            self.context,
            self,
            method,
            self._target,
            self._fields,
            version == "1.0",
            keep_alive,
            method in SAFE,
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
            self._pause(QUEUED)

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
            if (reading is not self.exchange or (reading.has_body and not reading.body_bytes)) and (
                self._parser.should_upgrade() and is_framed(reading.raw_fields)
            ):
                return
            reading.body_complete_read = True
            if reading is self.exchange:
                if reading.problem is not None:
                    reading.refuse(reading.problem)
                reading.body_done()

    def exchange_done(self, exchange: Exchange, close: bool) -> None:
        """The answer is written. Go on with the next request, or end the connection."""
        self.exchange = None
        if self.closing:
            return
        if close:
            self.close(linger=not exchange.body_complete_read)
            return
        if not self._queue and self._after is None:
            self._since = monotonic()
            self._fresh = self._in_head
            if self._paused:
                self._resume(QUEUED | BODY)
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
        if self._after is None:
            if self._paused & QUEUED:
                self._resume(QUEUED)
        elif self.exchange is None:
            if isinstance(self._after, Withheld):
                self._fresh, self._since = True, monotonic()
                self.context.loop.call_soon(self._read_on, self._after)
            else:
                self._answer(self._after)

    def check(self, now: float) -> None:
        """Look at the deadlines; the sweep calls it a few times a second."""
        options = self.context.options
        if self.exchange is not None:
            if self._half_closed and self.peer.is_gone():
                self.transport.abort()
            else:
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
