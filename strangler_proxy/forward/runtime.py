"""What the data plane keeps per route and per flag, so that a request finds it ready made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strangler_proxy.core.breaker import Breaker, BreakerPolicy
from strangler_proxy.core.decision import Decision, Reason
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Access, Cluster, Route, Timeouts
from strangler_proxy.core.stage import STAGE_TABLE, Mirror, Origin, Serve
from strangler_proxy.core.table import CompiledRoute
from strangler_proxy.forward.gate import Gate
from strangler_proxy.forward.metrics import ForwardMetrics, Series

if TYPE_CHECKING:
    from strangler_proxy.core.rate import RateLimit
    from strangler_proxy.forward.cluster import ClusterState
    from strangler_proxy.forward.mirror_targets import Target
    from strangler_proxy.forward.pool import EndpointPool, Pools

_DECISIONS_KEPT = 4_096
_DECLARED_NONE = Timeouts()
_NEVER = BreakerPolicy(failures=0)
"""What no route matches has no breaker: one sick page would close all the others."""


class Lane:
    """Where one decision of a route leads: its cluster, its breaker and its numbers.

    `pool` is None where one of several endpoints has to be chosen.
    """

    __slots__ = ("breaker", "cluster", "decision", "pool", "series")

    def __init__(self, decision: Decision, cluster: ClusterState, breaker: Breaker, series: Series) -> None:
        self.decision = decision
        self.cluster = cluster
        self.breaker = breaker
        self.pool: EndpointPool | None = cluster.only.pool if cluster.only is not None else None
        self.series = series


class FlagRuntime:
    """Of one flag, across tables: held requests, and unsafe requests that are at an upstream."""

    __slots__ = ("gate", "key", "unsafe_in_flight")

    def __init__(self, key: str, gate: Gate) -> None:
        self.key = key
        self.gate = gate
        self.unsafe_in_flight = 0


class RouteRuntime:
    """Of one route, for the life of one table.

    `by_key`: does the decision look at the targeting key; `by_own_write`: can read-your-writes change it;
    `decided` remembers decisions by (method, targeting key), as long as neither override nor own write plays a part.
    """

    __slots__ = (
        "_towards",
        "by_key",
        "by_own_write",
        "compiled",
        "decided",
        "flag",
        "flag_line",
        "flag_runtime",
        "guarded",
        "killed",
        "lanes",
        "limit",
        "name",
        "route",
        "targets",
        "timeouts",
        "unrouted",
    )

    def __init__(self, name: str, timeouts: Timeouts) -> None:
        self.name = name
        self.timeouts = timeouts
        self.compiled: CompiledRoute | None = None
        self.route: Route | None = None
        self.flag: Flag | None = None
        self.flag_runtime: FlagRuntime | None = None
        self.flag_line = b""
        self.killed = False
        self.by_key = False
        self.by_own_write = False
        self.guarded = False
        self.limit: RateLimit | None = None
        self.unrouted: Decision | None = None
        self._towards: dict[tuple[Origin, Reason], Decision] = {}
        self.lanes: dict[int, Lane] = {}
        self.targets: dict[int, Target] = {}
        self.decided: dict[tuple[bytes, str], Decision] = {}

    def __repr__(self) -> str:
        return f"<RouteRuntime {self.name} flag={self.flag.key if self.flag else '-'}>"

    @classmethod
    def of(
        cls,
        compiled: CompiledRoute,
        flag_runtime: FlagRuntime,
        *,
        killed: bool,
        defaults: Timeouts,
        limit: RateLimit | None = None,
    ) -> RouteRuntime:
        """Of a matched route; `defaults` hold where the route declares no budgets of its own.

        `guarded`: is there anything to ask before a request may pass, its access or its rate?
        """
        route, flag = compiled.route, compiled.flag
        made = cls(route.name, defaults if route.timeouts == _DECLARED_NONE else route.timeouts)
        made.compiled = compiled
        made.route = route
        made.flag = flag
        made.flag_runtime = flag_runtime
        made.flag_line = b"X-Strangler-Flag: %b\r\n" % flag.key.encode()
        made.killed = killed
        row = STAGE_TABLE[flag.stage]
        lists = bool(flag.allow or flag.deny)
        made.by_key = lists or Serve.BY_WEIGHT in (row.safe, row.unsafe)
        follows_owner = row.safe is (Serve.MONOLITH if flag.owner is Origin.MONOLITH else Serve.EXTRACTED)
        made.by_own_write = flag.owns_data and (lists or not follows_owner)
        made.limit = limit
        made.guarded = route.access is not Access.PUBLIC or limit is not None
        return made

    @classmethod
    def unmatched(cls, cluster: Cluster, timeouts: Timeouts, *, mirrored: bool = False) -> RouteRuntime:
        """Of what no route matches: the default cluster serves it; `mirrored`: another one gets copies."""
        made = cls("-", timeouts)
        mirror = Origin.EXTRACTED if mirrored else None
        made.unrouted = Decision(serve=Origin.MONOLITH, cluster=cluster, mirror=mirror, reason=Reason.NO_ROUTE)
        return made

    def remember(self, key: tuple[bytes, str], decision: Decision) -> None:
        """Keep a decision; bounded."""
        if len(self.decided) >= _DECISIONS_KEPT:
            self.decided.clear()
        self.decided[key] = decision

    def lane(self, decision: Decision, pools: Pools, metrics: ForwardMetrics) -> Lane:
        """Where a decision leads; made once. Keyed by identity: decisions are interned, and the lane keeps its own."""
        found = self.lanes.get(id(decision))
        if found is None:
            policy = _NEVER if self.route is None else self.route.breaker
            found = self.lanes[id(decision)] = Lane(
                decision,
                pools.cluster(decision.cluster),
                pools.breaker(decision.cluster.name, self.name, policy),
                metrics.of_route(self.name, decision.serve.value if self.flag is not None else "-"),
            )
        return found

    def towards(self, origin: Origin, reason: Reason) -> Decision:
        """A decision for one origin, made outside of `decide`: a replay after a fence, or a fallback."""
        assert self.compiled is not None
        found = self._towards.get((origin, reason))
        if found is None:
            cluster = self.compiled.clusters[origin]
            mirrors = STAGE_TABLE[self.compiled.flag.stage].mirror is Mirror.OTHER
            mirror = origin.other if mirrors else None
            found = Decision(serve=origin, cluster=cluster, mirror=mirror, reason=reason)
            self._towards[origin, reason] = found
        return found
