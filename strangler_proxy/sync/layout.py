"""Where the rows of a manifest are on either side, as the two catalogs say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement

KEY_TYPES = frozenset({"smallint", "integer", "bigint", "text", "character varying", "bpchar", "character", "uuid"})
"""Types whose text is the same everywhere: what a dirty key may consist of."""

_TEXT_TYPES = frozenset({"text", "character varying", "bpchar", "character"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedColumn:
    """One moved column on one side. `type` is without length; `length` bounds characters, None if unbounded."""

    name: str
    type: str
    nullable: bool
    length: int | None

    @property
    def is_text(self) -> bool:
        """Ordered and compared as text, so with a collation."""
        return self.type in _TEXT_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSide:
    """One moved table on one side; `columns` in the manifest's order, `key` as positions in it.

    `partial`: the table has columns that do not move. `uniques`: unique keys but the key itself, as positions of moved
    columns.
    """

    schema: str
    name: str
    columns: tuple[MovedColumn, ...]
    key: tuple[int, ...]
    partial: bool
    uniques: tuple[tuple[int, ...], ...]
    rows_estimated: int

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def regclass(self) -> str:
        """The qualified name as text, for `::regclass`."""
        return '"' + self.schema.replace('"', '""') + '"."' + self.name.replace('"', '""') + '"'

    def column(self, position: int, alias: str | None = None) -> sql.Identifier:
        """A moved column, qualified by an alias if there is one."""
        name = self.columns[position].name
        return sql.Identifier(alias, name) if alias else sql.Identifier(name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MovedTable:
    """One moved table; `name` is what dirty keys call it (the monolith's name), on both sides."""

    name: str
    table: Table
    sides: Mapping[Origin, TableSide]

    @property
    def key_positions(self) -> tuple[int, ...]:
        """Positions of the key columns in a row."""
        return self.sides[Origin.MONOLITH].key

    def key_of(self, row: Sequence[str | None]) -> tuple[str, ...]:
        """The key of a row that was read as text."""
        return tuple(str(row[position]) for position in self.key_positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All moved tables of a flag, parents before children."""

    flag: str
    tables: tuple[MovedTable, ...]

    def named(self, name: str) -> MovedTable | None:
        """A table by the name that dirty keys use."""
        return next((moved for moved in self.tables if moved.name == name), None)


async def read_layout(manifest: Manifest, links: Mapping[Origin, Link]) -> Layout:
    """Read both catalogs. Raises DeclarationError with everything that does not fit, at once."""
    problems: list[str] = []
    tables: list[MovedTable] = []
    for table in manifest.tables:
        sides: dict[Origin, TableSide] = {}
        for origin in Origin:
            side, wrong = await _read_side(links[origin], manifest, table, origin)
            problems += wrong
            if side is not None:
                sides[origin] = side
        if len(sides) == 2:
            tables.append(MovedTable(name=table.monolith, table=table, sides=sides))
    if problems:
        raise DeclarationError(problems)
    return Layout(flag=manifest.flag, tables=tuple(tables))


async def read_one_side(manifest: Manifest, link: Link, origin: Origin) -> Layout:
    """The same where only one side can be read: its tables have no other. Raises DeclarationError."""
    problems: list[str] = []
    tables: list[MovedTable] = []
    for table in manifest.tables:
        side, wrong = await _read_side(link, manifest, table, origin)
        problems += wrong
        if side is not None:
            tables.append(MovedTable(name=table.monolith, table=table, sides={origin: side}))
    if problems:
        raise DeclarationError(problems)
    return Layout(flag=manifest.flag, tables=tuple(tables))


async def _read_side(
    link: Link, manifest: Manifest, table: Table, origin: Origin
) -> tuple[TableSide | None, list[str]]:
    name = table.name(origin)
    place = f"flag {manifest.flag!r}, table {name!r} in database {manifest.databases[origin]!r}"
    relation = await (await link.execute(statement("catalog", "relation"), {"table": _quoted(name)})).fetchone()
    if relation is None:
        return None, [f"{place}: there is no such table"]
    schema, relname, estimated, owned = relation
    if not owned:
        return None, [f"{place}: the worker's role is not a member of the table's owner: GRANT that role to it"]
    here = TableSide(
        schema=schema, name=relname, columns=(), key=(), partial=False, uniques=(), rows_estimated=estimated
    )
    rows = await (await link.execute(statement("catalog", "columns"), {"table": here.regclass})).fetchall()
    known = {row[0]: MovedColumn(name=row[0], type=_plain(row[1]), nullable=row[4], length=row[5]) for row in rows}
    wanted = table.column_names(origin)
    missing = [column for column in wanted if column not in known]
    if missing:
        return None, [f"{place}: there is no column {column!r}" for column in missing]
    columns = tuple(known[column] for column in wanted)
    key = tuple(wanted.index(column) for column in table.key_names(origin))
    uniques = await (await link.execute(statement("catalog", "uniques"), {"table": here.regclass})).fetchall()
    problems = [
        f"{place}: key column {columns[position].name!r} is {columns[position].type}; "
        "a key may hold integers, text and uuid only"
        for position in key
        if columns[position].type not in KEY_TYPES
    ]
    key_names = {columns[position].name for position in key}
    if not any(set(unique) == key_names and immediate for unique, immediate in uniques):
        problems.append(f"{place}: key {sorted(key_names)} has no unique index that is checked at once")
    positions = {column: position for position, column in enumerate(wanted)}
    side = TableSide(
        schema=schema,
        name=relname,
        columns=columns,
        key=key,
        partial=len(known) > len(wanted),
        uniques=tuple(
            tuple(positions[column] for column in unique)
            for unique, _ in uniques
            if set(unique) != key_names and set(unique) <= set(wanted)
        ),
        rows_estimated=estimated,
    )
    return side, problems


def _quoted(name: str) -> str:
    """A name or `schema.name` for `to_regclass`, taken as it is written."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _plain(type_name: str) -> str:
    return "bpchar" if type_name == "character" else type_name
