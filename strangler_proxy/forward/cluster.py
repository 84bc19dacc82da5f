"""What one proxy process knows of a cluster: its endpoints' state, what is pending, and whose turn it is.

An endpoint's state and a breaker outlive the table that declared them, so that a flip does not forget who is sick.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from strangler_proxy.core.balance import Balance, pick, start_weight
from strangler_proxy.core.outlier import Outlier, note_failure
from strangler_proxy.core.probe import Probed
from strangler_proxy.core.retry import Budget
from strangler_proxy.core.route import Cluster

if TYPE_CHECKING:
    from strangler_proxy.forward.pool import EndpointPool

log = structlog.get_logger("strangler_proxy.forward")


class Member:
    """One endpoint of one cluster. `since`: when it came, or came back, for its slow start.

    One of a cluster that is new as a whole came long ago: there is nobody who could take its part meanwhile.
    """

    __slots__ = ("cluster_name", "ejections", "outlier", "pool", "probed", "since")

    def __init__(self, cluster_name: str, pool: EndpointPool, since: float) -> None:
        self.cluster_name = cluster_name
        self.pool = pool
        self.since = since
        self.outlier = Outlier()
        self.probed = Probed()
        self.ejections = 0

    def __repr__(self) -> str:
        return f"<Member {self.cluster_name} {self.pool.endpoint} {self.outlier} {self.probed}>"

    def is_out(self, now: float) -> bool:
        """Does it get no requests for now?"""
        return not self.probed.is_well or self.outlier.is_out(now)

    def why_out(self, now: float) -> str:
        """What took it out: `probe` or `outlier`; empty while it is in."""
        if not self.probed.is_well:
            return "probe"
        return "outlier" if self.outlier.is_out(now) else ""

    def returned(self, now: float) -> None:
        """It is let in again, slowly."""
        self.since = now
        log.info("endpoint.returned", cluster=self.cluster_name, endpoint=str(self.pool.endpoint))

    def left_out(self, why: str, seconds: float | None = None) -> None:
        """It gets no requests from now on."""
        self.ejections += 1
        facts: dict[str, object] = {} if seconds is None else {"seconds": seconds}
        log.warning("endpoint.ejected", cluster=self.cluster_name, endpoint=str(self.pool.endpoint), why=why, **facts)


class ClusterState:
    """One declared cluster while it is in use. `pending` requests are at it or wait for a connection.

    `uneven`: somebody is out or starts slowly, so that choosing has to look at weights; the sweep keeps it up to date.
    """

    __slots__ = ("_out", "_turn", "budget", "cluster", "limit", "members", "only", "pending", "uneven")

    def __init__(self, cluster: Cluster, members: tuple[Member, ...]) -> None:
        self.cluster = cluster
        self.members = members
        self.only = members[0] if len(members) == 1 and cluster.probe is None else None
        self.limit = cluster.max_pending
        self.pending = 0
        self.budget = Budget()
        self.uneven = True
        self._turn = 0
        self._out = frozenset(member for member in members if member.is_out(monotonic()))

    def __repr__(self) -> str:
        return f"<ClusterState {self.cluster.name} pending={self.pending} of {self.limit}>"

    def choose(self, avoid: Member | None = None) -> Member | None:
        """The member for the next request, not `avoid` where there is another; None where all are out."""
        if self.only is not None:
            return self.only
        members = self.members
        turn = self._turn = self._turn + 1
        size = len(members)
        if not self.uneven and avoid is None:
            if self.cluster.balance is Balance.ROUND_ROBIN:
                return members[turn % size]
            start = turn % size
            return min(members[start:] + members[:start], key=_busy)
        now = monotonic()
        weights = [self._weight(member, now) for member in members]
        if avoid in members and sum(weight > 0 for weight in weights) > 1:
            weights[members.index(avoid)] = 0.0
        place = pick(self.cluster.balance, [member.pool.busy for member in members], weights, turn)
        return None if place is None else members[place]

    def failed(self, member: Member, now: float, *, unreachable: bool) -> None:
        """A request failed at one of several endpoints."""
        known = [each.outlier for each in self.members]
        if len(known) < 2 or not note_failure(
            member.outlier, known, self.cluster.outlier, now, unreachable=unreachable
        ):
            return
        self.uneven = True
        self._out |= {member}
        member.left_out("outlier", round(member.outlier.ejected_until - now, 3))

    def probed(self, member: Member, good: bool) -> None:
        """A probe was answered, or was not."""
        policy = self.cluster.probe
        if policy is not None and member.probed.note(good, policy):
            self.uneven = True
            if not member.probed.is_well:
                self._out |= {member}
                member.left_out("probe")

    def sweep(self, now: float) -> None:
        """Let those in again whose time is over, and see whether all are even again."""
        self.budget.roll(now)
        if not self.uneven:
            return
        out = frozenset(member for member in self.members if member.is_out(now))
        for member in self._out - out:
            member.returned(now)
        self._out = out
        self.uneven = any(self._weight(member, now) < 1.0 for member in self.members)

    def _weight(self, member: Member, now: float) -> float:
        return 0.0 if member.is_out(now) else start_weight(now - member.since, self.cluster.slow_start_s)


def _busy(member: Member) -> int:
    return member.pool.busy
