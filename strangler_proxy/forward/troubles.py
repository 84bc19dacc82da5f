"""Which upstreams are sick right now, for the heartbeat (and so for `strangler status`) and for the metrics."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.forward.metrics import BREAKER_OPEN, EJECTED, PENDING, ForwardMetrics

if TYPE_CHECKING:
    from strangler_proxy.forward.mirror import Mirror
    from strangler_proxy.forward.pool import Pools

MOST_TOLD: Final = 32
"""Of each kind; a heartbeat stays small."""


def sick_upstreams(pools: Pools, mirror: Mirror | None = None) -> dict[str, list[str]]:
    """`breakers`: "CLUSTER/ROUTE open|half-open"; `ejected`: "CLUSTER HOST:PORT outlier|probe".

    Of the mirror: `unmirrored`: "CLUSTER"; `unproven`: "FLAG HOST:PORT", to which no write is mirrored any more.
    Empty where all is well.
    """
    now = monotonic()
    breakers = [
        f"{cluster}/{route} {breaker.state.value}"
        for (cluster, route), breaker in pools.breakers().items()
        if not breaker.closed
    ]
    ejected = [
        f"{member.cluster_name} {member.pool.endpoint} {why}"
        for member in pools.members()
        if (why := member.why_out(now))
    ]
    found = {"breakers": sorted(breakers)[:MOST_TOLD], "ejected": sorted(ejected)[:MOST_TOLD]}
    if mirror is not None:
        paused = {each.cluster.name for each in mirror.targets.clusters.values() if not each.breaker.closed}
        found["unmirrored"] = sorted(paused)[:MOST_TOLD]
        found["unproven"] = mirror.proofs.lost(now)[:MOST_TOLD]
    return {kind: names for kind, names in found.items() if names}


def show_gauges(pools: Pools, metrics: ForwardMetrics) -> None:
    """Set the gauges of clusters, breakers and endpoints to what they are now."""
    now = monotonic()
    for name in (BREAKER_OPEN, EJECTED, PENDING):
        metrics.drop_gauges(name)
    for (cluster, route), breaker in pools.breakers().items():
        metrics.gauge(BREAKER_OPEN, not breaker.closed, cluster=cluster, route=route)
    for state in pools.clusters():
        metrics.gauge(PENDING, state.pending, cluster=state.cluster.name)
    for member in pools.members():
        labels = {"cluster": member.cluster_name, "endpoint": str(member.pool.endpoint)}
        metrics.gauge(EJECTED, bool(member.why_out(now)), **labels)
