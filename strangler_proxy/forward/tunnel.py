"""WebSockets: after `101 Switching Protocols` bytes go both ways as they are (RFC 6455, RFC 9110 7.8).

A tunnel begins only where client and upstream agree: the client asked for it by Connection and Upgrade, the upstream
answered 101 with the same two. What the client sent before that is withheld, so that no upstream ever takes for a
request what the client meant as a frame, or the other way round. A tunnel has left its pool: it keeps no request from
a connection. It is counted against the limit of tunnels, and closed after a time of silence.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.errors import MalformedFields
from strangler_proxy.core.headers import Fields, read_answer_fields
from strangler_proxy.forward.answer import informational_head, status_line, visitor_lines
from strangler_proxy.forward.metrics import TUNNELS
from strangler_proxy.forward.phase import SENT

if TYPE_CHECKING:
    from strangler_proxy.forward.context import Context
    from strangler_proxy.forward.downstream import Downstream
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.upstream import UpstreamConnection

WEBSOCKET: Final = b"websocket"
REQUEST_LINES: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_WITHHELD_BYTES: Final = 65_536
_INTERIM_LIMIT: Final = 32


class Withheld:
    """Takes the parser's place once a request has asked for an upgrade: keeps what follows until it is decided."""

    __slots__ = ("_downstream", "data")

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream
        self.data = bytearray()

    def feed_data(self, data: bytes) -> None:
        """Keep it; read no more once enough is here."""
        self.data += data
        if len(self.data) > _WITHHELD_BYTES:
            self._downstream.pause_body()


class TunnelEnd(asyncio.Protocol):
    """One of the two connections. The other one's pace is this one's, and its end too."""

    __slots__ = ("_tunnel", "ended", "other", "transport")

    other: TunnelEnd

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self._tunnel.moved = True
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._tunnel.moved = True
        if not (self.other.ended or self.other.transport.is_closing()):
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        both = self.transport, self.other.transport
        if self.other.ended or not all(transport.can_write_eof() for transport in both):
            self.other.transport.close()
            return False
        self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        if exc is None:
            self.other.transport.close()
        else:
            self.other.transport.abort()
        self._tunnel.end_lost()


class Tunnel:
    """Both connections. Stands among the engine's connections, for its sweep and its drain."""

    __slots__ = ("_context", "_deadline", "_open", "client", "moved", "upstream")

    exchange: Final = None

    def __init__(self, context: Context, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        self._context = context
        self._deadline = monotonic() + context.options.tunnel_idle_s
        self._open = 2
        self.moved = False
        self.client = TunnelEnd(self, client)
        self.upstream = TunnelEnd(self, upstream)
        self.client.other, self.upstream.other = self.upstream, self.client
        for end in (self.client, self.upstream):
            end.transport.set_protocol(end)
        context.tunnels += 1
        context.connections.add(self)
        context.metrics.count(TUNNELS)

    def check(self, now: float) -> None:
        """End it after a time of silence; the sweep calls this a few times a second."""
        if self.moved:
            self.moved = False
            self._deadline = now + self._context.options.tunnel_idle_s
        elif now >= self._deadline:
            self.abort()

    def leave(self, now: float, quiet_s: float) -> bool:
        """Nothing tells a WebSocket to go from outside: it lasts as long as the drain."""
        return False

    def abort(self) -> None:
        """Break both connections."""
        self.client.transport.abort()
        self.upstream.transport.abort()

    def end_lost(self) -> None:
        """One of the two is gone."""
        self._open -= 1
        if not self._open:
            self._context.tunnels -= 1
            self._context.connections.discard(self)


def inform(exchange: Exchange, connection: UpstreamConnection, status: int, raw: Fields) -> None:
    """Act on an interim answer: pass it on, but not 100 (we say that ourselves), and not to HTTP/1.0 clients.

    101 is taken where it was asked for; the tunnel begins behind it.
    """
    exchange.interim += 1
    if status == 101:
        exchange.switched = _switched_head(exchange, raw)
    if (status == 101 and not exchange.switched) or status < 100 or exchange.interim > _INTERIM_LIMIT:
        exchange.answer_malformed(connection)
    elif status > 101 and not exchange.version_10 and exchange.phase is SENT:
        connection.out.append(informational_head(status, raw))


def _switched_head(exchange: Exchange, raw: Fields) -> bytes:
    """The head of a 101 for the client; empty where the upstream did not agree to what was asked."""
    named = {name.lower(): value.strip().lower() for name, value in raw}
    agreed = b"upgrade" in [part.strip() for part in named.get(b"connection", b"").split(b",")]
    if not (exchange.tunnel and agreed and named.get(b"upgrade") == WEBSOCKET):
        return b""
    try:
        block = read_answer_fields(raw).block
    except MalformedFields:
        return b""
    return b"%b%b%b%bX-Request-Id: %b\r\n%b\r\n" % (
        status_line(101),
        block,
        REQUEST_LINES,
        exchange.context.via_line,
        exchange.request_id,
        visitor_lines(exchange),
    )


def open_tunnel(exchange: Exchange, connection: UpstreamConnection, rest: bytes) -> None:
    """Tie the two connections together; `rest` is what the upstream sent behind its 101."""
    downstream, context = exchange.downstream, exchange.context
    client, upstream = downstream.transport, connection.transport
    connection.exchange = exchange.upstream = None
    connection.pool.lost(connection)
    withheld = downstream.hand_over()
    exchange.status = 101
    exchange.finish(close=True)
    Tunnel(context, client, upstream)
    client.write(b"".join((*connection.out, exchange.switched, rest)))
    connection.out.clear()
    if withheld:
        upstream.write(withheld)
