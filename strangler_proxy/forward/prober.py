"""Active probes of clusters that ask for them: tasks and connections of their own, nothing that a request waits for."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.forward.cluster import ClusterState, Member
from strangler_proxy.forward.metrics import EJECTIONS, ForwardMetrics

if TYPE_CHECKING:
    from strangler_proxy.core.route import Endpoint
    from strangler_proxy.forward.pool import Pools
    from strangler_proxy.forward.state import ProxyState

LOOK_S: Final = 0.1
_LONGEST_LINE: Final = 1_024


class Prober:
    """Asks every endpoint of every cluster with a probe, one question at a time each."""

    def __init__(self, state: ProxyState, pools: Pools, metrics: ForwardMetrics) -> None:
        self._state = state
        self._pools = pools
        self._metrics = metrics
        self._due: dict[Member, float] = {}
        self._asking: dict[Member, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self._ask_who_is_due(monotonic())
                await asyncio.sleep(LOOK_S)
        finally:
            tasks = list(self._asking.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ask_who_is_due(self, now: float) -> None:
        due: dict[Member, float] = {}
        for cluster in self._state.table.clusters.values():
            if cluster.probe is None:
                continue
            state = self._pools.cluster(cluster)
            for member in state.members:
                at = self._due.get(member, now)
                if now >= at and member not in self._asking:
                    at = now + cluster.probe.interval_s
                    task = asyncio.create_task(self._ask(state, member, cluster.probe))
                    self._asking[member] = task
                    task.add_done_callback(partial(self._asked, member))
                due[member] = at
        self._due = due

    def _asked(self, member: Member, _: asyncio.Task[None]) -> None:
        self._asking.pop(member, None)

    async def _ask(self, state: ClusterState, member: Member, policy: ProbePolicy) -> None:
        good = await answers_well(member.pool.endpoint, policy)
        before = member.ejections
        state.probed(member, good)
        if member.ejections != before:
            self._metrics.count(EJECTIONS, cluster=member.cluster_name, why="probe")


async def answers_well(endpoint: Endpoint, policy: ProbePolicy) -> bool:
    """Ask one endpoint once, on a connection of its own: does it answer 2xx in time?"""
    writer = None
    try:
        async with asyncio.timeout(policy.timeout_s):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, limit=_LONGEST_LINE)
            host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
            writer.write(
                f"GET {policy.path} HTTP/1.1\r\nHost: {host}:{endpoint.port}\r\n"
                "User-Agent: strangler-probe\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            line = await reader.readline()
            return line[:7] == b"HTTP/1." and line[8:10] == b" 2" and line.endswith(b"\n")
    except (TimeoutError, OSError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()
