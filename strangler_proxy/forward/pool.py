"""Connections to upstreams: a bounded pool per endpoint, last used first; who waits is served in order of arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from strangler_proxy.core.breaker import Breaker, BreakerPolicy
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.forward.cluster import ClusterState, Member
from strangler_proxy.forward.errors import CONNECT_TIMEOUT, OVERLOADED, REFUSED, Problem
from strangler_proxy.forward.options import Options

if TYPE_CHECKING:
    from strangler_proxy.forward.upstream import UpstreamConnection

_ROLL_S = 1.0


class Caller(Protocol):
    """A request that wants a connection. It gets exactly one of the two calls, unless it was forgotten before."""

    def attach(self, connection: UpstreamConnection, *, reused: bool) -> None:
        """Here is your connection."""
        ...

    def flush(self) -> None:
        """Write what is there to be written."""
        ...

    def connect_failed(self, problem: Problem) -> None:
        """There is none to be had."""
        ...


class EndpointPool:
    """Connections to one endpoint. `pending` counts requests that have, or wait for, one of them."""

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self.endpoint = endpoint
        self.options = options
        self.idle: list[UpstreamConnection] = []
        self.open = 0
        self._waiting: dict[Caller, float] = {}
        self._connecting: dict[Caller, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<EndpointPool open={self.open} idle={len(self.idle)} waiting={len(self._waiting)}>"

    @property
    def busy(self) -> int:
        """Connections in use and requests that wait."""
        return self.open - len(self.idle) + len(self._waiting)

    def take(self) -> UpstreamConnection | None:
        """An idle connection, the one used last; None if there is none."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def connect(self, caller: Caller, timeout_s: float) -> None:
        """Open a connection for a request, or let it wait for one; `connect_failed` where too many wait already."""
        if self.open < self.options.pool_limit:
            self._begin(caller, timeout_s)
        elif len(self._waiting) < self.options.pool_wait_limit:
            self._waiting[caller] = timeout_s
        else:
            caller.connect_failed(OVERLOADED)

    def forget(self, caller: Caller) -> None:
        """A request does not want its connection any more."""
        self._waiting.pop(caller, None)
        self._connecting.pop(caller, None)

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back that can be used again; whoever waits longest gets it."""
        if self._waiting:
            caller = next(iter(self._waiting))
            del self._waiting[caller]
            caller.attach(connection, reused=True)
            caller.flush()
        else:
            self.idle.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        self._let_next_connect()

    def expire(self, now: float) -> None:
        """Close connections that were idle for too long (before the upstream does it)."""
        limit = now - self.options.upstream_keep_alive_s
        for connection in [c for c in self.idle if c.idle_since < limit]:
            self.idle.remove(connection)
            connection.transport.close()

    async def close(self) -> None:
        """Close everything."""
        for connection in list(self.idle):
            connection.transport.close()
        self.idle.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, caller: Caller, timeout_s: float) -> None:
        self.open += 1
        task = asyncio.get_running_loop().create_task(self._connect(caller, timeout_s))
        self._connecting[caller] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, caller: Caller, timeout_s: float) -> None:
        from strangler_proxy.forward.upstream import UpstreamConnection

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), self.endpoint.host, self.endpoint.port
                )
        except TimeoutError:
            self.open -= 1
            self._failed(caller, CONNECT_TIMEOUT)
        except OSError:
            self.open -= 1
            self._failed(caller, REFUSED)
        except asyncio.CancelledError:
            self.open -= 1
            raise
        else:
            if connection.closed:
                self._failed(caller, REFUSED)
            elif self._connecting.pop(caller, None) is None:
                self.release(connection)
            else:
                caller.attach(connection, reused=False)
                caller.flush()

    def _failed(self, caller: Caller, problem: Problem) -> None:
        wanted = self._connecting.pop(caller, None) is not None
        if wanted:
            caller.connect_failed(problem)
        self._let_next_connect()

    def _let_next_connect(self) -> None:
        if self._waiting and self.open < self.options.pool_limit:
            caller = next(iter(self._waiting))
            self._begin(caller, self._waiting.pop(caller))


class Pools:
    """The pools of all endpoints, and what is known of clusters and breakers, across tables."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._pools: dict[Endpoint, EndpointPool] = {}
        self._clusters: dict[Cluster, ClusterState] = {}
        self._members: dict[tuple[str, Endpoint], Member] = {}
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._known: Mapping[str, Cluster] = {}
        self._rolled_at = 0.0

    def cluster(self, cluster: Cluster) -> ClusterState:
        """The state of a declared cluster. Endpoints that it had under another declaration keep theirs."""
        found = self._clusters.get(cluster)
        if found is None:
            known = any(name == cluster.name for name, _ in self._members)
            since = monotonic() if known else float("-inf")
            members = tuple(self._member(cluster.name, endpoint, since) for endpoint in cluster.endpoints)
            found = self._clusters[cluster] = ClusterState(cluster, members)
        return found

    def clusters(self) -> tuple[ClusterState, ...]:
        """All clusters in use."""
        return tuple(self._clusters.values())

    def members(self) -> tuple[Member, ...]:
        """All endpoints of all clusters in use."""
        return tuple(self._members.values())

    def breaker(self, cluster_name: str, route_name: str, policy: BreakerPolicy) -> Breaker:
        """The breaker of a route at a cluster; the newest policy holds."""
        found = self._breakers.get((cluster_name, route_name))
        if found is None:
            found = self._breakers[cluster_name, route_name] = Breaker(policy)
        found.policy = policy
        return found

    def breakers(self) -> Mapping[tuple[str, str], Breaker]:
        """All breakers by the names of cluster and route."""
        return self._breakers

    def sweep(self, now: float, declared: Mapping[str, Cluster]) -> None:
        """Close connections that were idle for too long, let endpoints in again, forget what is declared no more."""
        for pool in self._pools.values():
            pool.expire(now)
        for state in self._clusters.values():
            state.sweep(now)
        if now - self._rolled_at >= _ROLL_S:
            self._rolled_at = now
            for breaker in self._breakers.values():
                breaker.roll(now)
        if self._known is not declared:
            self._known = declared
            self._forget(declared)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def _member(self, cluster_name: str, endpoint: Endpoint, since: float) -> Member:
        key = (cluster_name, endpoint)
        found = self._members.get(key)
        if found is None:
            found = self._members[key] = Member(cluster_name, self._pool(endpoint), since)
        return found

    def _pool(self, endpoint: Endpoint) -> EndpointPool:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = EndpointPool(endpoint, self.options)
        return pool

    def _forget(self, declared: Mapping[str, Cluster]) -> None:
        """Requests under way keep what they hold; nobody else finds it any more."""
        self._clusters = {each: state for each, state in self._clusters.items() if declared.get(each.name) == each}
        ends = {(name, endpoint) for name, cluster in declared.items() for endpoint in cluster.endpoints}
        self._members = {key: member for key, member in self._members.items() if key in ends}
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key[0] in declared}
        used = {endpoint for _, endpoint in ends}
        self._pools = {each: pool for each, pool in self._pools.items() if each in used or pool.open}
