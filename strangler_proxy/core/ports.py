"""What the layers ask of each other, as Protocols of at most five methods. Fakes pass the same tests as the real."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.pause import Pause
from strangler_proxy.core.stage import Stage
from strangler_proxy.core.table import RoutingTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One proxy process's report. It is live while younger than 3 s by the control database's clock.

    `revision` is the one served now. `unsafe_in_flight`: unsafe requests of a held flag, by flag key, that were sent on
    before the hold and have not ended. `refused_table`: why a newer table was not taken, empty if none was refused.
    `upstreams` that are sick: `breakers` ("CLUSTER/ROUTE open") and `ejected` ("CLUSTER HOST:PORT outlier");
    of the mirror `unmirrored` ("CLUSTER": it is paused) and `unproven` ("FLAG HOST:PORT": no write goes there now).
    """

    proxy_id: str
    revision: int
    unsafe_in_flight: Mapping[str, int] = field(default_factory=dict)
    holding: Mapping[str, int] = field(default_factory=dict)
    refused_table: str = ""
    upstreams: Mapping[str, Sequence[str]] = field(default_factory=dict)
    address: str = ""
    started_at: dt.datetime | None = None
    seen_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What the control database answers to a heartbeat.

    `clock` is its time (UTC), `revision` the current one, `replicated_through` by flag key how far the copy of the side
    that is not the owner is complete (flags without a stream are absent).
    """

    clock: dt.datetime
    revision: int
    replicated_through: Mapping[str, dt.datetime] = field(default_factory=dict)


class TableSource(Protocol):
    """Where a proxy gets its table from. Every call has a time-out of its own and raises StoreUnavailable."""

    async def load(self) -> RoutingTable:
        """The current table. Raises DeclarationError when the rows do not compile."""
        ...

    async def revision(self) -> int:
        """The current revision, cheaply."""
        ...

    def changes(self) -> AsyncGenerator[int, None]:
        """Yields a revision after each NOTIFY; ends with StoreUnavailable when the connection is lost."""
        ...

    async def beat(self, heartbeat: Heartbeat) -> Pulse:
        """Store a heartbeat; returns what every proxy has to know each second."""
        ...

    async def leave(self, proxy_id: str) -> None:
        """Take a proxy out at once: it drains and will not acknowledge any more."""
        ...


class FlagBoard(Protocol):
    """What a cutover does to the flag table. Every change is one transaction with audit entry and NOTIFY."""

    async def flag(self, key: str) -> tuple[Flag, int]:
        """The flag and the current revision. Raises UnknownName."""
        ...

    async def hold(self, key: str, cutover_id: str, deadline_at: dt.datetime, *, by: str) -> int:
        """Ask all proxies to hold unsafe requests of the flag; the new revision."""
        ...

    async def release(
        self, key: str, ownership: Ownership, *, stage: str | None, weight: int | None, by: str, reason: str
    ) -> int:
        """End a hold with the ownership that now holds (and the stage, after a cutover); the new revision.

        Idempotent; an older epoch than the row's never wins.
        """
        ...

    async def replicated(self, key: str, through: dt.datetime) -> None:
        """Note how far the copy is complete. Not a revision; proxies see it with their heartbeat or next poll."""
        ...

    async def live_proxies(self) -> Sequence[Heartbeat]:
        """Heartbeats younger than 3 s."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A piece of work that the control plane asked a worker for.

    `kind`: `sync_start`, `sync_stop`, `sync_resume`, `sync_verify`, `sync_census`, `promote_copy`, `cutover`, `retire`,
    `retire_drop` or `retire_undo`. `args` holds strings only. `status`: `queued`, `running`, `done`, `refused`,
    `aborted` or `failed`.
    """

    id: int
    kind: str
    flag: str
    args: Mapping[str, str]
    by: str
    reason: str
    status: str = "queued"
    detail: str = ""
    steps: Sequence[Mapping[str, str]] = ()
    requested_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None


class OperationQueue(Protocol):
    """Work for workers, claimed under a lease that must be renewed every few seconds (lease 10 s)."""

    async def claim(self, worker_id: str) -> Operation | None:
        """The oldest queued operation, or a running one whose lease is over; None if there is nothing."""
        ...

    async def renew(self, operation_id: int, worker_id: str) -> bool:
        """Extend the lease; False when it was lost."""
        ...

    async def step(self, operation_id: int, worker_id: str, name: str, detail: str) -> None:
        """Append one step (with the database's clock) for the person who watches."""
        ...

    async def finish(self, operation_id: int, worker_id: str, status: str, detail: str) -> None:
        """End it with `done`, `refused`, `aborted` or `failed`. Idempotent."""
        ...


class SyncBoard(Protocol):
    """What workers publish about streams, for `strangler sync status` and the gates."""

    async def wanted(self) -> Sequence[str]:
        """Flags whose stream should run."""
        ...

    async def want(self, flag: str, running: bool) -> None:
        """Start or stop a flag's stream for good (survives restarts)."""
        ...

    async def publish(self, flag: str, status: Mapping[str, object]) -> None:
        """Replace the published status of a stream (JSON values)."""
        ...

    async def status(self, flag: str) -> tuple[Mapping[str, object], float] | None:
        """The last published status and its age in seconds by the store's clock, None if never."""
        ...

    async def lease(self, name: str, worker_id: str, seconds: float) -> bool:
        """Take or renew a named lease; False while another worker holds it."""
        ...


class Pauses(Protocol):
    """Streams that are paused, for good until somebody resumes them. Every change has an audit entry."""

    async def paused(self) -> Mapping[str, Pause]:
        """By flag."""
        ...

    async def pause(self, flag: str, *, by: str, reason: str, drift: bool = False) -> Pause:
        """Pause it; the pause that holds then. Idempotent. Raises UnknownName.

        A person's pause replaces a worker's (`drift`), and keeps its time; never the other way round.
        """
        ...

    async def resume(self, flag: str, *, by: str, reason: str, only_drift: bool = False) -> bool:
        """End the pause; False where there is none (`only_drift`: none that a worker began). Raises UnknownName."""
        ...


class Manifests(Protocol):
    """What the applied capabilities declare beside routing: ownership manifests, and how pairs are judged."""

    async def manifest(self, flag: str) -> Manifest:
        """The manifest of a flag that owns data. Raises UnknownName."""
        ...

    async def judging(self, flag: str) -> Judging:
        """Declared compare rules, and what the flag asks of its evidence. Raises UnknownName."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who changed what, when, why, from what to what. `hash` chains over `previous_hash` and every other field."""

    id: int
    at: dt.datetime
    actor: str
    verb: str
    subject: str
    reason: str
    before: Mapping[str, object]
    after: Mapping[str, object]
    revision: int
    previous_hash: str
    hash: str


class Switchboard(Protocol):
    """Changes that people ask for: each one transaction (compare-and-set, rows, audit entry, NOTIFY).

    `expected_revision` None means: whatever it is now. Otherwise RevisionMoved where it is another one. All return the
    new revision and raise StoreUnavailable when the database is away.
    """

    async def apply(
        self,
        capabilities: Sequence[Capability],
        *,
        default_cluster: str | None,
        by: str,
        reason: str,
        expected_revision: int | None,
    ) -> int:
        """Write the declarations (a cluster's or route's old rows are replaced); new flags start at `monolith`.

        The whole table is compiled first: DeclarationError, and nothing written, where it does not. Unchanged
        declarations are no change: the current revision comes back.
        """
        ...

    async def set_stage(
        self, key: str, *, stage: Stage, weight: int, by: str, reason: str, expected_revision: int | None
    ) -> int:
        """Change stage and weight, routing only. Raises UnknownName, RevisionMoved, GateRefused (a cutover holds)."""
        ...

    async def request(self, kind: str, flag: str, args: Mapping[str, str], *, by: str, reason: str) -> Operation:
        """Ask workers for an operation. Raises UnknownName, GateRefused (one of this kind is open already)."""
        ...

    async def withdraw(self, operation_id: int, *, by: str, reason: str) -> Operation:
        """Take back an operation that no worker has taken. Raises UnknownName, GateRefused (it runs, or is over)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """What checking the chain found; `broken_at` is the id of the first entry that does not fit, None if all do."""

    entries: int
    broken_at: int | None
    problem: str = ""


class Records(Protocol):
    """What people ask to see."""

    async def table(self) -> RoutingTable:
        """The current table, as proxies load it."""
        ...

    async def history(self, subject: str | None, limit: int) -> Sequence[AuditEntry]:
        """Audit entries, newest first, of one flag or of all."""
        ...

    async def proxies(self) -> Sequence[Heartbeat]:
        """All proxies that reported within the last hour, those that are not live any more included."""
        ...

    async def operations(self, flag: str | None, limit: int) -> Sequence[Operation]:
        """Operations with their steps, newest first."""
        ...

    async def verify_audit(self) -> AuditVerdict:
        """Walk the chain from its first entry to the head that the state row names."""
        ...
