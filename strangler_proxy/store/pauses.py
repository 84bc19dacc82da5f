"""Pauses on PostgreSQL: each change of one is a transaction with its audit entry."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from strangler_proxy.core.pause import Pause, replaces
from strangler_proxy.store.change import Change
from strangler_proxy.store.database import Connection, Database
from strangler_proxy.store.documents import paused_document
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import Row


class PostgresPauses:
    """Streams that are paused."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def paused(self) -> Mapping[str, Pause]:
        """By flag."""

        async def work(connection: Connection) -> dict[str, Pause]:
            return await _paused(connection)

        return await self._database.run(work)

    async def pause(self, flag: str, *, by: str, reason: str, drift: bool = False) -> Pause:
        """Audited at the current revision: proxies have nothing to load."""

        async def work(connection: Connection) -> Pause:
            change = await Change.begin(connection, None)
            await change.flag(flag)
            known = (await _paused(connection)).get(flag)
            if known is not None and not replaces(known, drift=drift, reason=reason):
                return known
            pause = Pause(since=change.at if known is None else known.since, by=by, reason=reason, drift=drift)
            values = {"flag": flag, "at": pause.since, "by": by, "why": reason, "drift": drift}
            await connection.execute(queries("sync")["pause"], values)
            await _record(change, flag, "sync_pause", pause, by=by, reason=reason)
            return pause

        return await self._database.run(work)

    async def resume(self, flag: str, *, by: str, reason: str, only_drift: bool = False) -> bool:
        """One conditional UPDATE under the lock of every change."""

        async def work(connection: Connection) -> bool:
            change = await Change.begin(connection, None)
            await change.flag(flag)
            known = (await _paused(connection)).get(flag)
            if known is None or (only_drift and not known.drift):
                return False
            await connection.execute(queries("sync")["resume"], {"flag": flag})
            await _record(change, flag, "sync_resumed", known, by=by, reason=reason)
            return True

        return await self._database.run(work)


async def _record(change: Change, flag: str, verb: str, pause: Pause, *, by: str, reason: str) -> None:
    """The audit entry of a pause that begins (`sync_pause`) or ends."""
    paused = {"paused": paused_document(pause)}
    begins = verb == "sync_pause"
    await change.record(
        actor=by, verb=verb, subject=flag, reason=reason,
        before={} if begins else paused, after=paused if begins else {}, revision=change.revision,
    )  # fmt: skip
    await change.close(change.revision)


async def _paused(connection: Connection) -> dict[str, Pause]:
    rows = await (await connection.execute(queries("sync")["paused"])).fetchall()
    return {row["flag"]: _pause_of(row) for row in rows}


def _pause_of(row: Row) -> Pause:
    return Pause(
        since=row["paused_at"].astimezone(dt.UTC),
        by=row["paused_by"],
        reason=row["paused_why"],
        drift=row["paused_drift"],
    )
