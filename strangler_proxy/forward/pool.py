"""Connections to upstreams: a bounded pool per endpoint, last used first; who waits is served in order of arrival."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.forward.errors import CONNECT_TIMEOUT, OVERLOADED, REFUSED, Problem
from strangler_proxy.forward.options import Options

if TYPE_CHECKING:
    from strangler_proxy.forward.upstream import UpstreamConnection


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
    """The pools of all endpoints, and the choice among a cluster's endpoints: least busy, in turn where equal."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._pools: dict[Endpoint, EndpointPool] = {}
        self._turn = 0

    def of(self, cluster: Cluster, avoid: EndpointPool | None = None) -> EndpointPool:
        """The pool to use; another one than `avoid` where the cluster has more than one."""
        endpoints = cluster.endpoints
        if len(endpoints) == 1:
            return self._pool(endpoints[0])
        pools = [pool for pool in map(self._pool, endpoints) if pool is not avoid]
        self._turn += 1
        start = self._turn % len(pools)
        return min(pools[start:] + pools[:start], key=lambda pool: pool.busy)

    def expire(self, now: float) -> None:
        """Close connections that were idle for too long."""
        for pool in self._pools.values():
            pool.expire(now)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def _pool(self, endpoint: Endpoint) -> EndpointPool:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = EndpointPool(endpoint, self.options)
        return pool
