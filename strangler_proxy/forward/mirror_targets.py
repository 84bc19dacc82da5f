"""Where copies go: the clusters of candidates, by the table that is served."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from strangler_proxy.core.bucketing import BUCKETS, bucket
from strangler_proxy.core.decision import Decision
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Pair, Side
from strangler_proxy.core.route import Cluster
from strangler_proxy.core.shadow_wire import valid_flag
from strangler_proxy.core.stage import Origin
from strangler_proxy.forward.mirror_cluster import MirrorCluster
from strangler_proxy.forward.mirror_memory import Memory
from strangler_proxy.forward.mirror_options import MirrorOptions

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.runtime import RouteRuntime
    from strangler_proxy.forward.state import ProxyState


class Target:
    """Where the copies of one decision go. `sample` 0..10000 of its requests; `flag` empty where no table names one.

    `named`: the flag as marks name it, empty too where its name is one that no mark can carry.
    It keeps its decision alive, because it is found by the decision's identity.
    """

    __slots__ = ("cluster", "decision", "flag", "named", "route", "salt", "sample")

    def __init__(
        self, decision: Decision, cluster: MirrorCluster, *, flag: str, route: str, salt: str, sample: int
    ) -> None:
        self.decision = decision
        self.cluster = cluster
        self.flag = flag
        self.named = named_in_marks(flag)
        self.route = route
        self.salt = salt
        self.sample = sample


def named_in_marks(flag: str) -> str:
    """A flag as marks name it: empty where they cannot."""
    return flag if valid_flag(flag) else ""


class Targets:
    """Finds and keeps them. `failures` counts by (cluster, failure)."""

    def __init__(self, state: ProxyState, options: MirrorOptions, memory: Memory) -> None:
        self.clusters: dict[Cluster, MirrorCluster] = {}
        self.failures: dict[tuple[str, str], int] = {}
        self._state = state
        self._options = options
        self._memory = memory
        self._draw = random.Random().random
        self._routes: tuple[object, Mapping[str, dict[Origin, str]]] = (None, {})

    @property
    def under_way(self) -> int:
        """Copies that were sent and not answered yet."""
        return sum(cluster.under_way for cluster in self.clusters.values())

    def find(self, runtime: RouteRuntime, decision: Decision) -> Target | None:
        """Where copies of a decision go, worked out once; None where nobody gets any."""
        found = runtime.targets.get(id(decision))
        return found if found is not None or decision.mirror is None else self._make(runtime, decision, decision.mirror)

    def _make(self, runtime: RouteRuntime, decision: Decision, origin: Origin) -> Target | None:
        compiled, options = runtime.compiled, self._options
        if compiled is None:
            cluster, flag, route, salt, sample = options.candidate, "", "", "", BUCKETS
        else:
            declared = compiled.route.mirror_sample
            cluster, flag, route = compiled.clusters[origin], compiled.flag.key, compiled.route.name
            salt = f"{compiled.flag.salt}/mirror"
            sample = compiled.flag.mirror_sample if declared is None else declared
        if cluster is None or not cluster.endpoints:
            return None
        sample = sample * options.share // BUCKETS
        target = Target(decision, self.cluster(cluster), flag=flag, route=route, salt=salt, sample=sample)
        runtime.targets[id(decision)] = target
        return target

    def has_sampled(self, exchange: Exchange, target: Target) -> bool:
        """Is a request in the sample of its target?"""
        if target.sample >= BUCKETS:
            return True
        if self._options.sticky:
            return bucket(target.salt, exchange.context.router.targeting_key(exchange)) < target.sample
        return self._draw() * BUCKETS < target.sample

    def cluster(self, cluster: Cluster) -> MirrorCluster:
        """What the mirror keeps of a declared cluster."""
        found = self.clusters.get(cluster)
        if found is None:
            found = self.clusters[cluster] = MirrorCluster(cluster, self._options, self._memory, self._failed)
        return found

    def of_side(self, pair: Pair, side: Side) -> MirrorCluster | None:
        """Who serves a side of a pair now; None where the table names nobody any more."""
        table = self._state.table
        if not pair.route:
            declared = table.default_cluster if side is Side.CONTROL else self._options.candidate
        else:
            if self._routes[0] is not table:
                self._routes = (table, {route.name: route.clusters for route in table.routes})
            origin = pair.control_origin if side is Side.CONTROL else pair.control_origin.other
            declared = table.clusters.get(self._routes[1].get(pair.route, {}).get(origin, ""))
        return None if declared is None else self.cluster(declared)

    def sweep(self, now: float) -> None:
        """Look at deadlines, and forget clusters that no table names."""
        for cluster in list(self.clusters.values()):
            cluster.sweep(now)
            if cluster.is_idle and not self._is_declared(cluster.cluster):
                cluster.forgotten = True
                del self.clusters[cluster.cluster]

    async def clear(self) -> None:
        """Drop what waits, break what is under way."""
        for cluster in list(self.clusters.values()):
            await cluster.close()
        await asyncio.sleep(0)

    async def drain(self, seconds: float) -> None:
        """Wait until nothing waits and nothing is under way, for `seconds` at most."""
        until = monotonic() + seconds
        while (self._memory.waiting or self.under_way) and monotonic() < until:  # noqa: ASYNC110 -- once, when leaving
            await asyncio.sleep(0.02)

    def pump(self) -> None:
        """Send what waits, as far as there is room."""
        for cluster in self.clusters.values():
            if cluster.queue:
                cluster.pump()

    def _is_declared(self, cluster: Cluster) -> bool:
        table = self._state.table
        return (
            cluster in (self._options.candidate, table.default_cluster) or table.clusters.get(cluster.name) == cluster
        )

    def _failed(self, cluster: str, failure: Failure) -> None:
        key = (cluster, failure.value)
        self.failures[key] = self.failures.get(key, 0) + 1
