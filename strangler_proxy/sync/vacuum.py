"""Autovacuum of the moved tables: off before a cutover, as it was after it, whoever is left to do that.

A running autovacuum keeps the fence's lock away, and a short lock time-out never cancels one. What the setting was is
noted in the same transaction in the same database, so that any worker can restore it.
"""

from __future__ import annotations

from psycopg import sql

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import Layout
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement, template

ABANDONED_S = 30.0
"""Notes older than this belong to nobody, unless a record says that a cutover is under way."""


async def switch_off(link: Link, layout: Layout, origin: Origin) -> None:
    """Turn it off, waiting for one that runs (the deadlock check of PostgreSQL cancels it after a second)."""
    for moved in layout.tables:
        side = moved.sides[origin]
        async with link.transaction():
            await link.execute(b"SET LOCAL lock_timeout = 3000")
            row = await (
                await link.execute(statement("preflight", "vacuum_setting"), {"table": side.regclass})
            ).fetchone()
            given = {"flag": layout.flag, "tbl": moved.name, "previous": row[0] if row else None}
            await link.execute(statement("preflight", "vacuum_note"), given)
            await link.execute(template("preflight", "vacuum_off", table=side.identifier))


async def restore(link: Link, layout: Layout, origin: Origin, *, older_than_s: float = 0.0) -> int:
    """Put back what `switch_off` changed; nothing while a cutover is under way. How many tables it was."""
    given: dict[str, object] = {"flag": layout.flag, "seconds": older_than_s}
    async with link.transaction():
        await link.execute(b"SET LOCAL lock_timeout = 1000")
        rows = await (await link.execute(statement("preflight", "vacuum_noted"), given)).fetchall()
        for table, previous in rows:
            moved = layout.named(table)
            if moved is not None:
                place = moved.sides[origin].identifier
                name = "vacuum_reset" if previous is None else "vacuum_set"
                await link.execute(template("preflight", name, table=place, previous=sql.Literal(previous)))
            await link.execute(statement("preflight", "vacuum_forget"), {"flag": layout.flag, "tbl": table})
    return len(rows)
