"""TableSource on PostgreSQL: the table, its changes, and the heartbeats of proxies."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator

import psycopg

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.core.ports import Heartbeat, Pulse
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.database import AWAY_COMMAND, Connection, Database, bounded, first_line
from strangler_proxy.store.declared import Declared, undeclared, united
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import (
    Row,
    capability_of_rows,
    cluster_of_row,
    flag_of_row,
    heartbeat_values,
    route_of_row,
)

_LISTEN_CHECK_S = 3.0


class PostgresTables:
    """A proxy's view of the control database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> RoutingTable:
        """The table at one moment; `undeclared()` where nothing was applied yet."""
        return await self._database.run(read_table)

    async def revision(self) -> int:
        """The current revision."""

        async def work(connection: Connection) -> int:
            (row,) = await rows(connection, "revision")
            return int(row["revision"])

        return await self._database.run(work)

    async def changes(self) -> AsyncGenerator[int, None]:
        """Revisions as they are announced. A server that does not answer for some seconds ends it."""
        connection = await self._database.connect()
        try:
            await bounded(connection, connection.execute(queries("table")["listen"]), self._database.timeout_s)
            while True:
                async for notice in connection.notifies(timeout=_LISTEN_CHECK_S):
                    yield int(notice.payload)
                await bounded(connection, connection.execute(queries("table")["alive"]), self._database.timeout_s)
        except psycopg.Error as error:
            raise StoreUnavailable(
                f"the control database has gone: {first_line(error)}", next_command=AWAY_COMMAND
            ) from error
        finally:
            await connection.close()

    async def beat(self, heartbeat: Heartbeat) -> Pulse:
        """Store the report; the database's clock and what changed without a revision."""

        async def work(connection: Connection) -> Pulse:
            sql = queries("table")
            stored = await (await connection.execute(sql["beat"], heartbeat_values(heartbeat))).fetchone()
            told = await rows(connection, "pulse")
            assert stored is not None, "INSERT ... RETURNING answers one row"
            return Pulse(
                clock=stored["seen_at"].astimezone(dt.UTC),
                revision=told[0]["revision"],
                replicated_through={
                    row["key"]: row["replicated_through"].astimezone(dt.UTC) for row in told if row["key"] is not None
                },
            )

        return await self._database.run(work)

    async def leave(self, proxy_id: str) -> None:
        """The proxy is not live any more."""

        async def work(connection: Connection) -> None:
            await connection.execute(queries("table")["leave"], {"proxy_id": proxy_id})

        await self._database.run(work)


async def rows(connection: Connection, name: str) -> list[Row]:
    """All rows of a query of `sql/table.sql` without parameters."""
    return list(await (await connection.execute(queries("table")[name])).fetchall())


async def read_table(connection: Connection) -> RoutingTable:
    """Compile the rows of one snapshot. Raises DeclarationError."""
    await connection.execute(queries("table")["snapshot"])
    (state,) = await rows(connection, "state")
    flags = [flag_of_row(row) for row in await rows(connection, "flags")]
    if state["default_cluster"] == "" and not flags:
        return undeclared()
    clusters = [(row["capability"], cluster_of_row(row)) for row in await rows(connection, "clusters")]
    return RoutingTable.compile(
        revision=state["revision"],
        flags=flags,
        routes=[route_of_row(row) for row in await rows(connection, "routes")],
        clusters=united(clusters),
        default_cluster=state["default_cluster"],
    )


async def read_declared(connection: Connection, *, revision: int, default_cluster: str) -> Declared:
    """All that is declared, as values to compare with (under the lock of the state row)."""
    flags = {row["key"]: flag_of_row(row) for row in await rows(connection, "flags")}
    routes = [route_of_row(row) for row in await rows(connection, "routes")]
    clusters = [(row["capability"], cluster_of_row(row)) for row in await rows(connection, "clusters")]
    capabilities = {
        row["key"]: capability_of_rows(
            row,
            flags[row["key"]],
            [route for route in routes if route.flag == row["key"]],
            [cluster for key, cluster in clusters if key == row["key"]],
        )
        for row in await rows(connection, "capabilities")
    }
    return Declared(revision=revision, default_cluster=default_cluster, capabilities=capabilities, flags=flags)
