"""The canonical line of a request: the event `request.forwarded`, facts as keys; no queries, bodies or cookies.

A path may hold a secret (a reset link, an address): what looks like one becomes a mark, the same within one process.
"""

from __future__ import annotations

import random
import re
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog

from strangler_proxy.core.redaction import SECRET_STEPS, Redactor

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

_log = structlog.get_logger("strangler_proxy.forward")
_draw = random.Random()
_redactor: Final = Redactor(key=secrets.token_bytes(32))
_PLAIN: Final = re.compile(
    r"(?:/(?:[a-z]{1,24}(?:[-_.][a-z]{1,24})*|[0-9]{1,11}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?)*\Z"
)
"""Words, numbers and UUIDs, which no pattern of a secret fits."""
_PATH_CHARS: Final = 2_048


@lru_cache(maxsize=4_096)
def said_path(path: bytes) -> str:
    """A path as it may be logged, cut to 2,048 characters.

    >>> said_path(b"/api/orders/17"), said_path(b"/users/ada@example.org").startswith("/users/[email:")
    ('/api/orders/17', True)
    """
    text = path[:_PATH_CHARS].decode("latin-1")
    if _PLAIN.match(text) and not SECRET_STEPS.search(text):
        return text
    return _redactor.path(text)


def log_request(exchange: Exchange, elapsed_s: float) -> None:
    """Write the line of a request that has ended, if it is in the sample; answers of 500 and more always are."""
    share = exchange.context.options.access_log
    if share < 1.0 and exchange.status < 500 and _draw.random() >= share:
        return
    facts: dict[str, object] = {
        "http.request.method": exchange.method.decode("ascii", "replace"),
        "url.path": said_path(exchange.target.partition(b"?")[0]),
        "http.response.status_code": exchange.status,
        "event.duration": round(elapsed_s * 1e9),
        "http.request.id": exchange.request_id.decode("ascii"),
        "http.request.body.bytes": exchange.body_bytes,
    }
    if exchange.lane is not None:
        runtime = exchange.runtime
        facts["strangler.route"] = runtime.name
        facts["strangler.flag"] = runtime.flag.key if runtime.flag is not None else ""
        facts["strangler.origin"] = exchange.served_by.value
        facts["strangler.reason"] = exchange.decision.reason.name.lower()
        facts["client.address"] = exchange.edge.address
    if exchange.held_s:
        facts["strangler.held_ms"] = round(exchange.held_s * 1e3)
    if exchange.replay is not None:
        facts["strangler.replay"] = exchange.replay.value
    if exchange.fallen_back:
        facts["strangler.fallback"] = "stale" if exchange.stale else "fresh"
    if exchange.attempts:
        facts["strangler.retries"] = exchange.attempts
    _log.info("request.forwarded", **facts)
