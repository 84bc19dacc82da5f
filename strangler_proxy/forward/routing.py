"""From a request to its decision: the route it matches, its targeting key, and the facts that `decide` judges."""

from __future__ import annotations

import base64
import binascii
import json
import os
from math import ceil
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.bucketing import bucket
from strangler_proxy.core.decision import Decision, Facts, decide
from strangler_proxy.core.headers import RequestFields, cookie
from strangler_proxy.core.paths import host_name, query_fields, read_target
from strangler_proxy.core.route import SAFE_METHODS
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.table import CompiledRoute
from strangler_proxy.forward.metrics import OWN_WRITE_READS, ForwardMetrics
from strangler_proxy.forward.runtime import RouteRuntime

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.state import ProxyState

VISITOR_COOKIE: Final = b"strangler_visitor"
OWN_WRITES_COOKIE: Final = b"strangler_ryw"
SAFE: Final = frozenset(method.encode() for method in SAFE_METHODS)
_LONGEST_REMEMBERED = 256
_KEPT = 8_192
_YEAR_S = 31_536_000
_DRAWS = 256
_MARKS_A_SECOND = 20


class Router:
    """Matches and decides; remembers what it worked out, within bounds."""

    def __init__(self, state: ProxyState, metrics: ForwardMetrics) -> None:
        self.state = state
        self.metrics = metrics
        self._visitors: dict[bytes, str | None] = {}
        self._subjects: dict[bytes, str] = {}
        self._marks: dict[tuple[str, float, bool], bytes] = {}

    def match(
        self, method: bytes, target: bytes, fields: RequestFields, raw: list[tuple[bytes, bytes]]
    ) -> tuple[RouteRuntime, bytes]:
        """The route's runtime and the target to send on. Raises MalformedTarget."""
        state = self.state
        key = (method, fields.host, target)
        runtime = state.matches.get(key)
        if runtime is not None:
            return runtime, target
        found = read_target(method, target, fields.host)
        headers = _as_text(raw) if state.asks_headers else {}
        query = query_fields(found.query) if state.asks_query else {}
        compiled = state.table.match(method.decode("ascii"), host_name(fields.host), found.path, headers, query)
        runtime = state.route_runtime(compiled)
        if not state.asks_headers and found.sent == target and len(target) <= _LONGEST_REMEMBERED:
            state.remember_match(key, runtime)
        return runtime, found.sent

    def decide(self, exchange: Exchange) -> Decision:
        """Which origin serves, and why. Learns nothing and changes nothing but counters."""
        runtime = exchange.runtime
        compiled = runtime.compiled
        if compiled is None:
            assert runtime.unrouted is not None
            return runtime.unrouted
        fields = exchange.fields
        key = (fields.identity or self.targeting_key(exchange)) if runtime.by_key else ""
        override = self._override(exchange, compiled.flag.key) if fields.override else None
        if override is None:
            usual = runtime.decided.get((exchange.method, key))
            if usual is None:
                usual = self._judge(exchange, compiled, key)
                runtime.remember((exchange.method, key), usual)
            if (
                not runtime.by_own_write
                or not exchange.safe
                or usual.serve is compiled.flag.owner
                or not self._wrote_lately(exchange, compiled.flag.key)
            ):
                return usual
            self.metrics.count(OWN_WRITE_READS, flag=compiled.flag.key)
            return self._judge(exchange, compiled, key, own_write=True)
        return self._judge(exchange, compiled, key, override=override)

    def _judge(
        self,
        exchange: Exchange,
        compiled: CompiledRoute,
        key: str,
        *,
        override: Origin | None = None,
        own_write: bool = False,
    ) -> Decision:
        runtime = exchange.runtime
        facts = Facts(
            method=exchange.method.decode("ascii"),
            bucket=bucket(compiled.flag.salt, key) if runtime.by_key else 0,
            targeting_key=key,
            killed=runtime.killed,
            override=override,
            own_write=own_write,
        )
        return decide(compiled, facts)

    def targeting_key(self, exchange: Exchange) -> str:
        """A valid visitor cookie's id, else a bearer token's subject, else the client's address."""
        fields = exchange.fields
        return self._identity(fields) or exchange.edge.address

    def _identity(self, fields: RequestFields) -> str:
        """Whom the fields name, empty if nobody; looked up once for the same fields."""
        known = fields.identity
        if known is None:
            known = fields.identity = self._visitor(fields) or self._subject(fields)
        return known

    def visitor_line(self, exchange: Exchange) -> bytes:
        """The Set-Cookie line for a client that has neither a visitor cookie nor a token with a subject, else empty.

        The id is drawn so that it falls on the side that the address fell on: the second request of a client goes
        where the first one went.
        """
        signer = self.state.signer
        runtime = exchange.runtime
        flag = runtime.flag
        if signer is None or flag is None:
            return b""
        if self._identity(exchange.fields):
            return b""
        visitor = _new_visitor()
        if runtime.by_key:
            inside = bucket(flag.salt, exchange.edge.address) < flag.weight
            for _ in range(_DRAWS):
                if (bucket(flag.salt, visitor) < flag.weight) is inside:
                    break
                visitor = _new_visitor()
        return _set_cookie(VISITOR_COOKIE, signer.visitor_cookie(visitor), _YEAR_S, exchange.edge.secure)

    def own_write_line(self, exchange: Exchange) -> bytes:
        """Note that this subject wrote, now; the Set-Cookie line that tells every proxy, empty without a signer.

        The time is rounded up (a mark too late only sends a read to the owner without need), so that many clients
        share one signature.
        """
        state = self.state
        flag = exchange.runtime.flag
        if flag is None:
            return b""
        now = ceil(state.now() * _MARKS_A_SECOND) / _MARKS_A_SECOND
        state.own_writes.note(flag.key, self.targeting_key(exchange), now)
        if state.signer is None:
            return b""
        known = self._cookie_writes(exchange)
        if known:
            window = state.options.own_write_s
            written = {key: at for key, at in known.items() if now - at < window}
            written[flag.key] = now
            return self._mark(dict(sorted(written.items(), key=lambda item: -item[1])[:16]), exchange.edge.secure)
        key = (flag.key, now, exchange.edge.secure)
        line = self._marks.get(key)
        if line is None:
            if len(self._marks) >= _LONGEST_REMEMBERED:
                self._marks.clear()
            line = self._marks[key] = self._mark({flag.key: now}, exchange.edge.secure)
        return line

    def _mark(self, written: dict[str, float], secure: bool) -> bytes:
        signer = self.state.signer
        assert signer is not None
        value = signer.own_writes_cookie(written)
        return _set_cookie(OWN_WRITES_COOKIE, value, round(self.state.options.own_write_s), secure)

    def _wrote_lately(self, exchange: Exchange, flag_key: str) -> bool:
        state = self.state
        cookie_at = self._cookie_writes(exchange).get(flag_key, 0.0)
        at = max(cookie_at, state.own_writes.wrote_at(flag_key, self.targeting_key(exchange)))
        if not at or state.now() - at >= state.options.own_write_s:
            return False
        return state.replicated.get(flag_key, 0.0) <= at

    def _cookie_writes(self, exchange: Exchange) -> dict[str, float]:
        fields = exchange.fields
        written = fields.writes
        if written is None:
            signer = self.state.signer
            value = cookie(fields.cookie, OWN_WRITES_COOKIE) if OWN_WRITES_COOKIE in fields.cookie else b""
            written = signer.own_writes(value.decode("latin-1")) if signer is not None and value else {}
            fields.writes = written
        return written

    def _override(self, exchange: Exchange, flag_key: str) -> Origin | None:
        if self.state.signer is None:
            return None
        found = self.state.signer.read_override(exchange.fields.override.decode("latin-1"), self.state.now())
        if found is None or found[0] != flag_key:
            return None
        exchange.told_why = True
        return found[1]

    def _visitor(self, fields: RequestFields) -> str | None:
        header = fields.cookie
        if self.state.signer is None or VISITOR_COOKIE not in header:
            return None
        value = cookie(header, VISITOR_COOKIE)
        if not value or len(value) > _LONGEST_REMEMBERED:
            return None
        if value in self._visitors:
            return self._visitors[value]
        if len(self._visitors) >= _KEPT:
            self._visitors.clear()
        found = self._visitors[value] = self.state.signer.visitor(value.decode("latin-1"))
        return found

    def _subject(self, fields: RequestFields) -> str:
        value = fields.authorization
        if not value or len(value) > 8 * _LONGEST_REMEMBERED:
            return ""
        known = self._subjects.get(value)
        if known is None:
            if len(self._subjects) >= _KEPT // 8:
                self._subjects.clear()
            known = self._subjects[value] = token_subject(value)
        return known


def token_subject(authorization: bytes) -> str:
    """The `sub` of a bearer JWT, unverified (it decides a bucket, nothing else); empty where there is none."""
    scheme, _, token = authorization.strip().partition(b" ")
    parts = token.strip().split(b".")
    if scheme.lower() != b"bearer" or len(parts) != 3:
        return ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return ""
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else ""


def has_credentials(fields: RequestFields, session_cookies: tuple[str, ...]) -> bool:
    """Does a request carry a bearer token or a session cookie? What they are worth, the upstream decides."""
    scheme, _, token = fields.authorization.strip().partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return True
    return any(cookie(fields.cookie, name.encode()) for name in session_cookies)


def _new_visitor() -> str:
    return base64.urlsafe_b64encode(os.urandom(15)).decode("ascii")


def _set_cookie(name: bytes, value: str, seconds: int, secure: bool) -> bytes:
    return b"Set-Cookie: %b=%b; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (
        name,
        value.encode("ascii"),
        seconds,
        b"; Secure" if secure else b"",
    )


def _as_text(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in raw:
        fields.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())
    return fields
