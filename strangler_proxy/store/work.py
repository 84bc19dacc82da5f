"""OperationQueue and SyncBoard on PostgreSQL: what control asks of workers, and what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from strangler_proxy.core.ports import Operation
from strangler_proxy.store.database import Connection, Database
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import Row, operation_of_row
from strangler_proxy.store.switching import LEASE_S, unknown_flag


class PostgresOperations:
    """Operations, claimed by conditional UPDATE over SKIP LOCKED."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_s = lease_s

    async def claim(self, worker_id: str) -> Operation | None:
        """With its steps so far, so that another worker can go on."""

        async def work(connection: Connection) -> Operation | None:
            values = {"worker": worker_id, "lease_s": self._lease_s}
            row = await (await connection.execute(queries("operation")["claim"], values)).fetchone()
            return None if row is None else (await with_steps(connection, [row]))[0]

        return await self._database.run(work)

    async def renew(self, operation_id: int, worker_id: str) -> bool:
        """False when another worker has it, or it is over."""
        values = {"id": operation_id, "worker": worker_id, "lease_s": self._lease_s}
        return await fetch_one(self._database, "operation", "renew", values) is not None

    async def step(self, operation_id: int, worker_id: str, name: str, detail: str) -> None:
        """Nothing happens where the worker has lost it."""

        async def work(connection: Connection) -> None:
            values = {"id": operation_id, "worker": worker_id, "name": name, "detail": detail}
            await connection.execute(queries("operation")["step"], values)

        await self._database.run(work)

    async def finish(self, operation_id: int, worker_id: str, status: str, detail: str) -> None:
        """Nothing happens where the worker has lost it, or it is over."""

        async def work(connection: Connection) -> None:
            values = {"id": operation_id, "worker": worker_id, "status": status, "detail": detail}
            await connection.execute(queries("operation")["finish"], values)

        await self._database.run(work)


class PostgresSync:
    """Streams wanted, their published status, and leases by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wanted(self) -> Sequence[str]:
        """By name."""

        async def work(connection: Connection) -> list[str]:
            return [row["flag"] for row in await (await connection.execute(queries("sync")["wanted"])).fetchall()]

        return await self._database.run(work)

    async def want(self, flag: str, running: bool) -> None:
        """Raises UnknownName."""
        if await fetch_one(self._database, "sync", "want", {"flag": flag, "wanted": running}) is None:
            raise unknown_flag(flag)

    async def publish(self, flag: str, status: Mapping[str, object]) -> None:
        """Raises UnknownName."""
        if await fetch_one(self._database, "sync", "publish", {"flag": flag, "status": Jsonb(dict(status))}) is None:
            raise unknown_flag(flag)

    async def status(self, flag: str) -> tuple[Mapping[str, object], float] | None:
        """The age is by the control database's clock alone."""
        row = await fetch_one(self._database, "sync", "status", {"flag": flag})
        return None if row is None else (row["status"], max(0.0, row["age_s"]))

    async def lease(self, name: str, worker_id: str, seconds: float) -> bool:
        """One statement: of two that try at once one gets it."""
        values = {"name": name, "worker": worker_id, "seconds": seconds}
        return await fetch_one(self._database, "sync", "lease", values) is not None


async def fetch_one(database: Database, file: str, name: str, values: Mapping[str, object]) -> Row | None:
    """The first row of one query in a transaction of its own."""

    async def work(connection: Connection) -> Row | None:
        return await (await connection.execute(queries(file)[name], values)).fetchone()

    return await database.run(work)


async def with_steps(connection: Connection, found: Sequence[Row]) -> list[Operation]:
    """Operations of these rows with their steps."""
    ids = [row["id"] for row in found]
    steps = await (await connection.execute(queries("operation")["steps"], {"ids": ids})).fetchall()
    return [operation_of_row(row, [s for s in steps if s["operation_id"] == row["id"]]) for row in found]
