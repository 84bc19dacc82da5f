"""What became of an attempt: its breaker, its endpoint and the counts of pending requests hear of it exactly once.

What `admission.enter` took in is settled when the answer's *body* has ended, or when the attempt is given up. A client
that leaves is NEUTRAL: it says nothing of the upstream.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from strangler_proxy.core.breaker import Outcome
from strangler_proxy.core.fallback import FAILED_STATUSES
from strangler_proxy.forward.metrics import BREAKER_OPENED, EJECTIONS
from strangler_proxy.forward.phase import CONNECTING

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.runtime import Lane

log = structlog.get_logger("strangler_proxy.forward")


def settle_answered(exchange: Exchange) -> None:
    """The answer has ended in full: its status says what it was."""
    lane = exchange.entered
    if lane is None:
        return
    breaker, member = lane.breaker, exchange.member
    if exchange.status in FAILED_STATUSES or not breaker.closed:
        settle(exchange, Outcome.FAILURE if exchange.status in FAILED_STATUSES else Outcome.SUCCESS)
        return
    exchange.entered = None
    lane.cluster.pending -= 1
    exchange.context.load.pending -= 1
    if breaker.generation == exchange.permit:
        breaker.successes += 1
    if member is not None and member.outlier.failures:
        member.outlier.failures = 0


def settle(exchange: Exchange, outcome: Outcome) -> None:
    """The attempt is over, one way or another. Harmless where nothing was entered."""
    lane, member = exchange.entered, exchange.member
    if lane is None:
        return
    exchange.entered = exchange.member = None
    exchange.avoid = member if outcome is Outcome.FAILURE else None
    lane.cluster.pending -= 1
    exchange.context.load.pending -= 1
    now = monotonic()
    _report(exchange, lane, outcome, now)
    if member is None or outcome is Outcome.NEUTRAL:
        return
    if outcome is Outcome.SUCCESS:
        member.outlier.failures = 0
        return
    before = member.ejections
    lane.cluster.failed(member, now, unreachable=exchange.phase is CONNECTING)
    if member.ejections != before:
        exchange.context.metrics.count(EJECTIONS, cluster=member.cluster_name, why="outlier")


def _report(exchange: Exchange, lane: Lane, outcome: Outcome, now: float) -> None:
    breaker = lane.breaker
    before = breaker.state
    breaker.report(exchange.permit, outcome, now)
    if breaker.state is before:
        return
    names = {"cluster": lane.cluster.cluster.name, "route": exchange.runtime.name}
    if breaker.closed:
        log.info("breaker.closed", **names)
    else:
        exchange.context.metrics.count(BREAKER_OPENED, **names)
        log.warning("breaker.opened", **names, seconds=breaker.policy.open_s)
