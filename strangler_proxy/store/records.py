"""Records on PostgreSQL: what people ask to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from strangler_proxy.core.ports import AuditEntry, AuditVerdict, Heartbeat, Operation
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.chain import Walk
from strangler_proxy.store.database import Connection, Database
from strangler_proxy.store.flags import heartbeats
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import Row, entry_of_row
from strangler_proxy.store.tables import read_table, rows
from strangler_proxy.store.work import with_steps

_REPORTED_S = 3600.0


class PostgresRecords:
    """Table, history, proxies, operations, and the check of the chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def table(self) -> RoutingTable:
        """As proxies load it."""
        return await self._database.run(read_table)

    async def history(self, subject: str | None, limit: int) -> Sequence[AuditEntry]:
        """Newest first."""

        async def work(connection: Connection) -> list[AuditEntry]:
            values = {"subject": subject, "limit": limit}
            return [entry_of_row(row) for row in await _audit(connection, "history", values)]

        return await self._database.run(work)

    async def proxies(self) -> Sequence[Heartbeat]:
        """By name."""
        return await heartbeats(self._database, _REPORTED_S)

    async def operations(self, flag: str | None, limit: int) -> Sequence[Operation]:
        """Newest first, with their steps."""

        async def work(connection: Connection) -> list[Operation]:
            values = {"flag": flag, "limit": limit}
            cursor = await connection.execute(queries("operation")["list"], values)
            return await with_steps(connection, await cursor.fetchall())

        return await self._database.run(work)

    async def verify_audit(self) -> AuditVerdict:
        """In steps of 500 entries, each a query of its own; entries written meanwhile are not looked at."""

        async def start(connection: Connection) -> Row:
            (state,) = await rows(connection, "state")
            return state

        state = await self._database.run(start)
        count, head = int(state["audit_count"]), str(state["audit_head"])
        walk = Walk()
        while walk.count < count:

            async def onward(connection: Connection) -> Sequence[Row]:
                return await _audit(connection, "onward", {"after": walk.count, "last": count})

            found = await self._database.run(onward)
            if not found or not all(walk.take(entry_of_row(row)) for row in found):
                break
        return walk.verdict(count=count, head=head)


async def _audit(connection: Connection, name: str, values: Mapping[str, object]) -> list[Row]:
    return list(await (await connection.execute(queries("audit")[name], values)).fetchall())
