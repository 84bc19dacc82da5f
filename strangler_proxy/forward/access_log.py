"""The canonical line of a request: the event `request.forwarded`, facts as keys; no queries, bodies or cookies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

_log = structlog.get_logger("strangler_proxy.forward")
_draw = random.Random()


def log_request(exchange: Exchange, elapsed_s: float) -> None:
    """Write the line of a request that has ended, if it is in the sample; answers of 500 and more always are."""
    share = exchange.context.options.access_log
    if share < 1.0 and exchange.status < 500 and _draw.random() >= share:
        return
    facts: dict[str, object] = {
        "http.request.method": exchange.method.decode("ascii", "replace"),
        "url.path": exchange.target.partition(b"?")[0].decode("latin-1"),
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
