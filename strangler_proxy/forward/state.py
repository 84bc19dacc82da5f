"""What one proxy process knows: table, kill switches, clocks, gates. The follower feeds it, the engine reads it.

Everything here runs on the event loop's thread and nothing awaits, so that a reader never sees half of a change.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.epoch import Ownership, newer
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.rate import RateLimit
from strangler_proxy.core.route import Route
from strangler_proxy.core.table import CompiledRoute, RoutingTable
from strangler_proxy.forward.gate import Gate
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.runtime import FlagRuntime, RouteRuntime

if TYPE_CHECKING:
    from strangler_proxy.core.signing import Signer
    from strangler_proxy.forward.own_writes import OwnWrites

KILL_ALL: Final = "*"
_MATCHES_KEPT: Final = 4_096


class ProxyState:
    """The meeting point of the follower (writes) and the engine (reads)."""

    def __init__(
        self,
        table: RoutingTable,
        *,
        options: Options,
        signer: Signer | None,
        own_writes: OwnWrites,
        mirrors_unmatched: bool = False,
    ) -> None:
        self.table = table
        self.mirrors_unmatched = mirrors_unmatched
        """Does somebody get copies of what no route matches?"""
        self.killed: frozenset[str] = frozenset()
        self.options = options
        self.signer = signer
        self.own_writes = own_writes
        self.on_learned: Callable[[str, Ownership], None] = lambda flag, ownership: None
        self.replicated: dict[str, float] = {}
        self.sick_upstreams: Callable[[], Mapping[str, list[str]]] = dict
        """Set by the engine: what breakers and ejections say now, for the heartbeat."""
        self.kept_bytes = 0
        """Request bodies kept for a replay, all together."""
        self._clock_offset_s = 0.0
        self._flags: dict[str, FlagRuntime] = {}
        self._limits: dict[str, RateLimit] = {}
        self._adopt(table)

    def swap(self, table: RoutingTable) -> None:
        """Serve another table from now on. What fences taught since is kept where its epoch is newer.

        Flags that are not held any more release their waiting requests, in order, before this returns.
        """
        for key, old in self.table.flags.items():
            table = table.with_ownership(key, Ownership(owner=old.owner, epoch=old.owner_epoch))
        self._adopt(table)
        for key, runtime in list(self._flags.items()):
            flag = table.flags.get(key)
            if len(runtime.gate) and (flag is None or flag.hold is None):
                runtime.gate.release()

    def learned(self, flag_key: str, told: Ownership) -> None:
        """A fence told of a grant: take it over, and have it persisted, where it is newer than the table's."""
        flag = self.table.flags.get(flag_key)
        if flag is None:
            return
        known = Ownership(owner=flag.owner, epoch=flag.owner_epoch)
        if newer(known, told) is known:
            return
        self._adopt(self.table.with_ownership(flag_key, told))
        self.on_learned(flag_key, told)

    def set_killed(self, flags: frozenset[str]) -> None:
        """Flag keys whose kill switch is on; `*` stands for all of them."""
        if flags != self.killed:
            self.killed = flags
            self._adopt(self.table)

    def is_killed(self, flag_key: str) -> bool:
        """Is the kill switch of a flag on?"""
        return bool(self.killed) and (flag_key in self.killed or KILL_ALL in self.killed)

    def note_clock(self, clock: dt.datetime) -> None:
        """The control database's clock, just read: the time of read-your-writes marks."""
        self._clock_offset_s = clock.timestamp() - time.time()

    def now(self) -> float:
        """Unix seconds by the control database's clock, as far as it is known."""
        return time.time() + self._clock_offset_s

    def note_replicated(self, through: Mapping[str, dt.datetime]) -> None:
        """How far the copies are complete, by flag key."""
        for key, at in through.items():
            self.replicated[key] = at.timestamp()

    def unsafe_in_flight(self) -> dict[str, int]:
        """Of every held flag: unsafe requests that were sent on before the hold and have not ended."""
        return {key: self.flag_runtime(key).unsafe_in_flight for key in self._held()}

    def holding(self) -> dict[str, int]:
        """Of every held flag: requests that wait."""
        return {key: len(self.flag_runtime(key).gate) for key in self._held()}

    def flag_runtime(self, key: str) -> FlagRuntime:
        """What is kept of a flag across tables: its gate and its count of unsafe requests in flight."""
        runtime = self._flags.get(key)
        if runtime is None:
            runtime = self._flags[key] = FlagRuntime(key, Gate(self.options.hold_limit))
        return runtime

    def route_runtime(self, compiled: CompiledRoute | None) -> RouteRuntime:
        """What is kept of a route for as long as its table is served; of unmatched requests for None."""
        if compiled is None:
            return self.unmatched
        name = compiled.route.name
        runtime = self._routes.get(name)
        if runtime is None:
            runtime = self._routes[name] = RouteRuntime.of(
                compiled,
                self.flag_runtime(compiled.flag.key),
                killed=self.is_killed(compiled.flag.key),
                defaults=self.options.timeouts,
                limit=self._rate_limit(compiled.route),
            )
        return runtime

    def _rate_limit(self, route: Route) -> RateLimit | None:
        """The buckets of a route outlive its table, as long as its rate is the same."""
        rate, known = route.rate, self._limits.get(route.name)
        if rate is None:
            return None
        if known is None or known.rate != rate:
            known = self._limits[route.name] = RateLimit(rate)
        return known

    def remember_match(self, key: tuple[bytes, bytes, bytes], runtime: RouteRuntime) -> None:
        """Keep what (method, host, target) matched, for this table; bounded."""
        if len(self.matches) >= _MATCHES_KEPT:
            self.matches.clear()
        self.matches[key] = runtime

    def _held(self) -> list[str]:
        return [key for key, flag in self.table.flags.items() if flag.hold is not None]

    def _adopt(self, table: RoutingTable) -> None:
        self.table = table
        self.matches: dict[tuple[bytes, bytes, bytes], RouteRuntime] = {}
        self._routes: dict[str, RouteRuntime] = {}
        self.unmatched = RouteRuntime.unmatched(
            table.default_cluster, self.options.timeouts, mirrored=self.mirrors_unmatched
        )
        self.asks_headers = any(route.headers for route in table.routes)
        self.asks_query = any(route.query for route in table.routes)
        limited = {route.name for route in table.routes if route.rate is not None}
        self._limits = {name: limit for name, limit in self._limits.items() if name in limited}
        for key, flag in table.flags.items():
            self._seed_replicated(key, flag)

    def _seed_replicated(self, key: str, flag: Flag) -> None:
        if flag.replicated_through is not None:
            self.replicated.setdefault(key, flag.replicated_through.timestamp())
