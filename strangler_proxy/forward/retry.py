"""What may be tried again after an upstream failed, and where: never after a byte of the answer went to the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.forward import errors
from strangler_proxy.forward.errors import Problem
from strangler_proxy.forward.metrics import FALLBACKS, RETRIES, UPSTREAM_ERRORS
from strangler_proxy.forward.phase import ANSWERING, CONNECTING
from strangler_proxy.forward.routing import SAFE

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange

IDEMPOTENT: Final = SAFE | {b"PUT", b"DELETE"}
"""RFC 9110 9.2.2."""
_RETRY_DELAY_S = 0.05


def connect_failed(exchange: Exchange, problem: Problem) -> None:
    """No connection: try once more (nothing was sent, so any method may), fall back, or say so."""
    if problem is errors.OVERLOADED:
        exchange.refuse(problem)
        return
    exchange.attempts += 1
    route = exchange.runtime.route
    if exchange.attempts <= (1 if route is None else route.retries):
        exchange.context.metrics.count(RETRIES, reason="connect")
        exchange.timer = exchange.context.loop.call_later(_RETRY_DELAY_S, _connect_again, exchange)
    else:
        failed(exchange, problem)


def upstream_lost(exchange: Exchange, *, heard: bool, malformed: bool) -> None:
    """A kept connection may have been closed just before our request reached it: once more on a new one."""
    if exchange.phase is ANSWERING:
        _count(exchange, errors.TERMINATED)
        exchange.downstream.abort()
        exchange.finish(close=True)
    elif exchange.reused and not heard and not exchange.retried_stale and _may_repeat(exchange):
        exchange.retried_stale = True
        exchange.context.metrics.count(RETRIES, reason="stale")
        exchange.connect()
    else:
        failed(exchange, errors.MALFORMED_ANSWER if malformed else errors.TERMINATED)


def failed(exchange: Exchange, problem: Problem) -> None:
    """The upstream gave nothing: a safe request goes to the monolith where flag and route allow it."""
    _count(exchange, problem)
    if _may_fall_back(exchange):
        exchange.fallen_back = True
        exchange.context.metrics.count(FALLBACKS, route=exchange.runtime.name)
        exchange.send(exchange.runtime.towards(Origin.MONOLITH, exchange.decision.reason))
        exchange.flush()
    else:
        exchange.refuse(problem)


def _connect_again(exchange: Exchange) -> None:
    if exchange.phase is CONNECTING:
        exchange.pool = exchange.context.pools.of(exchange.decision.cluster, avoid=exchange.pool)
        exchange.connect()
        exchange.flush()


def _may_repeat(exchange: Exchange) -> bool:
    return exchange.method in IDEMPOTENT and exchange.can_resend()


def _may_fall_back(exchange: Exchange) -> bool:
    flag, route = exchange.runtime.flag, exchange.runtime.route
    return (
        flag is not None
        and route is not None
        and exchange.safe
        and exchange.served_by is Origin.EXTRACTED
        and flag.fallback_safe
        and route.fallback
        and flag.stage is not Stage.RETIRED
        and not exchange.fallen_back
        and exchange.can_resend()
    )


def _count(exchange: Exchange, problem: Problem) -> None:
    exchange.context.metrics.count(UPSTREAM_ERRORS, cluster=exchange.decision.cluster.name, error=problem.error)
