"""Turn the census of a flag on and off at one side: its tables there, its mode, and triggers where they are wanted."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence

import psycopg
from psycopg import sql

from strangler_proxy.core.census import Counting, Mode
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.census import look, quoted
from strangler_proxy.sync.link import DataUnavailable, Link
from strangler_proxy.sync.statements import statement, template

_LOCK_TIMEOUT_MS = 300
_TRIES = 30
_RELATION = b"SELECT to_regclass(%s) IS NOT NULL"


async def set_mode(
    link: Link, manifest: Manifest, origin: Origin, wanted: Counting, *, stream_runs: bool = False
) -> None:
    """Bring one side to this mode. Idempotent; safe under traffic, as locks are asked for in short tries.

    Raises DataUnavailable where a lock of a table cannot be had.
    """
    tables = table_names(manifest, origin)
    async with link.transaction():
        await link.execute(statement("schema", "lock"))
        await link.execute(statement("census", "schema"))
    triggers = wanted.triggers and wanted.mode is not Mode.OFF
    for table in tables:
        await _set_trigger(link, manifest.flag, table, wanted=triggers)
    given = {
        "flag": manifest.flag,
        "mode": wanted.mode.value,
        "triggers": triggers,
        "tables": list(tables),
        "allow": list(wanted.allow),
    }
    async with link.transaction():
        await link.execute(statement("census", "set_mode"), given)
        await look(link, manifest.flag, tables, stream_runs=stream_runs)


def table_names(manifest: Manifest, origin: Origin) -> tuple[str, ...]:
    """The flag's tables as that side names them."""
    return tuple(table.name(origin) for table in manifest.tables)


async def _set_trigger(link: Link, flag: str, table: str, *, wanted: bool) -> None:
    row = await (await link.execute(statement("census", "has_trigger"), {"table": quoted(table)})).fetchone()
    if row is None or row[0] == wanted:
        return
    exists = await (await link.execute(_RELATION, (quoted(table),))).fetchone()
    if exists is None or not exists[0]:
        return
    for _ in range(_TRIES):
        try:
            async with link.transaction():
                await link.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
                for each in _statements(flag, table, wanted=wanted):
                    await link.execute(each)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(random.uniform(0.1, 0.5))
    raise DataUnavailable(
        f"table {table!r}: other transactions held it locked for {_TRIES} tries; end the long ones and ask again"
    )


def _statements(flag: str, table: str, *, wanted: bool) -> Sequence[sql.Composed]:
    name = sql.Identifier(*table.split("."))
    if not wanted:
        return [template("census", "drop_trigger", table=name)]
    guard = "strangler.census_" + hashlib.sha256(f"{flag}\0{table}".encode()).hexdigest()[:12]
    parts = {"flag": sql.Literal(flag), "tbl": sql.Literal(table), "guard": sql.Literal(guard)}
    return [
        template("census", "trigger", table=name, **parts),
        template("census", "trigger_always", table=name),
    ]
