"""Put capture, fence and ownership beside the data of one flag, on both sides. Idempotent; safe under traffic."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping
from importlib import resources

import psycopg
from psycopg import sql

from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import shapes
from strangler_proxy.sync.layout import Layout, MovedTable, read_layout
from strangler_proxy.sync.link import DataUnavailable, Link
from strangler_proxy.sync.statements import statement, template

CAPTURE_TRIGGERS = ("strangler_capture_insert", "strangler_capture_update", "strangler_capture_delete")
ALWAYS_ON = (*CAPTURE_TRIGGERS, "strangler_truncate")
_INSTALLED = (*ALWAYS_ON, "strangler_report")
_LOCK_TIMEOUT_MS = 300
_TRIES = 30


async def install(manifest: Manifest, links: Mapping[Origin, Link]) -> Layout:
    """Schema, first grant, triggers; the target's fence is up at once.

    An ownership record that exists stays as it is. Locks on the application's tables are asked for with a short
    time-out and many tries. Raises DeclarationError, and DataUnavailable when the locks cannot be had.
    """
    layout = await read_layout(manifest, links)
    for origin in (Origin.EXTRACTED, Origin.MONOLITH):
        link = links[origin]
        async with link.transaction():
            await link.execute(statement("schema", "lock"))
            await link.execute(statement("schema", "schema"))
            await link.execute(_shadow_schema())
        async with link.transaction():
            await link.execute(statement("schema", "own"), {"flag": manifest.flag, "origin": origin.value})
        for moved in layout.tables:
            await _with_tries(link, layout.flag, moved, origin)
    return layout


def fence_triggers(moved: MovedTable, origin: Origin) -> tuple[str, ...]:
    """Names of the triggers that make the fence of a table on one side."""
    return ("strangler_fence", "strangler_fence_columns") if moved.sides[origin].partial else ("strangler_fence",)


async def trigger_states(link: Link, moved: MovedTable, origin: Origin) -> dict[str, str]:
    """State by name of the toolkit's triggers on a table: `A` always, `D` disabled."""
    cursor = await link.execute(statement("capture", "triggers"), {"table": moved.sides[origin].regclass})
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def set_fence(link: Link, layout: Layout, origin: Origin, *, up: bool) -> None:
    """Inside a transaction: put the fence of all tables up or down, in the manifest's order."""
    for moved in layout.tables:
        states = await trigger_states(link, moved, origin)
        for trigger in fence_triggers(moved, origin):
            if states.get(trigger) == ("A" if up else "D"):
                continue
            await link.execute(
                template(
                    "capture",
                    "always" if up else "disable",
                    table=moved.sides[origin].identifier,
                    trigger=sql.Identifier(trigger),
                )
            )


async def _with_tries(link: Link, flag: str, moved: MovedTable, origin: Origin) -> None:
    for _ in range(_TRIES):
        try:
            async with link.transaction():
                await link.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
                await _install_table(link, flag, moved, origin)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(random.uniform(0.1, 0.5))
    raise DataUnavailable(
        f"table {moved.sides[origin].name!r}: other transactions held it locked for {_TRIES} tries; "
        "end the long ones and start again"
    )


async def _install_table(link: Link, flag: str, moved: MovedTable, origin: Origin) -> None:
    side = moved.sides[origin]
    function = _function_name(flag, moved)
    await link.execute(_capture_function(flag, moved, origin, function))
    digest = _digest(flag, moved, origin)
    cursor = await link.execute(
        b"SELECT obj_description(oid, 'pg_trigger') FROM pg_trigger "
        b"WHERE tgrelid = %s::regclass AND tgname = 'strangler_capture_insert'",
        (side.regclass,),
    )
    row = await cursor.fetchone()
    states = await trigger_states(link, moved, origin)
    expected = {*_INSTALLED, *fence_triggers(moved, origin)}
    if row is not None and row[0] == digest and set(states) == expected and _on(states):
        return
    for trigger in states:
        await link.execute(template("capture", "drop", table=side.identifier, trigger=sql.Identifier(trigger)))
    parts: dict[str, sql.Composable] = {"table": side.identifier, "function": sql.Identifier(function)}
    for name in ("insert", "update", "delete"):
        await link.execute(template("capture", name, **parts))
    await link.execute(template("capture", "truncate", table=side.identifier))
    await link.execute(_report(moved, origin))
    await _create_fence(link, flag, moved, origin)
    for trigger in _INSTALLED:
        await link.execute(template("capture", "always", table=side.identifier, trigger=sql.Identifier(trigger)))
    closed = await (await link.execute(b"SELECT NOT open FROM strangler.ownership WHERE flag = %s", (flag,))).fetchone()
    for trigger in fence_triggers(moved, origin):
        state = "always" if closed is None or closed[0] else "disable"
        await link.execute(template("capture", state, table=side.identifier, trigger=sql.Identifier(trigger)))
    await link.execute(
        sql.SQL("COMMENT ON TRIGGER strangler_capture_insert ON {} IS {}").format(side.identifier, sql.Literal(digest))
    )


async def _create_fence(link: Link, flag: str, moved: MovedTable, origin: Origin) -> None:
    side = moved.sides[origin]
    if not side.partial:
        await link.execute(template("capture", "fence_whole", table=side.identifier, flag=sql.Literal(flag)))
        return
    await link.execute(template("capture", "fence_partial", table=side.identifier, flag=sql.Literal(flag)))
    await link.execute(
        template(
            "capture",
            "fence_columns",
            table=side.identifier,
            flag=sql.Literal(flag),
            old_columns=shapes.comparable(side, "old"),
            new_columns=shapes.comparable(side, "new"),
        )
    )


def _shadow_schema() -> bytes:
    # A text that contrib ships, for systems that have nothing but contrib; no code of it is imported here.
    return resources.files("strangler_proxy.contrib").joinpath("shadow_schema.sql").read_bytes()


def _report(moved: MovedTable, origin: Origin) -> sql.Composed:
    here, there = moved.sides[origin], moved.sides[Origin.EXTRACTED]
    return template(
        "capture",
        "report",
        table_name=sql.Literal(here.regclass),
        logical=sql.Literal(there.name),
        here=sql.Literal([column.name for column in here.columns]),
        there=sql.Literal([column.name for column in there.columns]),
        key=sql.Literal([here.columns[position].name for position in here.key]),
    )


def _capture_function(flag: str, moved: MovedTable, origin: Origin, function: str) -> sql.Composed:
    side = moved.sides[origin]
    return template(
        "capture",
        "function",
        function=sql.Identifier(function),
        flag=sql.Literal(flag),
        tbl=sql.Literal(moved.name),
        new_key=shapes.key_texts(side, "n"),
        old_key=shapes.key_texts(side, "o"),
        same_key=shapes.same_key(side, "o", "n"),
        old_columns=shapes.comparable(side, "o"),
        new_columns=shapes.comparable(side, "n"),
    )


def _on(states: Mapping[str, str]) -> bool:
    return all(states[trigger] == "A" for trigger in _INSTALLED)


def _function_name(flag: str, moved: MovedTable) -> str:
    digest = hashlib.sha256(f"{flag}\0{moved.name}".encode()).hexdigest()[:8]
    return f"capture_{moved.name.replace('.', '_')[:40]}_{digest}"


def _digest(flag: str, moved: MovedTable, origin: Origin) -> str:
    side = moved.sides[origin]
    said = repr((flag, moved.name, [c.name for c in side.columns], side.key, side.partial))
    return "strangler " + hashlib.sha256(said.encode()).hexdigest()[:16]
