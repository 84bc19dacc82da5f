"""FlagBoard and Manifests on PostgreSQL: what a worker reads and does during a cutover."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.errors import UnknownName
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import Heartbeat
from strangler_proxy.store.change import Change, read_flag, switch
from strangler_proxy.store.database import Connection, Database
from strangler_proxy.store.documents import manifest_from, parsed
from strangler_proxy.store.judging_documents import judging_from
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import heartbeat_of_row
from strangler_proxy.store.switching import LIVE_S, held, released, unknown_flag
from strangler_proxy.store.tables import rows


class PostgresFlags:
    """Holds, releases, and who is live."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def flag(self, key: str) -> tuple[Flag, int]:
        """The flag and the current revision."""

        async def work(connection: Connection) -> tuple[Flag, int]:
            await connection.execute(queries("table")["snapshot"])
            (state,) = await rows(connection, "revision")
            return await read_flag(connection, key), int(state["revision"])

        return await self._database.run(work)

    async def hold(self, key: str, cutover_id: str, deadline_at: dt.datetime, *, by: str) -> int:
        """Idempotent; a leftover hold of another cutover is replaced."""

        async def work(connection: Connection) -> int:
            change = await Change.begin(connection, None)
            flag = await change.flag(key)
            return await switch(change, flag, held(flag, cutover_id, deadline_at), verb="hold", by=by, reason="cutover")

        return await self._database.run(work)

    async def release(
        self, key: str, ownership: Ownership, *, stage: str | None, weight: int | None, by: str, reason: str
    ) -> int:
        """An older grant than the row's changes nothing, the hold included."""

        async def work(connection: Connection) -> int:
            change = await Change.begin(connection, None)
            flag = await change.flag(key)
            after = released(flag, ownership, stage=stage, weight=weight)
            return await switch(change, flag, after, verb="release", by=by, reason=reason)

        return await self._database.run(work)

    async def replicated(self, key: str, through: dt.datetime) -> None:
        """Raises UnknownName."""

        async def work(connection: Connection) -> None:
            values = {"key": key, "through": through}
            cursor = await connection.execute(queries("change")["replicated"], values)
            if await cursor.fetchone() is None:
                raise unknown_flag(key)

        await self._database.run(work)

    async def live_proxies(self) -> Sequence[Heartbeat]:
        """By name."""
        return await heartbeats(self._database, LIVE_S)


class PostgresManifests:
    """Manifests as they were applied."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def manifest(self, flag: str) -> Manifest:
        """Raises UnknownName where there is no such flag or it owns no data."""

        async def work(connection: Connection) -> Manifest:
            row = await (await connection.execute(queries("table")["manifest"], {"key": flag})).fetchone()
            if row is None:
                raise unknown_flag(flag)
            if row["manifest"] is None:
                raise no_manifest(flag)
            return manifest_from(row["manifest"])

        return await self._database.run(work)

    async def judging(self, flag: str) -> Judging:
        """Raises UnknownName."""

        async def work(connection: Connection) -> Judging:
            row = await (await connection.execute(queries("table")["judging"], {"key": flag})).fetchone()
            if row is None:
                raise unknown_flag(flag)
            return parsed(f"judging of {flag!r}", lambda: judging_from(row["judging"]))

        return await self._database.run(work)


def no_manifest(flag: str) -> UnknownName:
    """The error for a flag without rows that move."""
    return UnknownName(
        f'flag "{flag}" owns no data: its capability file declares no tables',
        next_command=f"strangler flag show {flag}",
    )


async def heartbeats(database: Database, seconds: float) -> list[Heartbeat]:
    """Reports younger than so many seconds, by name of the proxy."""

    async def work(connection: Connection) -> list[Heartbeat]:
        cursor = await connection.execute(queries("table")["proxies"], {"seconds": seconds})
        return [heartbeat_of_row(row) for row in await cursor.fetchall()]

    return await database.run(work)
