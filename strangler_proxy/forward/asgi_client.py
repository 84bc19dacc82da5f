"""The client's side of a request that an ASGI server read: what `Downstream` is to the engine's own connections.

The exchange, the pool and the upstream's connection are the engine's. This turns what they write into ASGI messages,
and holds them back where the server is slower.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import AnswerFields, Fields, RequestFields
from strangler_proxy.forward.answer import answer_head, status_line, visitor_lines
from strangler_proxy.forward.context import Context
from strangler_proxy.forward.exchange import Exchange
from strangler_proxy.forward.peer import Peer
from strangler_proxy.forward.phase import DONE
from strangler_proxy.forward.repeated import END
from strangler_proxy.forward.upstream import UpstreamConnection

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_FULL: Final = 262_144
_NO_BODY: Final = (204, 304)
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class AnswerBroken(ConnectionError):
    """An answer broke off after its head was sent: raised so that the server closes the client's connection."""


class Ends:
    """The two ends of the server's connection, asked for as a transport is."""

    def __init__(self, scope: Message) -> None:
        self._scope = scope

    def get_extra_info(self, name: str, default: object = None) -> object:
        """`peername` and `sockname` as the server knows them; `sslcontext` is something where the client spoke TLS."""
        if name == "sslcontext":
            return True if self._scope.get("scheme") == "https" else None
        found = self._scope.get({"peername": "client", "sockname": "server"}.get(name, ""))
        return default if found is None else tuple(found)


class AsgiPeer(Peer):
    """What is known of the clients at one address. Fields are looked at more closely than a server may have done."""

    __slots__ = ()

    def known(self, raw: Fields) -> Fields | None:
        """The fields that were read last, where these are the same: `read` has them at once then."""
        return self._raw if self._read is not None and raw == self._raw else None

    def read(self, raw: Fields) -> RequestFields:
        """A request's fields, read. Raises MalformedFields, also for what would split a request."""
        if self._read is not None and (raw is self._raw or raw == self._raw):
            return self._read
        for name, value in raw:
            if not _NAME.match(name) or _BAD_VALUE.search(value):
                raise MalformedFields("a field has a character that no field may have")
        read = super().read(raw)
        read.upgrade = b""
        if read.expect == b"100-continue":
            read.expect = b""
        return read


class AsgiExchange(Exchange):
    """A request that an ASGI server read. Framing towards the client is the server's; interim answers are dropped."""

    __slots__ = ()

    def informed(self, connection: UpstreamConnection, status: int, raw: Fields) -> None:
        """An interim answer goes no further."""
        before = len(connection.out)
        Exchange.informed(self, connection, status, raw)
        del connection.out[before:]

    def begin_answer(self, connection: UpstreamConnection, status: int, answer: AnswerFields, bodiless: bool) -> None:
        """The head, as ASGI wants it; the body follows without framing. The usual one is not written as bytes first."""
        context, pairs = self.context, answer.pairs
        if pairs is None:
            pairs = answer.pairs = pairs_of(answer.block)
        if (bodiless or answer.content_length >= 0) and self.keep_alive and not context.leaving:
            ours = [(b"via", context.via_line[5:-2]), (b"x-request-id", self.request_id)]
            lines = visitor_lines(self) if self.runtime.flag is not None else b""
            if lines:
                ours += pairs_of(lines)
        else:
            head = answer_head(self, status, answer, bodiless=bodiless)
            ours = pairs_of(head[len(status_line(status)) + len(answer.block) : -2])
            self.answer_chunked = False
        client: AsgiClient = self.downstream  # type: ignore[assignment]
        client.begin_answer(status, pairs + ours)


class AsgiClient:
    """One request's client. It takes what a transport takes; `deliver` gives it to the server."""

    __slots__ = (
        "_ended",
        "_first",
        "_given_up",
        "_parts",
        "_resumed",
        "_size",
        "_wake",
        "_watching",
        "body_paused",
        "broken",
        "closing",
        "context",
        "exchange",
        "gone",
        "headers",
        "peer",
        "receive",
        "status",
    )

    exchange: AsgiExchange | None
    last_read: Final = b""
    """The guard looks for other protocols in it; ASGI servers speak HTTP."""

    def __init__(self, context: Context, peer: AsgiPeer, receive: Receive) -> None:
        self.context = context
        self.peer = peer
        self.receive = receive
        self.status = 0
        self.headers: Fields = []
        self.broken = self.closing = self.gone = self.body_paused = self._ended = self._given_up = False
        self._first: asyncio.Task[object] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._wake: asyncio.Future[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def transport(self) -> AsgiClient:
        """What the upstream's connection writes to."""
        return self

    # What the exchange calls.

    def begin_answer(self, status: int, headers: Fields) -> None:
        """The answer's head is known."""
        if status in _NO_BODY:
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        self.status, self.headers = status, headers
        if self._wake is not None:
            self._awake()

    def write(self, data: bytes | memoryview) -> None:
        """A part of the body; before the answer's head, an answer of the proxy's own as HTTP/1.1 bytes."""
        if type(data) is not bytes:
            data = bytes(data)
        if not self.status:
            if data[:10] == b"HTTP/1.1 1":
                return
            head, _, data = data.partition(END)
            line, _, block = head.partition(b"\r\n")
            self.status, self.headers = int(line[9:12]), pairs_of(block)
        if data:
            self._parts.append(data)
        self._size += len(data)
        if self._size > _FULL and self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause()
        if self._wake is not None:
            self._awake()

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        """Parts of the body."""
        for part in parts:
            self.write(part)

    def abort(self) -> None:
        """The answer cannot be ended well."""
        self.broken = self.closing = True
        self._end_of_answer()

    def exchange_done(self, exchange: Exchange, close: bool) -> None:
        """The answer is complete, or there will be none."""
        self._end_of_answer()

    def pause_body(self) -> None:
        """Receive no more of the body for now."""
        self.body_paused = True

    def resume_body(self) -> None:
        """Receive on."""
        self.body_paused = False
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    # What the engine calls.

    def check(self, now: float) -> None:
        """Look at the deadlines, and from the first time on whether the client is still there."""
        exchange = self.exchange
        if exchange is not None and exchange.phase is not DONE:
            if exchange.body_complete_read and self._watching is None:
                self._watching = asyncio.ensure_future(self._watch())
            exchange.check(now)
        if self._first is not None and (self.status or self._ended):
            task, self._first, self._given_up = self._first, None, True
            task.cancel()

    def leave(self, now: float, quiet_s: float) -> bool:
        """Connections are the server's."""
        return False

    # What the request's coroutine calls.

    async def first_part(self) -> Message | None:
        """The first message of the body; None where the answer is there before it, so that it can be delivered."""
        task = self._first = asyncio.current_task()
        assert task is not None
        try:
            return await self.receive()
        except asyncio.CancelledError:
            if not self._given_up or task.uncancel():
                raise
            return None
        finally:
            self._first = None

    async def resumed(self) -> None:
        """Wait until the body may be received on, or the request has ended."""
        while self.body_paused and not self._ended:
            self._resumed = asyncio.get_running_loop().create_future()
            await self._resumed

    async def deliver(self, send: Send) -> None:
        """Send what comes as it comes. An answer that broke is not ended: AnswerBroken has the server break it."""
        create_future = self.context.loop.create_future
        while not self.status and not self._ended:
            self._wake = create_future()
            await self._wake
        if self.gone or not self.status:
            return
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        parts = self._parts
        while True:
            while not parts and not self._ended:
                self._wake = create_future()
                await self._wake
            if self.gone:
                return
            if self.broken:
                raise AnswerBroken("the upstream's answer ended too early")
            more = not self._ended
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            await send({"type": "http.response.body", "body": body, "more_body": more})
            if not more:
                return
            self._taken()

    def _taken(self) -> None:
        """The server took what came: let the upstream go on."""
        self._size = 0
        exchange = self.exchange
        if exchange is not None:
            exchange.moved = True
            if exchange.upstream is not None:
                exchange.upstream.resume()

    def end(self) -> None:
        """The request is over, however: nobody waits any more."""
        if self._watching is not None:
            self._watching.cancel()
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.phase is not DONE:
            exchange.client_left()

    def _awake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    def _end_of_answer(self) -> None:
        self._ended = True
        if self._wake is not None:
            self._awake()
        if self._resumed is not None:
            self.resume_body()

    async def _watch(self) -> None:
        message = await self.receive()
        while message["type"] != "http.disconnect":
            message = await self.receive()
        self.gone = True
        exchange = self.exchange
        if exchange is not None:
            exchange.client_left()


def pairs_of(block: bytes) -> Fields:
    """Lines of fields as ASGI wants them: names in lower case."""
    found: Fields = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.lower(), value.strip()))
    return found
