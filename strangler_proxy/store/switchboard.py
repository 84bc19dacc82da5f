"""Switchboard on PostgreSQL: the changes that people ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Stage
from strangler_proxy.store.change import Change, switch
from strangler_proxy.store.database import Connection, Database
from strangler_proxy.store.declared import Application, Declared, account_of, plan_apply
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import (
    capability_values,
    cluster_values,
    flag_values,
    operation_of_row,
    route_values,
)
from strangler_proxy.store.switching import already_open, not_withdrawn, staged, withdrawn_by
from strangler_proxy.store.tables import read_declared


class PostgresSwitches:
    """Apply, set a stage, request an operation, withdraw it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(
        self,
        capabilities: Sequence[Capability],
        *,
        default_cluster: str | None,
        by: str,
        reason: str,
        expected_revision: int | None,
    ) -> int:
        """One audit entry for each capability that changed, all at one revision."""

        async def work(connection: Connection) -> int:
            change = await Change.begin(connection, expected_revision)
            known = await read_declared(connection, revision=change.revision, default_cluster=change.default_cluster)
            plan = plan_apply(known, capabilities, default_cluster, at=change.at, by=by, reason=reason)
            if plan.empty:
                return change.revision
            await _write(change, plan, known, by=by, reason=reason)
            change.default_cluster = plan.default_cluster
            return await change.close(change.next_revision)

        return await self._database.run(work)

    async def set_stage(
        self, key: str, *, stage: Stage, weight: int, by: str, reason: str, expected_revision: int | None
    ) -> int:
        """The same stage and weight again is no change: the current revision comes back."""

        async def work(connection: Connection) -> int:
            change = await Change.begin(connection, expected_revision)
            flag = await change.flag(key)
            return await switch(change, flag, staged(flag, stage, weight), verb="flip", by=by, reason=reason)

        return await self._database.run(work)

    async def request(self, kind: str, flag: str, args: Mapping[str, str], *, by: str, reason: str) -> Operation:
        """Audited at the current revision: proxies have nothing to load."""

        async def work(connection: Connection) -> Operation:
            change = await Change.begin(connection, None)
            await change.flag(flag)
            sql = queries("operation")
            values = {"kind": kind, "flag": flag, "args": Jsonb(dict(args)), "actor": by, "reason": reason}
            open_now = await (await connection.execute(sql["open"], values)).fetchone()
            if open_now is not None:
                raise already_open(flag, kind, open_now["id"])
            row = await (await connection.execute(sql["request"], values)).fetchone()
            assert row is not None, "INSERT ... RETURNING answers one row"
            asked = {"operation": row["id"], "args": dict(args)}
            await change.record(
                actor=by, verb=kind, subject=flag, reason=reason, before={}, after=asked, revision=change.revision
            )
            await change.close(change.revision)
            return operation_of_row(row)

        return await self._database.run(work)

    async def withdraw(self, operation_id: int, *, by: str, reason: str) -> Operation:
        """One conditional UPDATE: a worker that claims it in the same moment has it, or has not."""

        async def work(connection: Connection) -> Operation:
            change = await Change.begin(connection, None)
            sql = queries("operation")
            values = {"id": operation_id, "detail": withdrawn_by(by, reason)}
            row = await (await connection.execute(sql["withdraw"], values)).fetchone()
            if row is None:
                known = await (await connection.execute(sql["one"], values)).fetchone()
                raise not_withdrawn(operation_id, None if known is None else operation_of_row(known))
            operation = operation_of_row(row)
            await change.record(
                actor=by, verb="withdraw", subject=operation.flag, reason=reason,
                before={"operation": operation_id, "status": "queued"},
                after={"operation": operation_id, "status": "aborted"}, revision=change.revision,
            )  # fmt: skip
            await change.close(change.revision)
            return operation

        return await self._database.run(work)


async def _write(change: Change, plan: Application, known: Declared, *, by: str, reason: str) -> None:
    revision = change.next_revision
    for capability in plan.capabilities:
        key = {"key": capability.key}
        await change.write("capability", capability_values(capability, at=change.at, by=by))
        await change.write("flag", flag_values(plan.flags[capability.key], revision))
        await change.write("drop_clusters", key)
        await change.write("drop_routes", key)
    for capability in plan.capabilities:
        for position, cluster in enumerate(capability.clusters):
            await change.write("cluster", cluster_values(cluster, capability.key, position))
        for position, route in enumerate(capability.routes):
            await change.write("route", route_values(route, position))
    for subject, before, after in account_of(plan, known):
        await change.record(
            actor=by, verb="apply", subject=subject, reason=reason, before=before, after=after, revision=revision
        )
