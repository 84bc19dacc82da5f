"""Before a request goes to a cluster: is there room, does its breaker let it, and is there an endpoint?"""

from __future__ import annotations

from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from strangler_proxy.core.breaker import REFUSED, Outcome
from strangler_proxy.forward import errors, retry
from strangler_proxy.forward.metrics import SHED
from strangler_proxy.forward.settling import settle

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.pool import EndpointPool
    from strangler_proxy.forward.runtime import Lane


class Load:
    """Requests that are at upstreams or wait for a connection, all clusters together, and how many may be."""

    __slots__ = ("limit", "pending")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pending = 0


def enter(exchange: Exchange, lane: Lane) -> EndpointPool | None:
    """Take the request in at its cluster: the pool to use. None where it was refused, or sent elsewhere, at once.

    What was entered is settled once (`settling.settle`), and again entered for another attempt.
    """
    cluster, breaker, load = lane.cluster, lane.breaker, exchange.context.load
    if cluster.pending >= cluster.limit or load.pending >= load.limit:
        scope = "cluster" if cluster.pending >= cluster.limit else "all"
        exchange.context.metrics.count(SHED, cluster=cluster.cluster.name, scope=scope)
        exchange.pool = None
        exchange.refuse(errors.OVERLOADED)
        return None
    if breaker.closed:
        exchange.permit = breaker.generation
    else:
        now = monotonic()
        exchange.permit = breaker.ask(now)
        if exchange.permit == REFUSED:
            exchange.pool = None
            exchange.retry_after_s = ceil(breaker.wait_s(now))
            retry.unserved(exchange, errors.BREAKER_OPEN)
            return None
    exchange.entered = lane
    cluster.pending += 1
    load.pending += 1
    if not exchange.attempts:
        cluster.budget.requests += 1
    return lane.pool or _pool_of_several(exchange, lane)


def _pool_of_several(exchange: Exchange, lane: Lane) -> EndpointPool | None:
    member = exchange.member = lane.cluster.choose(exchange.avoid)
    if member is None:
        settle(exchange, Outcome.NEUTRAL)
        exchange.pool = None
        retry.unserved(exchange, errors.NO_ENDPOINT)
        return None
    return member.pool
