"""What may be tried again after an upstream failed, and where: never after a byte of the answer was heard.

The rules are `core.retry` and `core.fallback`; here is what they are asked about, and what is done then.
"""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.breaker import Outcome
from strangler_proxy.core.fallback import UNAVAILABLE_STATUSES, Unserved, may_be_stale, may_fall_back
from strangler_proxy.core.retry import IDEMPOTENT_METHODS, Failed, Retry, may_retry
from strangler_proxy.core.stage import Origin
from strangler_proxy.forward import errors
from strangler_proxy.forward.errors import Problem
from strangler_proxy.forward.metrics import FALLBACKS, RETRIES, RETRIES_REFUSED, UPSTREAM_ERRORS
from strangler_proxy.forward.phase import ANSWERING, CONNECTING
from strangler_proxy.forward.settling import settle

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.upstream import UpstreamConnection

IDEMPOTENT: Final = frozenset(method.encode() for method in IDEMPOTENT_METHODS)
_RETRY_DELAY_S: Final = 0.05
_UNMATCHED_RETRIES: Final = 1
_draw = random.Random()


def connect_failed(exchange: Exchange, problem: Problem) -> None:
    """No connection: try once more (nothing was sent, so any method may), fall back, or say so."""
    if problem is errors.OVERLOADED:
        exchange.refuse(problem)
        return
    if exchange.retried_stale and exchange.reused:  # it did not get as far as being sent anew: that was no attempt
        exchange.reused = False
        exchange.attempts -= 1
    failed(exchange, problem)


def upstream_lost(exchange: Exchange, *, heard: bool, malformed: bool) -> None:
    """A kept connection may have been closed just before our request reached it: once more on a new one."""
    if exchange.phase is ANSWERING:
        _count(exchange, errors.TERMINATED)
        settle(exchange, Outcome.FAILURE)
        exchange.downstream.abort()
        exchange.finish(close=True)
    elif exchange.reused and not heard and not exchange.retried_stale and _take(exchange, "stale", stale=True):
        exchange.retried_stale = True
        if exchange.lane is not None and exchange.lane.pool is None:
            _elsewhere(exchange)
        else:
            exchange.connect()
    else:
        failed(exchange, errors.MALFORMED_ANSWER if malformed else errors.TERMINATED, answered=heard)


def failed(exchange: Exchange, problem: Problem, *, answered: bool = False, late: bool = False) -> None:
    """The attempt gave nothing. Once more, or the monolith, or the problem.

    `answered`: part of an answer was heard; `late`: so much time has passed that the same is not tried again.
    """
    _count(exchange, problem)
    settle(exchange, Outcome.FAILURE)
    if not late and _take(exchange, "connect" if exchange.phase is CONNECTING else "lost", answered=answered):
        _again(exchange)
    else:
        unserved(exchange, problem)


def unserved(exchange: Exchange, problem: Problem) -> None:
    """Its cluster cannot serve it: a safe request goes to the monolith where flag and route allow it."""
    if _falls_back(exchange):
        _fall_back(exchange)
    else:
        exchange.refuse(problem)


def replaced(exchange: Exchange, connection: UpstreamConnection, status: int) -> bool:
    """Throw away an answer that says that the upstream failed, where the monolith may answer instead."""
    if status not in UNAVAILABLE_STATUSES or not _falls_back(exchange):
        return False
    exchange.upstream = None
    connection.detach()
    name = exchange.decision.cluster.name
    exchange.context.metrics.count(UPSTREAM_ERRORS, cluster=name, error="http_response_incomplete")
    settle(exchange, Outcome.FAILURE)
    _fall_back(exchange)
    return True


def _take(exchange: Exchange, reason: str, *, answered: bool = False, stale: bool = False) -> bool:
    """Take a retry: the rules allow it, and the budget of the cluster has room."""
    route, lane = exchange.runtime.route, exchange.lane
    allowed = _UNMATCHED_RETRIES if route is None else route.retries
    verdict = may_retry(
        Failed(
            method=exchange.method.decode("ascii"),
            sent=exchange.sent,
            answered=answered,
            replayable=exchange.can_resend(),
            shared_key=route is not None and route.idempotency_key and _has_key(exchange),
            attempts_left=max(allowed, 1 if stale else 0) - exchange.attempts,
        )
    )
    if not verdict.allowed or lane is None:
        return False
    metrics = exchange.context.metrics
    if not lane.cluster.budget.take(monotonic()):
        metrics.count(RETRIES_REFUSED, cluster=exchange.decision.cluster.name, reason=Retry.BUDGET.name.lower())
        return False
    exchange.attempts += 1
    metrics.count(RETRIES, reason=reason)
    return True


def _has_key(exchange: Exchange) -> bool:
    return any(value and name.lower() == b"idempotency-key" for name, value in exchange.raw_fields)


def _again(exchange: Exchange) -> None:
    """Another endpoint at once; the same one a little later, so that a restarting server has its moment."""
    lane = exchange.lane
    assert lane is not None
    delay_s = 0.0 if len(lane.cluster.members) > 1 else _RETRY_DELAY_S * _draw.uniform(0.5, 1.5)
    exchange.phase = CONNECTING
    exchange.deadline = monotonic() + exchange.runtime.timeouts.connect_s + delay_s
    exchange.timer = exchange.context.loop.call_later(delay_s, _send_again, exchange)


def _elsewhere(exchange: Exchange) -> None:
    """Another endpoint at once: one that closed a kept connection may be about to leave. It has not failed by that."""
    member = exchange.member
    settle(exchange, Outcome.NEUTRAL)
    exchange.avoid = member
    _again(exchange)


def _send_again(exchange: Exchange) -> None:
    exchange.timer = None
    if exchange.phase is CONNECTING:
        exchange.send(exchange.decision)
        exchange.flush()


def _falls_back(exchange: Exchange) -> bool:
    flag, route = exchange.runtime.flag, exchange.runtime.route
    return (
        exchange.safe
        and flag is not None
        and route is not None
        and may_fall_back(
            flag,
            route,
            Unserved(
                method=exchange.method.decode("ascii"),
                origin=exchange.served_by,
                replayable=exchange.can_resend(),
                answered=exchange.phase is ANSWERING,
                fallen_back=exchange.fallen_back,
            ),
        )
    )


def _fall_back(exchange: Exchange) -> None:
    flag = exchange.runtime.flag
    exchange.fallen_back = True
    exchange.stale = flag is not None and may_be_stale(flag)
    exchange.avoid = None
    exchange.context.metrics.count(FALLBACKS, route=exchange.runtime.name)
    exchange.send(exchange.runtime.towards(Origin.MONOLITH, exchange.decision.reason))
    exchange.flush()


def _count(exchange: Exchange, problem: Problem) -> None:
    exchange.context.metrics.count(UPSTREAM_ERRORS, cluster=exchange.decision.cluster.name, error=problem.error)
