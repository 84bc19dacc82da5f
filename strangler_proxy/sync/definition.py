"""How the moved tables are made where they are now, read from that side's catalog, to make them on the other side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strangler_proxy.core.manifest import Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import Layout, MovedTable, read_one_side
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDefinition:
    """One column. `expression`: its default, or what it is generated from; `portable`: that needs nothing else.

    `counts`: a sequence of its own feeds it. `uses`: columns of the expression.
    """

    name: str
    type: str
    not_null: bool
    generated: str
    expression: str | None
    portable: bool
    counts: bool
    collation: str | None
    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A constraint (`kind` p, u, c or x) or an index (empty), and the columns that it is about."""

    name: str
    kind: str
    columns: tuple[str, ...]
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """`other` is the name of a moved table, or the other table's name where `moves` is false."""

    name: str
    columns: tuple[str, ...]
    other: str
    other_columns: tuple[str, ...]
    on_delete: str
    on_update: str
    moves: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDefinition:
    """A type that columns use; `extension` is the one it comes with. `beneath` is a domain's type."""

    kind: str
    name: str
    schema: str
    extension: str | None
    labels: tuple[str, ...]
    beneath: str | None
    not_null: bool
    default: str | None
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDefinition:
    """One table as its catalog has it, whatever of it moves."""

    table: Table
    columns: tuple[ColumnDefinition, ...]
    rules: tuple[Rule, ...]
    foreign_keys: tuple[ForeignKey, ...]
    triggers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """All moved tables, parents before children, and the types that they need first."""

    types: tuple[TypeDefinition, ...]
    tables: tuple[TableDefinition, ...]


async def read_definitions(manifest: Manifest, link: Link) -> Definitions:
    """From the monolith's database. Raises DeclarationError for what cannot be moved, psycopg's errors."""
    layout = await read_one_side(manifest, link, Origin.MONOLITH)
    async with link.transaction():
        await link.execute(statement("ddl", "path"))
        tables = [await _table(link, layout, moved) for moved in layout.tables]
        columns = [(moved, name) for moved in layout.tables for name in moved.table.column_names(Origin.MONOLITH)]
        given = {
            "tables": [moved.sides[Origin.MONOLITH].regclass for moved, _ in columns],
            "columns": [name for _, name in columns],
        }
        types = [
            TypeDefinition(
                kind=row[0], name=row[1], schema=row[2], extension=row[3], labels=tuple(row[4]), beneath=row[5],
                not_null=row[6], default=row[7], checks=tuple(row[8]),
            )
            for row in await (await link.execute(statement("ddl", "types"), given)).fetchall()
        ]  # fmt: skip
    return Definitions(types=tuple(types), tables=tuple(tables))


async def _table(link: Link, layout: Layout, moved: MovedTable) -> TableDefinition:
    async def rows(name: str) -> list[tuple[Any, ...]]:
        given = {"table": moved.sides[Origin.MONOLITH].regclass}
        return list(await (await link.execute(statement("ddl", name), given)).fetchall())

    return TableDefinition(
        table=moved.table,
        columns=tuple(_column(row) for row in await rows("columns")),
        rules=(
            *(Rule(name=r[0], kind=r[1], columns=tuple(r[2]), definition=r[3]) for r in await rows("constraints")),
            *(Rule(name=r[0], kind="", columns=tuple(r[1]), definition=r[2]) for r in await rows("indexes")),
        ),
        foreign_keys=tuple(_foreign_key(layout, row) for row in await rows("foreign_keys")),
        triggers=tuple(row[0] for row in await rows("triggers")),
    )


def _column(row: tuple[Any, ...]) -> ColumnDefinition:
    return ColumnDefinition(
        name=row[0],
        type=row[1],
        not_null=row[2],
        generated=row[4],
        expression=row[5],
        portable=row[6],
        counts=row[3] or row[7],
        collation=row[8],
        uses=tuple(row[9]),
    )


def _foreign_key(layout: Layout, row: tuple[Any, ...]) -> ForeignKey:
    name, columns, schema, other, other_columns, on_delete, on_update = row
    moved = next((each.name for each in layout.tables if _is(each, schema, other)), None)
    return ForeignKey(
        name=name,
        columns=tuple(columns),
        other=moved or other,
        other_columns=tuple(other_columns),
        on_delete=on_delete,
        on_update=on_update,
        moves=moved is not None,
    )


def _is(moved: MovedTable, schema: str, name: str) -> bool:
    side = moved.sides[Origin.MONOLITH]
    return (side.schema, side.name) == (schema, name)
