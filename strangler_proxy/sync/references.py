"""What a soft reference does when the row that it names is deleted: refuse, keep a tombstone, tell as an event.

The monolith's database has both ends: the row that is named, or the copy of it that its own flag keeps in step, and the
rows that name it. So a trigger stands there, on the table that is named. It is no foreign key: a row that names a
deleted one may still be on its way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import Manifest, OnDelete, SoftReference, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.link import Link, first_line
from strangler_proxy.sync.statements import statement, template

OUTBOX = "outbox_message"
_NO_OUTBOX = (
    'on_delete = "event" needs the outbox of strangler_proxy.contrib.messaging in the monolith\'s database; '
    'make it, or declare "tombstone"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A table that is named by soft references of a flag, as the monolith has it."""

    schema: str
    table: str

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.table)


@dataclass(slots=True, kw_only=True)
class References:
    """What is to stand on each named table, and a sentence about each reference."""

    bodies: dict[_Named, sql.Composed]
    notes: list[str]


async def references_of(manifest: Manifest, monolith: Link) -> References:
    """Read what the references come to. Raises DeclarationError with all that does not fit."""
    found: dict[_Named, list[sql.Composed]] = {}
    notes: list[str] = []
    problems: list[str] = []
    for table, reference in _across(manifest.tables):
        name = f"{table.monolith}.{reference.column}"
        try:
            named, parts, note = await _one(manifest.flag, monolith, table, reference)
        except (DeclarationError, psycopg.errors.UndefinedFunction) as error:
            why = error.message if isinstance(error, DeclarationError) else first_line(error)
            problems.append(f"soft reference {name} to {reference.references}: {why}")
            continue
        notes.append(f"{name}: {note}")
        some = found.setdefault(named, [])
        some += [part for part in parts if part not in some]
    if problems:
        raise DeclarationError(problems)
    bodies = {named: sql.SQL("\n").join(parts) for named, parts in found.items() if parts}
    return References(bodies=bodies, notes=notes)


async def install_references(link: Link, flag: str, wanted: References) -> None:
    """Inside a transaction in the monolith's database: put the triggers in place, and remove those of before."""
    functions = {named: _function(flag, named, body) for named, body in wanted.bodies.items()}
    there = await _installed(link, flag)
    missing = {named: function for named, function in functions.items() if there.get(function) != named}
    kept = set(functions.values()) - set(missing.values())
    await _drop(link, flag, {function: named for function, named in there.items() if function not in kept})
    for named, function in missing.items():
        names = {
            "function": sql.Identifier(function),
            "trigger": sql.Identifier(_trigger(flag)),
            "named_table": named.identifier,
        }
        await link.execute(template("references", "function", does=wanted.bodies[named], **names))
        await link.execute(template("references", "trigger", **names))
        await link.execute(template("references", "always", **names))


async def drop_references(link: Link, flag: str) -> None:
    """Inside a transaction in the monolith's database: rows may be deleted as before."""
    await _drop(link, flag, await _installed(link, flag))


async def carry_tombstones(flag: str, tables: Sequence[Table], links: Mapping[Origin, Link]) -> int:
    """Tell the other side what is gone, a thousand at most; how many. Safe to repeat, whoever owns."""
    if all(reference.on_delete is OnDelete.REFUSE for _, reference in _across(tables)):
        return 0
    monolith, extracted = links[Origin.MONOLITH], links[Origin.EXTRACTED]
    try:
        rows = await (await monolith.execute(statement("references", "waiting"), {"flag": flag})).fetchall()
    except psycopg.errors.UndefinedTable:
        return 0  # prepared by an earlier release: the next `strangler sync start` makes it
    given = [{"flag": flag, "tbl": tbl, "col": col, "value": value, "at": at} for tbl, col, value, at in rows]
    if not given:
        return 0
    try:
        for link, query in ((extracted, "take"), (monolith, "carried")):
            async with link.transaction(), link.cursor() as cursor:
                await cursor.executemany(statement("references", query), given)
    except psycopg.errors.SerializationFailure:
        return 0  # one of them was deleted once more in this moment
    return len(given)


def _across(tables: Sequence[Table]) -> list[tuple[Table, SoftReference]]:
    """References to rows that do not move with the flag."""
    moved = {table.monolith for table in tables}
    return [
        (table, reference)
        for table in tables
        for reference in table.soft_references
        if reference.references.rpartition(".")[0] not in moved
    ]


async def _one(flag: str, link: Link, table: Table, reference: SoftReference) -> tuple[_Named, list[sql.Composed], str]:
    named_table, _, named_column = reference.references.rpartition(".")
    named = await _named(link, named_table, named_column)
    here = await _named(link, table.monolith, reference.column)
    given = {
        "table": _regclass(table.monolith),
        "named_table": _regclass(named_table),
        "column": reference.column,
        "named": named_column,
    }
    key = await (await link.execute(statement("references", "foreign_key"), given)).fetchone()
    rule = reference.on_delete
    if key is not None and key[1]:
        said = f"deleting is refused by foreign key {key[0]}"
        if rule is not OnDelete.REFUSE:
            said += f", so there is no {rule.value}: drop it, and `strangler sync start {flag}` again"
        return named, [], said
    parts = {
        "table": here.identifier,
        "column": sql.Identifier(reference.column),
        "named": sql.Identifier(named_column),
        "named_table": sql.Literal(named_table),
        "named_column": sql.Literal(named_column),
        "reference": sql.Literal(f"{table.monolith}.{reference.column}"),
        "flag": sql.Literal(flag),
    }
    await _named(link, named_table, named_column, as_owner=True)
    await link.execute(template("references", "try", **{**parts, "named_table": named.identifier}))
    if rule is OnDelete.REFUSE:
        return named, [template("references", "refuse", **parts)], "deleting is refused while a row names it"
    does = [template("references", "tombstone", **parts)]
    said = f"what is deleted of {named_table} is noted in strangler.gone"
    if rule is OnDelete.EVENT:
        outbox = await _named(link, OUTBOX, "event", otherwise=_NO_OUTBOX)
        event = sql.Literal(f"{named_table}.deleted")
        does.append(template("references", "event", outbox=outbox.identifier, event=event, **parts))
        said += f", and told as event {named_table}.deleted"
    return named, does, said


async def _named(link: Link, table: str, column: str, *, as_owner: bool = False, otherwise: str = "") -> _Named:
    """Where a table is. Raises DeclarationError: it is not there, has no such column, or this role may not use it."""
    given = {"table": _regclass(table), "column": column}
    row = await (await link.execute(statement("references", "place"), given)).fetchone()
    if row is None:
        raise DeclarationError([otherwise or f"there is no table {table!r} in the monolith's database"])
    schema, name, has_column, like_owner, owner, may_insert, role = row
    if not has_column:
        raise DeclarationError([f"table {table!r} has no column {column!r}"])
    if as_owner and not like_owner:
        raise DeclarationError([f"a trigger on {table} needs its owner's role: GRANT {owner} TO {role}"])
    if otherwise and not may_insert:
        raise DeclarationError([f"the worker's role may not write to {table}: GRANT INSERT ON {table} TO {role}"])
    return _Named(schema=schema, table=name)


async def _installed(link: Link, flag: str) -> dict[str, _Named]:
    pattern = _function_prefix(flag).replace("_", "\\_") + "%"
    rows = await (await link.execute(statement("references", "installed"), {"pattern": pattern})).fetchall()
    return {function: _Named(schema=schema, table=table) for function, _, schema, table in rows}


async def _drop(link: Link, flag: str, there: Mapping[str, _Named]) -> None:
    for function, named in there.items():
        names = {"trigger": sql.Identifier(_trigger(flag)), "named_table": named.identifier}
        await link.execute(template("references", "drop", **names))
        await link.execute(template("references", "drop_function", function=sql.Identifier(function)))


def _function(flag: str, named: _Named, body: sql.Composed) -> str:
    """Its name says what it does: another body is another function."""
    said = f"{named.schema}\0{named.table}\0{body.as_string()}"
    return _function_prefix(flag) + hashlib.sha256(said.encode()).hexdigest()[:16]


def _function_prefix(flag: str) -> str:
    return f"reference_{hashlib.sha256(flag.encode()).hexdigest()[:8]}_"


def _trigger(flag: str) -> str:
    """Not one of the names that the capture of another flag's tables takes for its own."""
    return f"reference_strangler_{hashlib.sha256(flag.encode()).hexdigest()[:8]}"


def _regclass(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
