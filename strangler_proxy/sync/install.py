"""Put capture, fence and ownership beside the data of one flag, on both sides. Idempotent; safe under traffic."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources

import psycopg
from psycopg import sql

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import shapes
from strangler_proxy.sync.layout import Layout, MovedTable, read_layout
from strangler_proxy.sync.link import DataUnavailable, Link, first_line
from strangler_proxy.sync.noted import noted_text, shape_of
from strangler_proxy.sync.references import install_references, references_of
from strangler_proxy.sync.statements import statement, template

CAPTURE_TRIGGERS = ("strangler_capture_insert", "strangler_capture_update", "strangler_capture_delete")
ALWAYS_ON = (*CAPTURE_TRIGGERS, "strangler_truncate")
FENCE = "strangler_fence"
FENCES = (FENCE, "strangler_fence_columns")
_INSTALLED = (*ALWAYS_ON, "strangler_report")
_EVENTS = ("insert", "update", "delete")
_WRITTEN_ONE_WAY = frozenset({"smallint", "integer", "bigint", "uuid"})
"""Types of keys of which equal ones have one text."""

_CAPTURE = 2
"""Which make of the triggers is installed; those of another are replaced."""

_LOCK_TIMEOUT_MS = 300
_TRIES = 30


async def install(manifest: Manifest, links: Mapping[Origin, Link]) -> Layout:
    """Schema, first grant, triggers; the target's fence is up at once, and what soft references do on deletion.

    An ownership record that exists stays as it is. Locks on the application's tables are asked for with a short
    time-out and many tries. Raises DeclarationError, and DataUnavailable when the locks cannot be had.
    """
    layout = await read_layout(manifest, links)
    references = await references_of(manifest, links[Origin.MONOLITH])
    for origin in (Origin.EXTRACTED, Origin.MONOLITH):
        link = links[origin]
        try:
            await _install_schema(link)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DeclarationError([_lacks(manifest, link, origin, error)]) from error
        await _with_tries(link, "the queue of dirty keys", functools.partial(_one_index, link))
        async with link.transaction():
            await link.execute(statement("schema", "own"), {"flag": manifest.flag, "origin": origin.value})
        for moved in layout.tables:
            await _with_tries(
                link,
                f"table {moved.sides[origin].name!r}",
                functools.partial(_install_table, link, layout.flag, moved, origin),
            )
    monolith = links[Origin.MONOLITH]
    what = "a table that soft references name"
    await _with_tries(monolith, what, functools.partial(install_references, monolith, layout.flag, references))
    return layout


async def _install_schema(link: Link) -> None:
    async with link.transaction():
        await link.execute(statement("schema", "lock"))
        await link.execute(statement("schema", "schema"))
        await link.execute(_shadow_schema())


def _lacks(manifest: Manifest, link: Link, origin: Origin, error: psycopg.Error) -> str:
    return (
        f"database {manifest.databases[origin]!r} ({origin.value}): {first_line(error)}; the worker's role makes the "
        f'schema "strangler" there, and owns it: GRANT CREATE ON DATABASE "{link.info.dbname}" TO "{link.info.user}"'
    )


def fence_triggers(moved: MovedTable, origin: Origin) -> tuple[str, ...]:
    """Names of the triggers that make the fence of a table on one side."""
    return FENCES if moved.sides[origin].partial else (FENCE,)


async def trigger_states(link: Link, moved: MovedTable, origin: Origin) -> dict[str, str]:
    """State by name of the toolkit's triggers on a table: `A` always, `D` disabled."""
    cursor = await link.execute(statement("capture", "triggers"), {"table": moved.sides[origin].regclass})
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def all_trigger_states(link: Link, layout: Layout, origin: Origin) -> list[tuple[MovedTable, dict[str, str]]]:
    """The same for every table, in the manifest's order; all is asked before anything is waited for."""
    query = statement("capture", "triggers")
    async with link.pipeline():
        asked = [(moved, await link.execute(query, {"table": moved.sides[origin].regclass})) for moved in layout.tables]
    return [(moved, {row[0]: row[1] for row in await cursor.fetchall()}) for moved, cursor in asked]


async def set_fence(link: Link, layout: Layout, origin: Origin, *, up: bool) -> None:
    """Inside a transaction: put the fence of all tables up or down, in the manifest's order.

    Requests are held meanwhile, so the statements are sent together.
    """
    state, query = ("A", "always") if up else ("D", "disable")
    known = await all_trigger_states(link, layout, origin)
    async with link.pipeline():
        for moved, states in known:
            for trigger in fence_triggers(moved, origin):
                if states.get(trigger) != state:
                    names = {"table": moved.sides[origin].identifier, "trigger": sql.Identifier(trigger)}
                    await link.execute(template("capture", query, **names))


async def note_every_change(link: Link, layout: Layout, origin: Origin) -> None:
    """Have capture note every written key, whatever changed.

    For a table that lost a column that moves: the function that compares it would fail every write to the table.
    """
    for moved in layout.tables:
        await link.execute(_capture_function(layout.flag, moved, origin, "update", every=True))


async def _with_tries(link: Link, what: str, work: Callable[[], Awaitable[None]]) -> None:
    for _ in range(_TRIES):
        try:
            async with link.transaction():
                await link.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
                await work()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(random.uniform(0.1, 0.5))
    raise DataUnavailable(
        f"{what}: other transactions held it locked for {_TRIES} tries; end the long ones and start again"
    )


async def _one_index(link: Link) -> None:
    """A queue of before had two, and every write of the application kept up both."""
    await link.execute(statement("schema", "lock"))
    row = await (await link.execute(b"SELECT to_regclass('strangler.dirty_flag')")).fetchone()
    if row is not None and row[0] is not None:
        await link.execute(statement("schema", "one_index"))


async def _install_table(link: Link, flag: str, moved: MovedTable, origin: Origin) -> None:
    side = moved.sides[origin]
    for event in _EVENTS:
        await link.execute(_capture_function(flag, moved, origin, event))
    noted = (await shape_of(link, side)).to_text(_digest(flag, moved, origin))
    known = await noted_text(link, side)
    states = await trigger_states(link, moved, origin)
    expected = {*_INSTALLED, *fence_triggers(moved, origin)}
    wanted = await _fence_state(link, flag)
    fenced = all(states.get(name) == wanted for name in fence_triggers(moved, origin))
    if known == noted and set(states) == expected and _on(states) and fenced:
        return
    for trigger in states:
        await link.execute(template("capture", "drop", table=side.identifier, trigger=sql.Identifier(trigger)))
    for event in _EVENTS:
        function = sql.Identifier(_function_name(flag, moved, event))
        await link.execute(template("capture", event, table=side.identifier, function=function))
    await link.execute(template("capture", "drop_former", function=sql.Identifier(_function_name(flag, moved))))
    await link.execute(template("capture", "truncate", table=side.identifier))
    await link.execute(_report(moved, origin))
    await _create_fence(link, flag, moved, origin)
    for trigger in _INSTALLED:
        await link.execute(template("capture", "always", table=side.identifier, trigger=sql.Identifier(trigger)))
    state = "always" if await _fence_state(link, flag) == "A" else "disable"  # read again: its tables are locked now
    for trigger in fence_triggers(moved, origin):
        await link.execute(template("capture", state, table=side.identifier, trigger=sql.Identifier(trigger)))
    await link.execute(
        sql.SQL("COMMENT ON TRIGGER strangler_capture_insert ON {} IS {}").format(side.identifier, sql.Literal(noted))
    )


async def _fence_state(link: Link, flag: str) -> str:
    """`A` on a side that is closed, `D` on one that is open."""
    closed = await (await link.execute(b"SELECT NOT open FROM strangler.ownership WHERE flag = %s", (flag,))).fetchone()
    return "A" if closed is None or closed[0] else "D"


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


def _capture_function(flag: str, moved: MovedTable, origin: Origin, event: str, *, every: bool = False) -> sql.Composed:
    side = moved.sides[origin]
    names = {
        "function": sql.Identifier(_function_name(flag, moved, event)),
        "flag": sql.Literal(flag),
        "tbl": sql.Literal(moved.name),
    }
    if event != "update":
        rows = sql.SQL("new_rows" if event == "insert" else "old_rows")
        key = shapes.comma(sql.SQL("{}::pg_catalog.text").format(side.column(position, "r")) for position in side.key)
        return template("capture", "on_insert_or_delete", **names, key=key, rows=rows)
    one_way = all(side.columns[position].type in _WRITTEN_ONE_WAY for position in side.key)
    keys = {"old_key": shapes.key_texts(side, "o"), "new_key": shapes.key_texts(side, "n")}
    either = (
        sql.SQL("coalesce({}, {})::text").format(side.column(position, "o"), side.column(position, "n"))
        for position in side.key
    )
    noted = sql.SQL("{}, {}, ARRAY[{}]" if one_way else "DISTINCT {}, {}, k.pk")
    return template(
        "capture",
        "on_update",
        **names,
        noted=noted.format(names["flag"], names["tbl"], shapes.comma(either)),
        both=sql.SQL("") if one_way else template("capture", "both_keys", **keys),
        same_key=shapes.same_key(side, "o", "n"),
        old_columns=sql.SQL("1") if every else shapes.comparable(side, "o"),
        new_columns=sql.SQL("2") if every else shapes.comparable(side, "n"),
    )


def _on(states: Mapping[str, str]) -> bool:
    return all(states[trigger] == "A" for trigger in _INSTALLED)


def _function_name(flag: str, moved: MovedTable, event: str = "") -> str:
    """Of one event; without one, of all of them, as it was once."""
    digest = hashlib.sha256(f"{flag}\0{moved.name}".encode()).hexdigest()[:8]
    name = moved.name.replace(".", "_")
    return f"capture_{event}_{name[:38]}_{digest}" if event else f"capture_{name[:40]}_{digest}"


def _digest(flag: str, moved: MovedTable, origin: Origin) -> str:
    side = moved.sides[origin]
    said = repr((_CAPTURE, flag, moved.name, [c.name for c in side.columns], side.key, side.partial))
    return "strangler " + hashlib.sha256(said.encode()).hexdigest()[:16]
