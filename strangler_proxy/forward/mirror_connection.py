"""A connection of the mirror's own: sends one copy, reads the answer, and stops reading where that gets too much.

What is read here is not for a client: nothing is written on, framing is undone, and whatever goes wrong is a `Failure`.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import AnswerFields, Fields, read_answer_fields
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer
from strangler_proxy.core.route import Endpoint
from strangler_proxy.forward import mirror_fields
from strangler_proxy.forward.mirror_bytes import whole
from strangler_proxy.forward.mirror_options import MEMORY_FULL
from strangler_proxy.forward.repeated import END

if TYPE_CHECKING:
    from strangler_proxy.forward.mirror_cluster import MirrorCluster

_NO_BODY = (204, 304)
_HTTP = b"HTTP/"
_INTERIM_LIMIT = 32
_NOTHING_READ = AnswerFields()


class Reply:
    """What one side answered to a copy; `failure` None where it is whole. `parts` is the body, framing undone."""

    __slots__ = ("ended", "endpoint", "failure", "fields", "held", "parts", "sent", "size", "skip", "status")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.status = 0
        self.fields = _NOTHING_READ
        self.parts: list[bytes] = []
        self.size = self.skip = self.held = 0
        self.failure: Failure | None = None
        self.sent = self.ended = 0.0

    @property
    def body(self) -> bytes:
        """The body in one piece."""
        return whole(self.parts, self.skip)

    @property
    def milliseconds(self) -> float:
        """From sending to the last byte; 0.0 where it was never sent."""
        return (self.ended - self.sent) * 1e3

    def answer(self, effects: str = "") -> Answer:
        """As it is compared; `effects` are those that a proof covers."""
        whole = self.failure is None or self.failure is Failure.UNPROVEN
        return Answer(
            status=self.status,
            fields=mirror_fields.raw_fields(self.fields),
            body=self.body if whole else b"",
            body_bytes=self.size,
            truncated=self.failure is Failure.TOO_LARGE,
            duration_ms=self.milliseconds,
            failure=self.failure,
            effects=effects.encode("latin-1"),
            code_version=mirror_fields.code_version(self.fields),
        )


class Errand(Protocol):
    """A request that the mirror sends. It hears exactly one of `replied` and `dropped`."""

    queued_at: float
    head_only: bool
    safe: bool
    """Does it fit everywhere?"""

    def fits(self, endpoint: Endpoint) -> bool:
        """May it go there?"""
        ...

    def write(self) -> list[bytes]:
        """Its bytes, marked now."""
        ...

    def replied(self, reply: Reply) -> None:
        """It was sent, or could not be; this came of it."""
        ...

    def dropped(self, reason: str) -> None:
        """It was never sent, or its answer is not waited for."""
        ...


class MirrorConnection(asyncio.Protocol):
    """One request at a time: `begin`, then `MirrorCluster.ended` once. `idle`: where it waits for the next one."""

    __slots__ = (
        "_complete",
        "_fields",
        "_final",
        "_head_end",
        "_interim",
        "_left",
        "_parser",
        "_raw",
        "_reusable",
        "_silent_bytes",
        "_until_eof",
        "again",
        "closed",
        "cluster",
        "endpoint",
        "errand",
        "heard",
        "idle",
        "idle_since",
        "permit",
        "reply",
        "transport",
        "until",
    )

    transport: asyncio.Transport
    reply: Reply

    def __init__(self, cluster: MirrorCluster, endpoint: Endpoint, idle: list[MirrorConnection]) -> None:
        self.cluster = cluster
        self.endpoint = endpoint
        self.idle = idle
        self.errand: Errand | None = None
        self.closed = self.heard = self.again = False
        self.idle_since = self.until = 0.0
        self.permit = 0
        self._fields: Fields = []
        self._raw: Fields | None = None
        self._final = self._complete = self._reusable = self._until_eof = False
        self._left = self._interim = self._silent_bytes = self._head_end = 0
        self._parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"<MirrorConnection {self.endpoint} {'busy' if self.errand else 'idle'}>"

    def begin(self, errand: Errand, permit: int, until: float = 0.0, *, again: bool = False) -> None:
        """Send this; `until` 0: it has the whole deadline.

        `again`: it was tried on a connection that had gone stale, and is not tried once more.
        """
        self.errand = errand
        self.permit = permit
        self.again = again
        self.heard = self._final = self._complete = self._until_eof = False
        self._left = self._interim = self._silent_bytes = 0
        reply = self.reply = Reply(self.endpoint)
        parts = errand.write()
        sent = reply.sent = monotonic()
        self.until = until or sent + self.cluster.options.deadline_s
        self.transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def give_up(self, failure: Failure) -> None:
        """Its time is over, or what it sends is no use: close, and say so."""
        errand, self.errand = self.errand, None
        self.transport.abort()
        if errand is not None:
            self.reply.failure = failure
            self.reply.ended = monotonic()
            self.cluster.ended(self, errand, reusable=False)

    def abandon(self, reason: str) -> None:
        """Close without an answer, for a reason that the other side is not to blame for."""
        errand, self.errand = self.errand, None
        self.transport.abort()
        if errand is not None:
            self.cluster.abandoned(self, errand, reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.cluster.lost(self)
        if self.errand is None:
            return
        if self._until_eof and exc is None:
            self._reusable = False
            self._done()
        elif not self.heard and not self.again and self.idle_since:
            errand, self.errand = self.errand, None
            self.cluster.stale(self, errand)
        else:
            self.give_up(Failure.RESET)

    def data_received(self, data: bytes) -> None:
        errand = self.errand
        if errand is None:
            self.transport.abort()
            return
        first = not self.heard
        self.heard = True
        if first and self._repeats(errand, data):
            return
        reply = self.reply
        before = reply.size
        try:
            if self._left:
                self._count(reply, data)
            elif first and not _HTTP.startswith(data[:5]):
                self.give_up(Failure.GARBAGE)
            else:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self.give_up(Failure.GARBAGE)
                return
            self._reusable = False
        if self.errand is not errand:
            return
        if self._complete:
            if first and self._reusable:
                self._learn(data, reply)
            self._done()
        elif reply.size > self.cluster.answer_bytes:
            self.give_up(Failure.TOO_LARGE)
        elif reply.size == before and self._is_endless(len(data)):
            self.give_up(Failure.GARBAGE)
        elif not self.cluster.hold(reply):
            self.abandon(MEMORY_FULL)

    def _learn(self, data: bytes, reply: Reply) -> None:
        if self._fields == self._raw:
            self.cluster.repeated.learn_answer(data, reply.status, self._fields, reply.fields)
        self._raw = self._fields

    def _repeats(self, errand: Errand, data: bytes) -> bool:
        """Does this answer begin with a head that came before? Then it is not parsed, and its body counted."""
        end = self._head_end  # where the last head ended
        if not data.startswith(END, end):
            end = self._head_end = data.find(END)
        head = self.cluster.repeated.answers.get(data[:end])
        if head is None:
            return False
        wanted = 0 if errand.head_only else head.body_bytes
        left = wanted - (len(data) - end - 4)
        if left < 0:
            return False
        reply = self.reply
        reply.status, reply.fields = head.status, head.fields
        self._final = self._reusable = True
        if wanted > self.cluster.answer_bytes:
            self.give_up(Failure.TOO_LARGE)
            return True
        if wanted:
            reply.parts.append(data)
            reply.skip = end + 4
            reply.size = len(data) - end - 4
        self._left = left
        if not left:
            self._done()
        elif not self.cluster.hold(reply):
            self.abandon(MEMORY_FULL)
        return True

    def _count(self, reply: Reply, data: bytes) -> None:
        if len(data) > self._left:
            self._reusable = False
            data = data[: self._left]
        self._left -= len(data)
        reply.parts.append(data)
        reply.size += len(data)
        self._complete = not self._left

    def _done(self) -> None:
        errand, self.errand = self.errand, None
        assert errand is not None
        self.reply.ended = self.idle_since = monotonic()
        reusable = self._reusable and not self.closed
        if not reusable:
            self.transport.abort()
        self.cluster.ended(self, errand, reusable=reusable)

    def _is_endless(self, size: int) -> bool:
        self._silent_bytes += size
        return self._silent_bytes > self.cluster.options.max_header_bytes

    def on_message_begin(self) -> None:
        self._fields = []
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._final:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        errand = self.errand
        if errand is None or self._complete:
            self._reusable = False
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._interim += 1
            if status == 101 or status < 100 or self._interim > _INTERIM_LIMIT:
                self.give_up(Failure.GARBAGE)
            return
        read = self._read()
        if read is None:
            self.give_up(Failure.GARBAGE)
            return
        reply = self.reply
        reply.status, reply.fields = status, read
        self._final = True
        bodiless = errand.head_only or status in _NO_BODY
        self._reusable = parser.should_keep_alive() or (bodiless and parser.get_http_version() == "1.1")
        self._until_eof = not bodiless and not read.chunked and read.content_length < 0
        if not bodiless and read.content_length > self.cluster.answer_bytes:
            self.give_up(Failure.TOO_LARGE)
        elif errand.head_only:
            self._complete = True
            self._parser = httptools.HttpResponseParser(self)

    def _read(self) -> AnswerFields | None:
        fields = self._fields
        if len(fields) > self.cluster.options.max_header_count:
            return None
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            return None
        try:
            read = read_answer_fields(fields)
        except MalformedFields:
            return None
        return None if read.coded else read

    def on_body(self, body: bytes) -> None:
        if self.errand is None or self._complete:
            self._reusable = False
        else:
            self.reply.parts.append(body)
            self.reply.size += len(body)

    def on_message_complete(self) -> None:
        if self._final:
            self._complete = True
