"""One connection to an upstream: reads an answer with llhttp and hands it to the request that waits for it.

llhttp cannot be told that the request was HEAD: such an answer is complete at its head, and the parser is swapped.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

import httptools

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import AnswerFields, Fields, read_answer_fields

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.pool import EndpointPool

_NO_BODY = (204, 304)


class UpstreamConnection(asyncio.Protocol):
    """A connection of a pool. `out` collects what goes to the client, so that one read becomes one write.

    Fields that are the same as those of the last answer (files, caches, errors) are not read anew.
    """

    __slots__ = (
        "_full",
        "_paused",
        "_raw",
        "_read",
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
        "trailers",
        "transport",
        "until_eof",
    )

    def __init__(self, pool: EndpointPool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.closed = False
        self.idle_since = 0.0
        self.out: list[bytes] = []
        self._raw: Fields | None = None
        self._read: AnswerFields
        self.fields: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.final = self.complete = self.reusable = self.head_only = self.heard = self.until_eof = self._paused = (
            self._full
        ) = False
        self.parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.pool.endpoint} {'busy' if self.exchange else 'idle'}>"

    def begin(self, exchange: Exchange, head_only: bool) -> None:
        """Expect the answer to a request."""
        self.exchange = exchange
        self.head_only = head_only
        self.final = self.complete = self.heard = self.until_eof = False

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
        exchange.moved = self.heard = True
        malformed = False
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            malformed = True
        if self.exchange is not exchange:
            self.out.clear()
            return
        out = self.out
        if out:
            exchange.downstream.transport.write(b"".join(out) if len(out) > 1 else out[0])
            out.clear()
        if self.complete:
            self.exchange = None
            if malformed or not self.reusable or not exchange.body_complete or self._full:
                self.transport.abort()
            else:
                self.idle_since = monotonic()
                self.resume()
                self.pool.release(self)
            exchange.answer_ended()
        elif malformed:
            self.exchange = None
            self.transport.abort()
            exchange.upstream_lost(heard=True, malformed=True)

    def on_message_begin(self) -> None:
        self.fields = []

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
                self._read = read_answer_fields(fields)
            except MalformedFields:
                self._raw = None
                exchange.answer_malformed(self)
                return
            self._raw = fields
        exchange.answered(self, status, self._read, bodiless)
        if self.head_only and self.exchange is exchange:
            self.complete = True
            self.parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is None or self.complete:
            self.reusable = False
        elif exchange.answer_chunked:
            self.out += (b"%x\r\n" % len(body), body, b"\r\n")
        else:
            self.out.append(body)

    def on_message_complete(self) -> None:
        exchange = self.exchange
        if self.final and not self.complete and exchange is not None:
            self.complete = True
            exchange.end_body(self)
