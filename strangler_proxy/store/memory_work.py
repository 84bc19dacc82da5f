"""In-memory twins of the work ports: operations, streams and leases."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence

from strangler_proxy.core.ports import Operation
from strangler_proxy.store.documents import time_text
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
            lost = operation.status == "running" and self._leases[number][1] < now
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


class MemorySync:
    """SyncBoard; `flag` raises UnknownName for a key that does not exist."""

    def __init__(self, clock: Clock, flag: Callable[[str], object]) -> None:
        self._clock = clock
        self._flag = flag
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

    async def publish(self, flag: str, status: Mapping[str, object]) -> None:
        """Raises UnknownName."""
        self._flag(flag)
        self._status[flag] = (dict(status), self._clock())

    async def status(self, flag: str) -> tuple[Mapping[str, object], dt.datetime] | None:
        """The last published one."""
        return self._status.get(flag)

    async def lease(self, name: str, worker_id: str, seconds: float) -> bool:
        """As the real one."""
        now = self._clock()
        holder, until = self._leases.get(name, (worker_id, now))
        if holder != worker_id and until >= now:
            return False
        self._leases[name] = (worker_id, now + dt.timedelta(seconds=seconds))
        return True
