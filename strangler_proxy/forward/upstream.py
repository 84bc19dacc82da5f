"""One connection to an upstream: reads an answer with llhttp and hands it to the request that waits for it.

llhttp cannot be told that the request was HEAD: such an answer is complete at its head, and the parser is swapped.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

import httptools

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import AnswerFields, Fields, read_answer_fields, without_length
from strangler_proxy.forward.repeated import END
from strangler_proxy.forward.tunnel import open_tunnel

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.mirror_copy import Copy
    from strangler_proxy.forward.pool import EndpointPool

_NO_BODY = (204, 304)
_LARGE = 16_384
"""From here on a body is not copied to go with its head."""
_HTTP = b"HTTP/"
"""llhttp reads Icecast and RTSP too."""


class UpstreamConnection(asyncio.Protocol):
    """A connection of a pool. `out` collects what goes to the client, so that one read becomes one write.

    Fields that are the same as those of the last answer (files, caches, errors) are not read anew.
    """

    __slots__ = (
        "_again",
        "_full",
        "_head_end",
        "_left",
        "_paused",
        "_raw",
        "_read",
        "_silent_bytes",
        "_status",
        "closed",
        "complete",
        "exchange",
        "fields",
        "final",
        "head_only",
        "heard",
        "idle_since",
        "out",
        "parser",
        "pool",
        "reusable",
        "tap",
        "trailers",
        "transport",
        "until_eof",
    )

    def __init__(self, pool: EndpointPool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.tap: Copy | None = None
        self.closed = False
        self.idle_since = 0.0
        self.out: list[bytes] = []
        self._raw: Fields | None = None
        self._read: AnswerFields
        self._silent_bytes = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.final = self.complete = self.reusable = self.head_only = self.heard = self.until_eof = self._paused = (
            self._full
        ) = self._again = False
        self._left = self._status = self._head_end = 0
        self.parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.pool.endpoint} {'busy' if self.exchange else 'idle'}>"

    def begin(self, exchange: Exchange, head_only: bool) -> None:
        """Expect the answer to a request."""
        self.exchange = exchange
        self.tap = None
        self.head_only = head_only
        self.final = self.complete = self.heard = self.until_eof = False
        self._left = self._silent_bytes = 0

    def detach(self) -> None:
        """The request does not want its answer any more: the connection cannot be used again."""
        self.exchange = None
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.pool.lost(self)
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            if self.until_eof and exc is None:
                exchange.answer_ended(by_eof=True)
            else:
                exchange.upstream_lost(heard=self.heard, malformed=False)

    def pause_writing(self) -> None:
        self._full = True
        if self.exchange is not None:
            self.exchange.pause_body()

    def resume_writing(self) -> None:
        self._full = False
        if self.exchange is not None:
            self.exchange.resume_body()

    @property
    def is_paused(self) -> bool:
        """Is nothing read because the client is slower?"""
        return self._paused

    def pause(self) -> None:
        """Read no more: the client is slower."""
        if not self._paused and not self.closed:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self.closed:
            self._paused = False
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.transport.abort()
            return
        first = not self.heard
        if first and self._repeats(exchange, data):
            return
        exchange.moved = self.heard = True
        malformed = False
        try:
            if self._left:
                self._count(data)
            else:
                if first and not _HTTP.startswith(data[:5]):
                    raise httptools.HttpParserError("not HTTP")
                self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self.exchange is exchange and exchange.switched:
                open_tunnel(exchange, self, data[stop.args[0] :])
                return
            malformed = True
        except httptools.HttpParserError:
            malformed = True
        if self.exchange is not exchange:
            self.out.clear()
            return
        if self._again:
            self._again = False
            if first and self.reusable and not malformed:
                exchange.context.repeated.learn_answer(data, self._status, self.fields, self._read)
        out = self.out
        if out:
            exchange.downstream.transport.write(b"".join(out) if len(out) > 1 else out[0])
            out.clear()
        elif not self.complete:
            malformed = self._is_endless(len(data)) or malformed
        if self.complete:
            self._done(exchange, malformed=malformed)
        elif malformed:
            self.exchange = None
            self.transport.abort()
            exchange.upstream_lost(heard=True, malformed=True)

    def _done(self, exchange: Exchange, *, malformed: bool) -> None:
        """The answer is written: the connection goes back to its pool, or is closed where it cannot be used again."""
        self.exchange = None
        if malformed or not self.reusable or not exchange.body_complete or self._full:
            self.transport.abort()
        else:
            self.idle_since = monotonic()
            if self._paused:
                self.resume()
            self.pool.release(self)
        exchange.answer_ended()

    def _is_endless(self, size: int) -> bool:
        """Heads, trailers and chunk extensions bring no body: together they have a bound."""
        self._silent_bytes += size
        return self._silent_bytes > self.pool.options.max_header_bytes

    def _repeats(self, exchange: Exchange, data: bytes) -> bool:
        """Does this answer begin with a head that came before? Then it is passed on, its body counted, not parsed."""
        end = self._head_end  # where the last head ended
        if not data.startswith(END, end):
            end = self._head_end = data.find(END)
        head = exchange.context.repeated.answers.get(data[:end])
        if head is None:
            return False
        size = len(data) - end - 4
        left = (0 if self.head_only else head.body_bytes) - size
        if left < 0:
            return False
        exchange.moved = self.heard = self.final = self.reusable = True
        self._left = left
        exchange.answered(self, head.status, head.fields, self.head_only)
        out = self.out
        if self.exchange is exchange:
            transport = exchange.downstream.transport
            if self.tap is not None:
                self.tap.tap(data, end + 4)
            if size < _LARGE:
                out.append(data[end + 4 :])
                transport.write(b"".join(out))
            else:
                transport.writelines((*out, memoryview(data)[end + 4 :]))
            if not left:
                self.complete = True
                self._done(exchange, malformed=False)
        out.clear()
        return True

    def _count(self, data: bytes) -> None:
        """More of a body whose length is known; what comes after it was not asked for."""
        if len(data) > self._left:
            self.reusable = False
            data = data[: self._left]
        self._left -= len(data)
        if self.tap is not None:
            self.tap.tap(data)
        self.out.append(data)
        if not self._left:
            self.complete = True
            assert self.exchange is not None
            self.exchange.end_body(self)

    def on_message_begin(self) -> None:
        self.fields = []
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        (self.trailers if self.final else self.fields).append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is None or self.complete:
            self.reusable = False
            return
        parser = self.parser
        status = parser.get_status_code()
        if status < 200:
            exchange.informed(self, status, self.fields)
            return
        self.final = True
        bodiless = self.head_only or status in _NO_BODY
        self.reusable = parser.should_keep_alive() or (bodiless and parser.get_http_version() == "1.1")
        fields = self.fields
        if fields != self._raw:
            try:
                self._read = self._read_fields(fields)
            except MalformedFields:
                self._raw = None
                exchange.answer_malformed(self)
                return
            self._raw = fields
        else:
            self._again, self._status = True, status
        if bodiless and status == 204 and self._read.content_length >= 0:
            self._raw = None
            self._read.block = without_length(self._read.block)
        exchange.answered(self, status, self._read, bodiless)
        if self.head_only and self.exchange is exchange:
            self.complete = True
            self.parser = httptools.HttpResponseParser(self)

    def _read_fields(self, fields: Fields) -> AnswerFields:
        if len(fields) > self.pool.options.max_header_count:
            raise MalformedFields("too many fields")
        if self.parser.get_http_version() not in ("1.1", "1.0"):
            raise MalformedFields("another version of HTTP")
        return read_answer_fields(fields)

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is None or self.complete:
            self.reusable = False
            return
        if self.tap is not None:
            self.tap.tap(body)
        if exchange.answer_chunked:
            self.out += (b"%x\r\n" % len(body), body, b"\r\n")
        else:
            self.out.append(body)

    def on_message_complete(self) -> None:
        exchange = self.exchange
        if self.final and not self.complete and exchange is not None:
            self.complete = True
            exchange.end_body(self)
