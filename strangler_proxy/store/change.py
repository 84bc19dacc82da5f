"""One change is one transaction: lock of the state row, compare-and-set, rows, audit entries, new head, NOTIFY."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from strangler_proxy.core.flag import Flag
from strangler_proxy.store.chain import next_entry
from strangler_proxy.store.database import Connection
from strangler_proxy.store.queries import queries
from strangler_proxy.store.rows import entry_values, flag_of_row, flag_values
from strangler_proxy.store.switching import check_revision, difference, stamped, unknown_flag


class Change:
    """What is known under the lock. Write entries and rows, then `close`; without that nothing may have been written.

    `revision` is the current one, `next_revision` the one that this change makes, `at` the database's clock.
    """

    def __init__(
        self, connection: Connection, *, revision: int, default_cluster: str, count: int, head: str, at: dt.datetime
    ) -> None:
        self.connection = connection
        self.revision = revision
        self.next_revision = revision + 1
        self.default_cluster = default_cluster
        self.at = at
        self._count = count
        self._head = head

    @classmethod
    async def begin(cls, connection: Connection, expected_revision: int | None) -> Change:
        """Wait for the lock. Raises RevisionMoved where the caller saw another revision."""
        cursor = await connection.execute(queries("change")["lock"])
        row = await cursor.fetchone()
        assert row is not None, "the state row is made by the first migration and cannot be deleted"
        check_revision(row["revision"], expected_revision)
        return cls(
            connection,
            revision=row["revision"],
            default_cluster=row["default_cluster"],
            count=row["audit_count"],
            head=row["audit_head"],
            at=row["at"].astimezone(dt.UTC),
        )

    async def flag(self, key: str) -> Flag:
        """One flag. Raises UnknownName."""
        return await read_flag(self.connection, key)

    async def write(self, name: str, values: Mapping[str, object]) -> None:
        """Run one query of `sql/change.sql`."""
        await self.connection.execute(queries("change")[name], values)

    async def record(
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
        """Append one audit entry to the chain."""
        entry = next_entry(
            count=self._count,
            head=self._head,
            at=self.at,
            actor=actor,
            verb=verb,
            subject=subject,
            reason=reason,
            before=before,
            after=after,
            revision=revision,
        )
        await self.write("entry", entry_values(entry))
        self._count, self._head = entry.id, entry.hash

    async def close(self, revision: int) -> int:
        """Put the new head and revision down; proxies are told with the commit, if it is a new one."""
        await self.write(
            "close",
            {
                "revision": revision,
                "default_cluster": self.default_cluster,
                "count": self._count,
                "head": self._head,
                "at": self.at,
            },
        )
        if revision != self.revision:
            await self.write("notify", {"revision": revision})
        return revision


async def read_flag(connection: Connection, key: str) -> Flag:
    """One flag. Raises UnknownName."""
    row = await (await connection.execute(queries("table")["flag"], {"key": key})).fetchone()
    if row is None:
        raise unknown_flag(key)
    return flag_of_row(row)


async def switch(change: Change, before: Flag, after: Flag, *, verb: str, by: str, reason: str) -> int:
    """Write a switched flag with its audit entry; the current revision where nothing differs."""
    old, new = difference(before, after)
    if not new:
        return change.revision
    flag = stamped(before, after, at=change.at, by=by, reason=reason)
    revision = change.next_revision
    await change.write("flag", flag_values(flag, revision))
    await change.record(actor=by, verb=verb, subject=flag.key, reason=reason, before=old, after=new, revision=revision)
    return await change.close(revision)
