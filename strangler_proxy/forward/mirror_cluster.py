"""One cluster as the mirror sees it: its queue, its own few connections, its deadline and its breaker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from strangler_proxy.core.breaker import REFUSED, Breaker, Outcome
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.forward.mirror_connection import Errand, MirrorConnection, Reply
from strangler_proxy.forward.mirror_options import (
    CANDIDATE_DOWN,
    NO_PROOF,
    STOPPED,
    TOO_LONG,
    MirrorOptions,
)
from strangler_proxy.forward.repeated import Repeated

if TYPE_CHECKING:
    from strangler_proxy.forward.mirror_memory import Memory

log = structlog.get_logger("strangler_proxy.forward")


_AT_ONCE: Final = 64
"""Errands that are sent or dropped in one turn of the loop."""


class MirrorCluster:
    """Sends errands in order, `connection_limit` at once; never more than one request of them on a connection."""

    def __init__(
        self, cluster: Cluster, options: MirrorOptions, memory: Memory, failed: Callable[[str, Failure], None]
    ) -> None:
        self.cluster = cluster
        self.options = options
        self.answer_bytes = options.answer_bytes
        self.repeated = Repeated()
        self.breaker = Breaker(options.breaker)
        self.queue: deque[Errand] = deque()
        self.busy: set[MirrorConnection] = set()
        self.forgotten = False
        """No table names it any more: nothing is sent there."""
        self._failed = failed
        self._memory = memory
        self._connecting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: dict[Endpoint, list[MirrorConnection]] = {endpoint: [] for endpoint in cluster.endpoints}
        self._only = cluster.endpoints[0] if len(cluster.endpoints) == 1 else None
        self._only_idle = self._idle[cluster.endpoints[0]]
        self._turn = 0

    def __repr__(self) -> str:
        return f"<MirrorCluster {self.cluster.name} queued={len(self.queue)} under_way={self.under_way}>"

    @property
    def under_way(self) -> int:
        """Errands that were sent, or wait for a connection to be made."""
        return len(self.busy) + self._connecting

    @property
    def is_idle(self) -> bool:
        """Is there nothing left of it, not even a connection?"""
        return not (self.queue or self.busy or self._connecting or any(self._idle.values()))

    def put(self, errand: Errand) -> None:
        """Let it wait for its turn; `pump` sends it."""
        self._memory.waiting += 1
        self.queue.append(errand)

    def pump(self) -> None:
        """Send what waits, as far as there is room: so much in one turn of the loop that requests never notice."""
        queue, limit = self.queue, self.options.connection_limit
        for _ in range(_AT_ONCE):
            if not queue or len(self.busy) + self._connecting >= limit:
                return
            self._memory.waiting -= 1
            self._start(queue.popleft())
        asyncio.get_running_loop().call_soon(self.pump)

    def ended(self, connection: MirrorConnection, errand: Errand, *, reusable: bool) -> None:
        """An answer is whole, or will never be."""
        self.busy.discard(connection)
        reply, breaker = connection.reply, self.breaker
        if reply.failure is None and breaker.closed:
            if breaker.generation == connection.permit:
                breaker.successes += 1
        else:
            self._report(connection.permit, reply.failure)
        if reply.held:
            self._memory.release(reply.held)
            reply.held = 0
        if reusable:
            connection.idle.append(connection)
        errand.replied(reply)
        if self.queue:
            self.pump()

    def abandoned(self, connection: MirrorConnection, errand: Errand, reason: str) -> None:
        """An answer is not waited for any more."""
        self.busy.discard(connection)
        self.breaker.report(connection.permit, Outcome.NEUTRAL, monotonic())
        self._memory.release(connection.reply.held)
        errand.dropped(reason)
        if self.queue:
            self.pump()

    def stale(self, connection: MirrorConnection, errand: Errand) -> None:
        """A kept connection was closed just before the copy reached it: once more, on a new one."""
        self.busy.discard(connection)
        self._connect(errand, connection.endpoint, connection.permit, connection.until, again=True)

    def lost(self, connection: MirrorConnection) -> None:
        """A connection is gone."""
        if connection in connection.idle:
            connection.idle.remove(connection)

    def hold(self, reply: Reply) -> bool:
        """Count what was read of an answer that is not whole yet; False where there is no room for it."""
        more = reply.size - reply.held
        if not self._memory.take(more):
            return False
        reply.held = reply.size
        return True

    def sweep(self, now: float) -> None:
        """Give up what takes too long, close what is idle for too long."""
        self.breaker.roll(now)
        for connection in [each for each in self.busy if now >= each.until]:
            connection.give_up(Failure.TIMEOUT)
        late = now - self.options.deadline_s
        for _ in range(_AT_ONCE):
            if not self.queue or self.queue[0].queued_at >= late:
                break
            self._next().dropped(TOO_LONG)
        stale = now - self.options.keep_alive_s
        for idle in self._idle.values():
            for connection in [each for each in idle if each.idle_since < stale]:
                idle.remove(connection)
                connection.transport.close()
        self.pump()

    async def close(self) -> None:
        """Drop what waits, break what is under way."""
        while self.queue:
            self._next().dropped(STOPPED)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.busy):
            connection.abandon(STOPPED)
        for idle in self._idle.values():
            for connection in list(idle):
                connection.transport.abort()
            idle.clear()

    def _next(self) -> Errand:
        self._memory.waiting -= 1
        return self.queue.popleft()

    def _start(self, errand: Errand) -> None:
        breaker = self.breaker
        permit = breaker.generation if breaker.closed else breaker.ask(monotonic())
        if permit == REFUSED:
            errand.dropped(CANDIDATE_DOWN)
            return
        endpoint = self._only
        if endpoint is None or not errand.safe:
            endpoint = self._choose(errand)
        if endpoint is None:
            breaker.report(permit, Outcome.NEUTRAL, monotonic())
            errand.dropped(NO_PROOF)
            return
        idle = self._only_idle if endpoint is self._only else self._idle[endpoint]
        while idle:
            connection = idle.pop()
            if not connection.closed:
                self.busy.add(connection)
                connection.begin(errand, permit)
                return
        self._connect(errand, endpoint, permit, monotonic() + self.options.deadline_s, again=False)

    def _choose(self, errand: Errand) -> Endpoint | None:
        if self._only is not None:
            return self._only if errand.fits(self._only) else None
        endpoints = [each for each in self.cluster.endpoints if errand.fits(each)]
        if not endpoints:
            return None
        self._turn += 1
        return endpoints[self._turn % len(endpoints)]

    def _connect(self, errand: Errand, endpoint: Endpoint, permit: int, until: float, *, again: bool) -> None:
        self._connecting += 1
        task = asyncio.get_running_loop().create_task(self._connected(errand, endpoint, permit, until, again))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, errand: Errand, endpoint: Endpoint, permit: int, until: float, again: bool) -> None:
        failure = Failure.REFUSED
        try:
            async with asyncio.timeout(min(self.options.connect_s, until - monotonic())):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: MirrorConnection(self, endpoint, self._idle[endpoint]), endpoint.host, endpoint.port
                )
        except asyncio.CancelledError:
            self._connecting -= 1
            self.breaker.report(permit, Outcome.NEUTRAL, monotonic())
            errand.dropped(STOPPED)
            raise
        except TimeoutError:
            failure = Failure.TIMEOUT
        except (OSError, UnicodeError):  # a name that is none
            failure = Failure.REFUSED
        else:
            self._connecting -= 1
            if not connection.closed:
                self.busy.add(connection)
                connection.begin(errand, permit, until, again=again)
                return
            self._connecting += 1
        self._connecting -= 1
        self._report(permit, failure)
        reply = Reply(endpoint)
        reply.failure = failure
        errand.replied(reply)
        self.pump()

    def _report(self, permit: int, failure: Failure | None) -> None:
        breaker = self.breaker
        before = breaker.state
        breaker.report(permit, Outcome.SUCCESS if failure is None else Outcome.FAILURE, monotonic())
        if failure is not None:
            self._failed(self.cluster.name, failure)
        if breaker.state is before:
            return
        if breaker.closed:
            log.info("mirror.resumed", cluster=self.cluster.name)
        elif failure is not None:
            log.warning(
                "mirror.paused",
                cluster=self.cluster.name,
                failure=failure.value,
                seconds=breaker.policy.open_s,
            )
