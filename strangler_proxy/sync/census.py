"""Read at one side who was seen with a flag's tables, and since when somebody counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from psycopg.rows import TupleRow

from strangler_proxy.core.census import Access, Counting, Kind, Mode, Movement, Place, Process
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement

PLACES = 2_100
"""More places than this are never kept for one flag at one side: 2,000, and what stands for the rest."""


async def seen_since(connection: Link, flag: str, since: dt.datetime | None) -> list[Place]:
    """Places that read or wrote the flag's tables at this side since a time (None: ever), the latest first.

    The toolkit's own are among them (`kind.is_user` says who is not). Empty where nobody counts, too: ask `counting`
    whether it means anything.
    """
    if not await _exists(connection):
        return []
    given = {"flag": flag, "since": since, "limit": PLACES}
    cursor = await connection.execute(statement("census", "seen"), given)
    return [_place(row) for row in await cursor.fetchall()]


async def counting(connection: Link, flag: str) -> Counting:
    """The census's mode for a flag at this side; `off` where it was never turned on."""
    if not await _exists(connection):
        return Counting(mode=Mode.OFF)
    row = await (await connection.execute(statement("census", "mode"), {"flag": flag})).fetchone()
    if row is None:
        return Counting(mode=Mode.OFF)
    mode, triggers, allow, since = row
    return Counting(mode=Mode(mode), triggers=triggers, allow=tuple(allow), since=since)


async def processes_since(connection: Link, since: dt.datetime | None) -> list[Process]:
    """Processes of applications that reported at this side since a time; of all flags, as they count for all."""
    if not await _exists(connection):
        return []
    cursor = await connection.execute(statement("census", "processes"), {"since": since})
    return [
        Process(service=row[0], host=row[1], pid=row[2], program=row[3], started_at=row[4], seen_at=row[5], lost=row[6])
        for row in await cursor.fetchall()
    ]


async def look(connection: Link, flag: str, tables: Sequence[str], *, stream_runs: bool) -> None:
    """Note how PostgreSQL's counters of these tables stand; a table that is not there is left out."""
    for table in tables:
        given = {"flag": flag, "tbl": table, "table": quoted(table), "stream_runs": stream_runs}
        await connection.execute(statement("census", "look"), given)


async def movements(
    connection: Link, flag: str, tables: Sequence[str], since: dt.datetime | None
) -> tuple[Movement, ...]:
    """How far the counters moved between the look at or before a time (else the first) and the newest."""
    found = []
    for table in tables:
        given = {"flag": flag, "tbl": table, "since": since}
        row = await (await connection.execute(statement("census", "moved"), given)).fetchone()
        if row is not None:
            at, scans, inserted, updated, deleted = row
            # after a restart that lost them, counters begin again
            moved = [max(0, value) for value in (scans, inserted, updated, deleted)]
            found.append(
                Movement(table=table, since=at, scans=moved[0], inserted=moved[1], updated=moved[2], deleted=moved[3])
            )
    return tuple(found)


def quoted(table: str) -> str:
    """A manifest's table name as `to_regclass` takes it."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in table.split("."))


async def _exists(connection: Link) -> bool:
    row = await (await connection.execute(statement("census", "exists"))).fetchone()
    return row is not None and bool(row[0])


def _place(row: TupleRow) -> Place:
    flag, table, access, kind, name, place, application, count, refused, first_seen, last_seen = row
    return Place(
        flag=flag,
        table=table,
        access=Access(access),
        kind=Kind(kind),
        name=name,
        place=place,
        application=application,
        count=count,
        refused=refused,
        first_seen=first_seen,
        last_seen=last_seen,
    )
