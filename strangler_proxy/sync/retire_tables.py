"""Setting the old tables aside, with a tripwire in their place; bringing them back; dropping them.

Each is one transaction in the monolith's database: another session sees all of it or nothing. Locks are asked for with
short time-outs and many tries, so that the application is never kept waiting behind a request for a lock.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence

import psycopg
from psycopg import sql

from strangler_proxy.core.retire import SCHEMA
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import retire_record
from strangler_proxy.sync.install import trigger_states
from strangler_proxy.sync.layout import Layout, MovedTable
from strangler_proxy.sync.link import DataUnavailable, Link
from strangler_proxy.sync.references import drop_references
from strangler_proxy.sync.retire_record import ForeignKey, OldTable, Retirement
from strangler_proxy.sync.statements import statement, template

_TRIES = 40
_LOCK_TIMEOUTS_MS = (300, 300, 300, 1500)
"""The longest is longer than PostgreSQL's `deadlock_timeout`, after which an autovacuum in the way is cancelled."""


async def with_tries(link: Link, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` in a transaction that waits briefly for locks, again and again. Raises DataUnavailable."""
    for number in range(_TRIES):
        try:
            async with link.transaction():
                timeout = _LOCK_TIMEOUTS_MS[number % len(_LOCK_TIMEOUTS_MS)]
                await link.execute(f"SET LOCAL lock_timeout = {timeout}".encode())
                await work()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(random.uniform(0.1, 0.5))
    raise DataUnavailable(
        f"other transactions held the tables locked for {_TRIES} tries: end the long ones, then run the command again"
    )


async def foreign_keys(link: Link, layout: Layout) -> tuple[tuple[ForeignKey, bool], ...]:
    """Foreign keys between moved tables and others, in both directions, and whether this role may drop them."""
    tables = [moved.sides[Origin.MONOLITH].regclass for moved in layout.tables]
    async with link.transaction():
        await link.execute(b"SET LOCAL search_path = pg_catalog")  # names in definitions are qualified then
        rows = await (await link.execute(statement("retire", "foreign_keys"), {"tables": tables})).fetchall()
    return tuple(
        (ForeignKey(schema=row[0], table=row[1], name=row[2], definition=row[3]), bool(row[4])) for row in rows
    )


async def set_aside(link: Link, layout: Layout) -> tuple[OldTable, ...]:
    """Move the old tables into a schema of their own, each with a read-only view in its place.

    With it: foreign keys to and from tables that stay are dropped and noted, the toolkit's triggers are dropped, the
    guard refuses every write, and the record says all of it. Raises DataUnavailable where the locks cannot be had.
    """
    keys = tuple(key for key, _ in await foreign_keys(link, layout))
    tables = tuple([await _old_table(link, layout.flag, moved) for moved in layout.tables])

    async def work() -> None:
        await link.execute(statement("promotion", "lock"), {"flag": layout.flag})
        for key in keys:
            await link.execute(
                template("retire", "drop_foreign_key", table=key.identifier, constraint=sql.Identifier(key.name))
            )
        await drop_references(link, layout.flag)
        for moved, table in zip(layout.tables, tables, strict=True):
            await drop_triggers(link, moved, Origin.MONOLITH)
            await _set_one_aside(link, layout.flag, table)
        await retire_record.note_tables(link, layout.flag, tables, keys)
        await retire_record.advance(link, layout.flag, "set aside")

    await with_tries(link, work)
    return tables


async def bring_back(link: Link, known: Retirement) -> None:
    """The tables under their names again, still guarded: `install` replaces the guard by the fence.

    Foreign keys come back without a look at the rows that are there. Raises DataUnavailable.
    """

    async def work() -> None:
        for table in known.tables:
            await link.execute(template("retire", "drop_view", view=table.view))
            await link.execute(template("retire", "drop_tripwire", tripwire=table.tripwire))
            if table.kept_as != table.relation:
                name = sql.Identifier(table.relation)
                await link.execute(template("retire", "rename", table=table.kept, new_name=name))
            here = sql.Identifier(SCHEMA, table.relation)
            schema = sql.Identifier(table.schema)
            await link.execute(template("retire", "set_schema", table=here, schema=schema))
        for key in known.foreign_keys:
            await link.execute(key.add().encode())
        await retire_record.advance(link, known.flag, "brought back")
        await retire_record.set_status(link, known.flag, "undoing")

    await with_tries(link, work)


async def forget_counters(link: Link, known: Retirement) -> None:
    """What counted refused writes, once no guard needs it any more."""
    for table in known.tables:
        await link.execute(template("retire", "drop_sequence", sequence=table.refusals))


async def validate(link: Link, known: Retirement) -> list[str]:
    """Look at the rows behind each foreign key that came back; the statements that are left to be done, with why."""
    left = []
    for key in known.foreign_keys:
        given = {"table": key.regclass, "name": key.name}
        row = await (await link.execute(statement("retire", "has_constraint"), given)).fetchone()
        if row is not None and row[0]:
            continue
        try:
            await link.execute(key.validate().encode())
        except psycopg.Error as error:
            left.append(f"{key.validate()};  -- {str(error).partition(chr(10))[0]}")
    return left


async def drop(link: Link, known: Retirement) -> None:
    """Drop views and tables, children first, and note it. Raises DataUnavailable, or what another view raises."""

    async def work() -> None:
        for table in reversed(known.tables):
            await link.execute(template("retire", "drop_view", view=table.view))
            await link.execute(template("retire", "drop_tripwire", tripwire=table.tripwire))
            await link.execute(template("retire", "drop_table", table=table.kept))
            await link.execute(template("retire", "drop_sequence", sequence=table.refusals))
        await retire_record.set_status(link, known.flag, "dropped")

    await with_tries(link, work)


async def drop_triggers(link: Link, moved: MovedTable, origin: Origin) -> None:
    """Inside a transaction: all of the toolkit's triggers of a table, and its entry among the reported ones."""
    side = moved.sides[origin]
    for trigger in await trigger_states(link, moved, origin):
        await link.execute(template("capture", "drop", table=side.identifier, trigger=sql.Identifier(trigger)))
    await link.execute(template("census", "drop_trigger", table=side.identifier))
    await link.execute(statement("retire", "forget_reported"), {"table": side.regclass})


async def touched(link: Link, known: Retirement) -> tuple[int, int, bool]:
    """Statements that read the views, statements that were refused, and whether counters may have been lost since."""
    reads = refused = 0
    restarted = False
    for table in known.tables:
        given = {
            "tripwire": table.tripwire_regclass,
            "sequence": f"{table.counter}_refused",
            "since": known.retired_at,
        }
        row = await (await link.execute(statement("retire", "touched"), given)).fetchone()
        if row is not None:
            reads, refused, restarted = reads + int(row[0]), refused + int(row[1]), restarted or bool(row[2])
    return reads, refused, restarted


async def dependants(link: Link, tables: Sequence[OldTable]) -> list[str]:
    """Other views that stand on the tables: dropping them would break those."""
    found: list[str] = []
    for table in tables:
        given = {"table": table.kept_regclass, "view": table.view_regclass}
        rows = await (await link.execute(statement("retire", "dependants"), given)).fetchall()
        found += [str(row[0]) for row in rows]
    return found


async def _old_table(link: Link, flag: str, moved: MovedTable) -> OldTable:
    side = moved.sides[Origin.MONOLITH]
    columns = await (await link.execute(statement("catalog", "columns"), {"table": side.regclass})).fetchall()
    digest = hashlib.sha256(f"{flag}\0{moved.name}".encode()).hexdigest()[:8]
    here = f"{SCHEMA}." + '"' + side.name.replace('"', '""') + '"'
    row = await (await link.execute(statement("retire", "taken"), {"table": here})).fetchone()
    taken = row is not None and row[0]
    return OldTable(
        name=moved.name,
        schema=side.schema,
        relation=side.name,
        kept_as=f"{side.name[:50]}_{digest}" if taken else side.name,
        counter=f"{side.name[:40]}_{digest}",
        key=tuple(side.columns[position].name for position in side.key),
        columns=tuple(str(each[0]) for each in columns),
    )


async def _set_one_aside(link: Link, flag: str, table: OldTable) -> None:
    grants = await (await link.execute(statement("retire", "grants"), {"table": table.view_regclass})).fetchall()
    await link.execute(template("retire", "set_schema", table=table.view, schema=sql.Identifier(SCHEMA)))
    if table.kept_as != table.relation:
        here, name = sql.Identifier(SCHEMA, table.relation), sql.Identifier(table.kept_as)
        await link.execute(template("retire", "rename", table=here, new_name=name))
    await link.execute(template("retire", "count_refused", sequence=table.refusals))
    await link.execute(template("retire", "count_reads", tripwire=table.tripwire))
    guard = {
        "table": table.kept,
        "flag": sql.Literal(flag),
        "label": sql.Literal(table.relation),
        "sequence": sql.Literal(table.refusals.as_string()),
    }
    await link.execute(template("retire", "guard", **guard))
    await link.execute(template("retire", "always", table=table.kept))
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    await link.execute(
        template("retire", "view", view=table.view, columns=columns, table=table.kept, tripwire=table.tripwire)
    )
    for grantee, privilege in grants:
        who = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        await link.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(privilege), table.view, who))
    says = f"retired with flag {flag}: reads are counted, writes refused; strangler retire {flag} --undo brings it back"
    await link.execute(template("retire", "view_comment", view=table.view, text=sql.Literal(says)))
