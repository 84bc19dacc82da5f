"""The proxy as an ASGI application: `StranglerProxy(...)` under uvicorn, granian or hypercorn, or mounted in Starlette.

The same table, decisions, fields, pools, holds and replays as `strangler serve`, behind a server of your choice. It
costs about twice as much CPU; docs/explanation/asgi-mode.md says what else differs.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final
from urllib.parse import quote

from strangler_proxy.core.headers import Fields
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward import errors
from strangler_proxy.forward.asgi_client import AsgiClient, AsgiExchange, AsgiPeer, Ends, Message, Receive, Send
from strangler_proxy.forward.context import Context
from strangler_proxy.forward.engine import Engine
from strangler_proxy.forward.errors import Problem
from strangler_proxy.forward.metrics import ForwardMetrics
from strangler_proxy.forward.mirror_options import MirrorOptions
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.routing import SAFE
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.serve_shadow import Shadow

_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}\Z")
_TARGET: Final = re.compile(rb"[!-~\x80-\xff]+\Z")
_METHODS: Final = {
    name: (name.encode(), name.encode() in SAFE)
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
}
_VERSIONS: Final = frozenset({"1", "1.0", "1.1", "2", "3"})
_PEERS_KEPT: Final = 4_096
_TARGETS_KEPT: Final = 4_096
_LONGEST_KEPT: Final = 256
_CLOSE_S: Final = 10.0


class StranglerProxy:
    """An ASGI application that forwards every request by a routing table; one per event loop.

    `state.swap(table)` serves another table from then on. Lifespan events open and close it; where it is mounted and
    gets none, the first request opens it and `await proxy.close()` closes it. With `mirror`, copies of what the table's
    flags (or its `candidate`) ask for are compared, and the evidence kept at a URL.

    >>> from strangler_proxy.core.route import Cluster, Endpoint
    >>> monolith = Cluster(name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=8001),))
    >>> app = StranglerProxy(RoutingTable.empty(monolith))
    """

    def __init__(
        self,
        table: RoutingTable,
        *,
        options: Options | None = None,
        signer: Signer | None = None,
        own_writes: OwnWrites | None = None,
        metrics: ForwardMetrics | None = None,
        mirror: MirrorOptions | None = None,
        evidence: str = "",
    ) -> None:
        if (mirror is None) is not (not evidence):
            raise ValueError("mirror and evidence (sqlite:///abs/path or postgresql://...) go together: give both")
        self.options = options or Options()
        self.metrics = metrics or ForwardMetrics()
        self.state = ProxyState(
            table,
            options=self.options,
            signer=signer,
            own_writes=own_writes or OwnWrites(None),
            mirrors_unmatched=mirror is not None and mirror.candidate is not None,
        )
        self._shadow = None if mirror is None else Shadow(self.state, mirror, evidence)
        self._shadowing: asyncio.Task[None] | None = None
        self._engine = Engine(self.state, self.options, self.metrics, self._shadow.mirror if self._shadow else None)
        self._context: Context | None = None
        self._peers: dict[tuple[str, object], AsgiPeer] = {}
        self._targets: set[bytes] = set()
        """That were looked at and found good."""

    def __repr__(self) -> str:
        return f"<StranglerProxy revision={self.state.table.revision}>"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3: `http` and `lifespan`. A WebSocket is refused: the engine's own server tunnels them."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        context = self._context or self._opened()
        peer = self._peer(scope)
        raw: Fields = scope["headers"]
        if type(raw) is not list:
            raw = [(name, value) for name, value in raw]
        target, known = _target(scope), peer.known(raw)
        usual, problem = _METHODS.get(scope["method"]), None
        method, safe = usual or (scope["method"].encode("ascii", "replace"), False)
        if known is not None and usual is not None and target in self._targets:
            raw = known
        else:
            problem = self._problem(scope["method"], target, raw)
        first: Message | None = None
        version = scope["http_version"]
        if version != "1.1" and problem is None:
            problem = _problem_of_version(version, raw)
        if problem is None and version[0] != "1":
            first = await receive()
            raw = _framed(raw, first)
        client = AsgiClient(context, peer, receive)
        exchange = AsgiExchange(context, client, method, target, raw, False, True, safe)  # type: ignore[arg-type]
        client.exchange = exchange
        exchange.problem = problem
        context.connections.add(client)  # type: ignore[arg-type]
        pump: asyncio.Task[None] | None = None
        try:
            exchange.begin()
            if exchange.has_body:
                message = first or await client.first_part()
                if message is None or _fed(exchange, message):
                    pump = asyncio.ensure_future(_pump(client, exchange))
            else:
                exchange.body_complete_read = True
                exchange.flush()
            await client.deliver(send)
        finally:
            context.connections.discard(client)
            client.end()
            if pump is not None:
                pump.cancel()

    async def close(self, seconds: float = _CLOSE_S) -> None:
        """Let requests in flight end, for so long at most; then close the connections to upstreams."""
        if self._context is None:
            return
        await self._engine.drain(seconds)
        self._context = None
        if self._shadow is not None and self._shadowing is not None:
            await self._shadowing
            await self._shadow.close()

    def render_metrics(self) -> str:
        """The numbers of this moment in the text format of Prometheus."""
        self._engine.publish()
        return self.metrics.render()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._opened()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _opened(self) -> Context:
        if self._context is None:
            self._context = self._engine.start()
            if self._shadow is not None:
                self._shadowing = asyncio.create_task(self._shadow.start())
        return self._context

    async def _other(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1011})

    def _peer(self, scope: Message) -> AsgiPeer:
        client = scope.get("client")
        key = (client[0] if client else "", scope.get("scheme"))
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= _PEERS_KEPT:
                self._peers.clear()
            peer = self._peers[key] = AsgiPeer(Ends(scope), self.options.trusted_proxies)  # type: ignore[arg-type]
        return peer

    def _problem(self, method: str, target: bytes, raw: Fields) -> Problem | None:
        """What a server may have let through: the engine's own limits on the head."""
        options = self.options
        if len(target) > options.max_target_bytes:
            return errors.TARGET_TOO_LONG
        if not _METHOD.match(method) or not _TARGET.match(target):
            return errors.MALFORMED
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in raw)
        if len(raw) > options.max_header_count or size > options.max_header_bytes:
            return errors.HEADERS_TOO_LARGE
        if len(target) <= _LONGEST_KEPT:
            if len(self._targets) >= _TARGETS_KEPT:
                self._targets.clear()
            self._targets.add(target)
        return None


def _problem_of_version(version: str, raw: Fields) -> Problem | None:
    """HTTP/1.0 knows no chunks; and some servers take any number for HTTP/1.1."""
    if version not in _VERSIONS or (version in ("1", "1.0") and any(name == b"transfer-encoding" for name, _ in raw)):
        return errors.MALFORMED
    return None


def _target(scope: Message) -> bytes:
    """The target as the client sent it, as far as the server says; without `raw_path`, quoted anew."""
    path: bytes = scope.get("raw_path") or quote(scope["path"], safe="/~!$&'()*+,;=:@").encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query and b"?" not in path else path


def _framed(raw: Fields, first: Message) -> Fields:
    """HTTP/2 bodies need no length: to an HTTP/1.1 upstream they go in chunks."""
    if not (first.get("body") or first.get("more_body")) or any(name == b"content-length" for name, _ in raw):
        return raw
    return [*((n, v) for n, v in raw if n != b"transfer-encoding"), (b"transfer-encoding", b"chunked")]


def _fed(exchange: AsgiExchange, message: Message) -> bool:
    """Take in a part of the body; True where more is to come. A body ends where its length says, said or not."""
    if message["type"] == "http.disconnect":
        exchange.client_left()
        return False
    body: bytes = message.get("body", b"")
    more: bool = message.get("more_body", False)
    length = exchange.fields.content_length
    missing = length - exchange.body_bytes - len(body) if length >= 0 else 0
    if missing < 0 or (missing and not more):
        exchange.refuse(errors.MALFORMED, detail="The body is not as long as its Content-Length says.")
        return False
    if body:
        exchange.feed(body)
    if more and (missing or length < 0):
        exchange.flush()
        return True
    exchange.body_complete_read = True
    exchange.body_done()
    exchange.flush()
    return False


async def _pump(client: AsgiClient, exchange: AsgiExchange) -> None:
    """Receive the rest of the body while the answer may already come."""
    while client.exchange is not None:
        await client.resumed()
        if not _fed(exchange, await client.receive()):
            return
