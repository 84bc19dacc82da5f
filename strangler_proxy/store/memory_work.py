"""In-memory twins of the work ports: operations, streams and leases."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence

from strangler_proxy.core.pause import Pause, replaces
from strangler_proxy.core.ports import Operation
from strangler_proxy.store.documents import paused_document, time_text
from strangler_proxy.store.switching import OPEN_STATUSES, already_open, not_withdrawn, withdrawn_by

Clock = Callable[[], dt.datetime]


class MemoryOperations:
    """OperationQueue, and what Switchboard and Records do with operations."""

    def __init__(self, clock: Clock, *, lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._all: dict[int, Operation] = {}
        self._leases: dict[int, tuple[str, dt.datetime]] = {}

    def add(self, kind: str, flag: str, args: Mapping[str, str], *, by: str, reason: str) -> Operation:
        """A new operation. Raises GateRefused."""
        for known in self._all.values():
            if (known.flag, known.kind) == (flag, kind) and known.status in OPEN_STATUSES:
                raise already_open(flag, kind, known.id)
        number = len(self._all) + 1
        operation = Operation(
            id=number, kind=kind, flag=flag, args=dict(args), by=by, reason=reason, requested_at=self._clock()
        )
        self._all[number] = operation
        return operation

    def withdraw(self, operation_id: int, *, by: str, reason: str) -> Operation:
        """End one that is queued. Raises UnknownName, GateRefused."""
        known = self._all.get(operation_id)
        if known is None or known.status != "queued":
            raise not_withdrawn(operation_id, known)
        self._all[operation_id] = dataclasses.replace(
            known, status="aborted", detail=withdrawn_by(by, reason), finished_at=self._clock()
        )
        return self._all[operation_id]

    def newest(self, flag: str | None, limit: int) -> list[Operation]:
        """Newest first."""
        return [o for _, o in sorted(self._all.items(), reverse=True) if flag is None or o.flag == flag][:limit]

    async def claim(self, worker_id: str) -> Operation | None:
        """As the real one."""
        now = self._clock()
        for number, operation in sorted(self._all.items()):
            longest = dt.timedelta(seconds=max(60.0, 10 * self._lease_s))
            lost = operation.status == "running" and not now <= self._leases[number][1] <= now + longest
            if operation.status == "queued" or lost:
                self._leases[number] = (worker_id, now + dt.timedelta(seconds=self._lease_s))
                self._all[number] = dataclasses.replace(operation, status="running")
                return self._all[number]
        return None

    async def renew(self, operation_id: int, worker_id: str) -> bool:
        """As the real one."""
        if not self._has(operation_id, worker_id):
            return False
        self._leases[operation_id] = (worker_id, self._clock() + dt.timedelta(seconds=self._lease_s))
        return True

    async def step(self, operation_id: int, worker_id: str, name: str, detail: str) -> None:
        """As the real one."""
        if self._has(operation_id, worker_id):
            known = self._all[operation_id]
            step = {"name": name, "detail": detail, "at": time_text(self._clock()) or ""}
            self._all[operation_id] = dataclasses.replace(known, steps=(*known.steps, step))

    async def finish(self, operation_id: int, worker_id: str, status: str, detail: str) -> None:
        """As the real one."""
        if self._has(operation_id, worker_id):
            self._all[operation_id] = dataclasses.replace(
                self._all[operation_id], status=status, detail=detail, finished_at=self._clock()
            )

    def _has(self, operation_id: int, worker_id: str) -> bool:
        known = self._all.get(operation_id)
        return known is not None and known.status == "running" and self._leases[operation_id][0] == worker_id


class MemoryPauses:
    """Pauses; `record` writes an audit entry at the current revision, `flag` raises UnknownName."""

    def __init__(self, clock: Clock, flag: Callable[[str], object], record: Callable[..., None]) -> None:
        self._clock = clock
        self._flag = flag
        self._record = record
        self._paused: dict[str, Pause] = {}

    def forget(self, flag: str) -> None:
        """A stream that is stopped is not paused any more."""
        self._paused.pop(flag, None)

    async def paused(self) -> Mapping[str, Pause]:
        """By flag."""
        return dict(self._paused)

    async def pause(self, flag: str, *, by: str, reason: str, drift: bool = False) -> Pause:
        """As the real one."""
        self._flag(flag)
        known = self._paused.get(flag)
        if known is not None and not replaces(known, drift=drift, reason=reason):
            return known
        pause = Pause(since=self._clock() if known is None else known.since, by=by, reason=reason, drift=drift)
        self._paused[flag] = pause
        self._record(
            actor=by,
            verb="sync_pause",
            subject=flag,
            reason=reason,
            before={},
            after={"paused": paused_document(pause)},
        )
        return pause

    async def resume(self, flag: str, *, by: str, reason: str, only_drift: bool = False) -> bool:
        """As the real one."""
        self._flag(flag)
        known = self._paused.get(flag)
        if known is None or (only_drift and not known.drift):
            return False
        self.forget(flag)
        self._record(
            actor=by, verb="sync_resumed", subject=flag, reason=reason,
            before={"paused": paused_document(known)}, after={},
        )  # fmt: skip
        return True


class MemorySync:
    """SyncBoard; `flag` raises UnknownName for a key that does not exist."""

    def __init__(self, clock: Clock, flag: Callable[[str], object], pauses: MemoryPauses) -> None:
        self._clock = clock
        self._flag = flag
        self._pauses = pauses
        self._wanted: set[str] = set()
        self._status: dict[str, tuple[Mapping[str, object], dt.datetime]] = {}
        self._leases: dict[str, tuple[str, dt.datetime]] = {}

    async def wanted(self) -> Sequence[str]:
        """By name."""
        return sorted(self._wanted)

    async def want(self, flag: str, running: bool) -> None:
        """Raises UnknownName."""
        self._flag(flag)
        (self._wanted.add if running else self._wanted.discard)(flag)
        if not running:
            self._pauses.forget(flag)

    async def publish(self, flag: str, status: Mapping[str, object]) -> None:
        """Raises UnknownName."""
        self._flag(flag)
        self._status[flag] = (dict(status), self._clock())

    async def status(self, flag: str) -> tuple[Mapping[str, object], float] | None:
        """The last published one."""
        if flag not in self._status:
            return None
        status, at = self._status[flag]
        return status, max(0.0, (self._clock() - at).total_seconds())

    async def lease(self, name: str, worker_id: str, seconds: float) -> bool:
        """As the real one."""
        now = self._clock()
        holder, until = self._leases.get(name, (worker_id, now))
        longest = dt.timedelta(seconds=max(60.0, 10 * seconds))
        if holder != worker_id and now <= until <= now + longest:
            return False
        self._leases[name] = (worker_id, now + dt.timedelta(seconds=seconds))
        return True
