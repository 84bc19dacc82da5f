"""In-memory twins of the routing ports. They pass the same tests as the real store; nothing survives the process."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import AuditEntry, AuditVerdict, Heartbeat, Operation, Pulse
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.stage import Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.chain import Walk, next_entry
from strangler_proxy.store.declared import Declared, account_of, compile_table, plan_apply, undeclared
from strangler_proxy.store.evidence_memory import MemoryEvidence
from strangler_proxy.store.flags import no_manifest
from strangler_proxy.store.memory_work import MemoryOperations, MemoryPauses, MemorySync
from strangler_proxy.store.opened import Store
from strangler_proxy.store.switching import (
    LEASE_S,
    LIVE_S,
    check_revision,
    difference,
    held,
    released,
    staged,
    stamped,
    unknown_flag,
)

Clock = Callable[[], dt.datetime]
_UNREAD = 1000


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Memory:
    """What the control database holds. No method awaits between reading and writing, so changes cannot interleave."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.revision = 0
        self.default_cluster = ""
        self.capabilities: dict[str, Capability] = {}
        self.flags: dict[str, Flag] = {}
        self.entries: list[AuditEntry] = []
        self.proxies: dict[str, Heartbeat] = {}
        self.listeners: set[asyncio.Queue[int]] = set()

    def flag(self, key: str) -> Flag:
        """Raises UnknownName."""
        if key not in self.flags:
            raise unknown_flag(key)
        return self.flags[key]

    def declared_rules(self, key: str) -> Sequence[Rule]:
        """Raises UnknownName."""
        self.flag(key)
        return self.capabilities[key].judging.rules

    def record_now(
        self,
        *,
        actor: str,
        verb: str,
        subject: str,
        reason: str,
        before: Mapping[str, object],
        after: Mapping[str, object],
    ) -> None:
        """An audit entry at the current revision: proxies have nothing to load."""
        self.record(
            actor=actor, verb=verb, subject=subject, reason=reason, before=before, after=after, revision=self.revision
        )

    def table(self) -> RoutingTable:
        """Compiled from what is declared."""
        if self.default_cluster == "" and not self.flags:
            return undeclared()
        return compile_table(self.revision, self.flags.values(), self.capabilities.values(), self.default_cluster)

    def record(
        self,
        *,
        actor: str,
        verb: str,
        subject: str,
        reason: str,
        before: Mapping[str, object],
        after: Mapping[str, object],
        revision: int,
    ) -> None:
        """Append one audit entry."""
        head = self.entries[-1].hash if self.entries else ""
        self.entries.append(
            next_entry(
                count=len(self.entries),
                head=head,
                at=self.clock(),
                actor=actor,
                verb=verb,
                subject=subject,
                reason=reason,
                before=before,
                after=after,
                revision=revision,
            )
        )

    def announce(self) -> int:
        """The next revision, told to all who listen; one who reads nothing misses some, as with a lost connection."""
        self.revision += 1
        for listener in self.listeners:
            if not listener.full():
                listener.put_nowait(self.revision)
        return self.revision

    def switch(self, after: Flag, *, verb: str, by: str, reason: str) -> int:
        """Replace a flag, with its audit entry; the current revision where nothing differs."""
        before = self.flags[after.key]
        old, new = difference(before, after)
        if not new:
            return self.revision
        self.flags[after.key] = stamped(before, after, at=self.clock(), by=by, reason=reason)
        self.record(
            actor=by, verb=verb, subject=after.key, reason=reason, before=old, after=new, revision=self.revision + 1
        )
        return self.announce()

    def heartbeats(self, seconds: float) -> list[Heartbeat]:
        """Reports younger than so many seconds, by name."""
        oldest = self.clock() - dt.timedelta(seconds=seconds)
        return [h for _, h in sorted(self.proxies.items()) if h.seen_at is not None and h.seen_at > oldest]


class MemoryTables:
    """TableSource."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def load(self) -> RoutingTable:
        """The current table."""
        return self._memory.table()

    async def revision(self) -> int:
        """The current revision."""
        return self._memory.revision

    async def changes(self) -> AsyncGenerator[int, None]:
        """Revisions from the first `anext` on."""
        queue: asyncio.Queue[int] = asyncio.Queue(_UNREAD)
        self._memory.listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._memory.listeners.discard(queue)

    async def beat(self, heartbeat: Heartbeat) -> Pulse:
        """Store the report."""
        memory, now = self._memory, self._memory.clock()
        known = memory.proxies.get(heartbeat.proxy_id)
        started = heartbeat.started_at or (known.started_at if known else now)
        memory.proxies[heartbeat.proxy_id] = dataclasses.replace(heartbeat, started_at=started, seen_at=now)
        through = {k: f.replicated_through for k, f in memory.flags.items() if f.replicated_through is not None}
        return Pulse(clock=now, revision=memory.revision, replicated_through=through)

    async def leave(self, proxy_id: str) -> None:
        """The proxy is not live any more."""
        self._memory.proxies.pop(proxy_id, None)


class MemoryFlags:
    """FlagBoard."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def flag(self, key: str) -> tuple[Flag, int]:
        """The flag and the current revision."""
        return self._memory.flag(key), self._memory.revision

    async def hold(self, key: str, cutover_id: str, deadline_at: dt.datetime, *, by: str) -> int:
        """As the real one."""
        after = held(self._memory.flag(key), cutover_id, deadline_at)
        return self._memory.switch(after, verb="hold", by=by, reason="cutover")

    async def release(
        self, key: str, ownership: Ownership, *, stage: str | None, weight: int | None, by: str, reason: str
    ) -> int:
        """As the real one."""
        after = released(self._memory.flag(key), ownership, stage=stage, weight=weight)
        return self._memory.switch(after, verb="release", by=by, reason=reason)

    async def replicated(self, key: str, through: dt.datetime) -> None:
        """Raises UnknownName."""
        flag = self._memory.flag(key)
        self._memory.flags[key] = dataclasses.replace(flag, replicated_through=through)

    async def live_proxies(self) -> Sequence[Heartbeat]:
        """By name."""
        return self._memory.heartbeats(LIVE_S)


class MemoryManifests:
    """Manifests."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def manifest(self, flag: str) -> Manifest:
        """Raises UnknownName."""
        self._memory.flag(flag)
        manifest = self._memory.capabilities[flag].manifest
        if manifest is None:
            raise no_manifest(flag)
        return manifest

    async def judging(self, flag: str) -> Judging:
        """Raises UnknownName."""
        self._memory.flag(flag)
        return self._memory.capabilities[flag].judging


class MemorySwitches:
    """Switchboard."""

    def __init__(self, memory: Memory, operations: MemoryOperations) -> None:
        self._memory = memory
        self._operations = operations

    async def apply(
        self,
        capabilities: Sequence[Capability],
        *,
        default_cluster: str | None,
        by: str,
        reason: str,
        expected_revision: int | None,
    ) -> int:
        """As the real one."""
        memory = self._memory
        check_revision(memory.revision, expected_revision)
        known = Declared(
            revision=memory.revision,
            default_cluster=memory.default_cluster,
            capabilities=dict(memory.capabilities),
            flags=memory.flags,
        )
        plan = plan_apply(known, capabilities, default_cluster, at=memory.clock(), by=by, reason=reason)
        if plan.empty:
            return memory.revision
        memory.capabilities.update({capability.key: capability for capability in plan.capabilities})
        memory.flags.update(plan.flags)
        memory.default_cluster = plan.default_cluster
        for subject, before, after in account_of(plan, known):
            memory.record(
                actor=by,
                verb="apply",
                subject=subject,
                reason=reason,
                before=before,
                after=after,
                revision=memory.revision + 1,
            )
        return memory.announce()

    async def set_stage(
        self, key: str, *, stage: Stage, weight: int, by: str, reason: str, expected_revision: int | None
    ) -> int:
        """As the real one."""
        check_revision(self._memory.revision, expected_revision)
        after = staged(self._memory.flag(key), stage, weight)
        return self._memory.switch(after, verb="flip", by=by, reason=reason)

    async def request(self, kind: str, flag: str, args: Mapping[str, str], *, by: str, reason: str) -> Operation:
        """As the real one."""
        self._memory.flag(flag)
        operation = self._operations.add(kind, flag, args, by=by, reason=reason)
        self._memory.record(
            actor=by,
            verb=kind,
            subject=flag,
            reason=reason,
            before={},
            after={"operation": operation.id, "args": dict(args)},
            revision=self._memory.revision,
        )
        return operation

    async def withdraw(self, operation_id: int, *, by: str, reason: str) -> Operation:
        """As the real one."""
        operation = self._operations.withdraw(operation_id, by=by, reason=reason)
        said = {"operation": operation_id}
        self._memory.record(
            actor=by, verb="withdraw", subject=operation.flag, reason=reason,
            before={**said, "status": "queued"}, after={**said, "status": "aborted"}, revision=self._memory.revision,
        )  # fmt: skip
        return operation


class MemoryRecords:
    """Records."""

    def __init__(self, memory: Memory, operations: MemoryOperations) -> None:
        self._memory = memory
        self._operations = operations

    async def table(self) -> RoutingTable:
        """As proxies load it."""
        return self._memory.table()

    async def history(self, subject: str | None, limit: int) -> Sequence[AuditEntry]:
        """Newest first."""
        return [e for e in reversed(self._memory.entries) if subject is None or e.subject == subject][:limit]

    async def proxies(self) -> Sequence[Heartbeat]:
        """By name."""
        return self._memory.heartbeats(3600.0)

    async def operations(self, flag: str | None, limit: int) -> Sequence[Operation]:
        """Newest first."""
        return self._operations.newest(flag, limit)

    async def verify_audit(self) -> AuditVerdict:
        """Walk the chain."""
        walk = Walk()
        for entry in self._memory.entries:
            if not walk.take(entry):
                break
        head = self._memory.entries[-1].hash if self._memory.entries else ""
        return walk.verdict(count=len(self._memory.entries), head=head)


def memory_store(*, clock: Clock = _now, lease_s: float = LEASE_S) -> Store:
    """The twin of `open_store`; `clock` stands for the control database's clock (UTC)."""
    memory = Memory(clock)
    operations = MemoryOperations(clock, lease_s=lease_s)
    pauses = MemoryPauses(clock, memory.flag, memory.record_now)
    evidence = MemoryEvidence(clock=clock, declared=memory.declared_rules, record=memory.record_now)

    async def shut() -> None:
        memory.listeners.clear()

    return Store(
        tables=MemoryTables(memory),
        flags=MemoryFlags(memory),
        operations=operations,
        sync=MemorySync(clock, memory.flag, pauses),
        pauses=pauses,
        manifests=MemoryManifests(memory),
        switches=MemorySwitches(memory, operations),
        records=MemoryRecords(memory, operations),
        evidence=evidence,
        shut=shut,
    )
