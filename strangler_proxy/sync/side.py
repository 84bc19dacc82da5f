"""One moved table on one side as its catalog says it, and what of it cannot be followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from strangler_proxy.core.manifest import Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement

_NUMBER, _TEXT = "number", "text"
KEY_KINDS: Mapping[str, str] = {
    "smallint": _NUMBER, "integer": _NUMBER, "bigint": _NUMBER, "uuid": "uuid",
    "text": _TEXT, "character varying": _TEXT, "bpchar": _TEXT, "character": _TEXT,
}  # fmt: skip
"""Types whose text is the same everywhere, which a dirty key may consist of, and what they are ordered as."""

BYTEWISE = ("pg_catalog", "C")
"""The collation that orders texts by their bytes, wherever it is."""

_Rows = Sequence[Sequence[Any]]

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a type",
          "i": "an index", "I": "an index", "t": "a TOAST table"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedColumn:
    """One moved column on one side. `type` is without length; `length` bounds characters, None if unbounded.

    `base` is the type beneath domains. `collation` orders it as a key, the same on both sides; `own_collation` is the
    column's, and `order` names what that depends on (None: nobody knows).
    """

    name: str
    type: str
    base: str
    nullable: bool
    length: int | None
    collation: tuple[str, str] | None = None
    own_collation: tuple[str, str] | None = None
    order: str | None = None

    @property
    def is_text(self) -> bool:
        """Ordered and compared as text, so with a collation."""
        return KEY_KINDS.get(self.base) == _TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSide:
    """One moved table on one side; `columns` in the manifest's order, `key` as positions in it.

    `partial`: the table has columns that do not move, but for those that it makes itself. `exclusive`: positions of
    columns whose values one row may keep from another. `row_bytes`: estimated, with what is stored out of line.
    """

    schema: str
    name: str
    columns: tuple[MovedColumn, ...]
    key: tuple[int, ...]
    partial: bool
    exclusive: tuple[int, ...]
    rows_estimated: int
    row_bytes: int

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def regclass(self) -> str:
        """The qualified name as text, for `::regclass`."""
        return _quoted(self.schema, self.name)

    def rows_within(self, size: int, rows: int) -> int:
        """So many of `rows` as make up about `size` bytes, at least fifty."""
        return min(rows, max(50, size // max(1, self.row_bytes)))

    def column(self, position: int, alias: str | None = None) -> sql.Identifier:
        """A moved column, qualified by an alias if there is one."""
        name = self.columns[position].name
        return sql.Identifier(alias, name) if alias else sql.Identifier(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A column of the table, moved or not."""

    column: MovedColumn
    generated: bool
    identity: str


async def read_sides(link: Link, manifest: Manifest, origin: Origin) -> list[tuple[TableSide | None, list[str]]]:
    """The tables, and what does not fit of each, one sentence each; no table where there is nothing to read.

    All is asked before anything is waited for: a manifest may have many tables, and a database may be far.
    """
    async with link.pipeline():
        asked = [
            [
                await link.execute(statement("catalog", query), {"table": _quoted(*table.name(origin).split("."))})
                for query in ("relation", "columns", "uniques", "exclusive")
            ]
            for table in manifest.tables
        ]
    return [
        _side(manifest, table, origin, *[await cursor.fetchall() for cursor in cursors])
        for table, cursors in zip(manifest.tables, asked, strict=True)
    ]


def _side(
    manifest: Manifest, table: Table, origin: Origin, relations: _Rows, rows: _Rows, uniques: _Rows, exclusive: _Rows
) -> tuple[TableSide | None, list[str]]:
    name = table.name(origin)
    place = f"flag {manifest.flag!r}, table {name!r} in database {manifest.databases[origin]!r} ({origin.value})"
    relation = relations[0] if relations else None
    wrong = _relation_problem(relation)
    if relation is None or wrong is not None:
        return None, [f"{place}: {wrong}"]
    schema, relname, estimated, _, _, _, _, _, row_bytes = relation
    known = {row[0]: _column(row) for row in rows}
    wanted = table.column_names(origin)
    percent = [each for each in (schema, relname, *wanted) if "%" in each]
    if percent:
        return None, [f"{place}: the name {each!r} has a percent sign: rename it" for each in percent]
    missing = [column for column in wanted if column not in known]
    if missing:
        return None, [f"{place}: there is no column {column!r}" for column in missing]
    key = table.key_names(origin)
    side = TableSide(
        schema=schema,
        name=relname,
        columns=tuple(known[column].column for column in wanted),
        key=tuple(wanted.index(column) for column in key),
        partial=any(not each.generated and name not in wanted for name, each in known.items()),
        exclusive=tuple(sorted({wanted.index(name) for (name,) in exclusive if name in wanted and name not in key})),
        rows_estimated=estimated,
        row_bytes=row_bytes,
    )
    problems = [*_column_problems([known[each] for each in wanted], key), *_key_problems(side, uniques)]
    return side, [f"{place}: {problem}" for problem in problems]


def _relation_problem(relation: Sequence[Any] | None) -> str | None:
    if relation is None:
        return "there is no such table"
    _, _, _, owned, kind, is_partition, inherits, row_security, _ = relation
    if kind == "p" or is_partition:
        return "is partitioned or a partition: writes to one of them would not be noted, so it cannot be followed"
    if kind != "r":
        return f"is {_KINDS.get(kind, 'something else')}, not a table"
    if inherits:
        return "inherits from a table or is inherited from: a write to one changes the other unnoted"
    if not owned:
        return "the worker's role is not a member of the table's owner: GRANT that role to it"
    if row_security:
        return "row level security hides rows from the worker's role: ALTER TABLE ... NO FORCE ROW LEVEL SECURITY"
    return None


def _column_problems(columns: Iterable[_Known], key: Sequence[str]) -> list[str]:
    problems = []
    for known in columns:
        name = known.column.name
        if known.generated:
            problems.append(f"column {name!r} is generated: leave it out, each side makes its own")
        elif known.identity == "a" and name not in key:
            problems.append(
                f"column {name!r} is GENERATED ALWAYS AS IDENTITY, so an UPDATE cannot set it: "
                f'ALTER TABLE ... ALTER COLUMN "{name}" SET GENERATED BY DEFAULT'
            )
    return problems


def _key_problems(side: TableSide, uniques: Sequence[Sequence[Any]]) -> list[str]:
    columns = [side.columns[position] for position in side.key]
    problems = [
        f"key column {column.name!r} is {column.type}; a key may hold integers, text and uuid only"
        for column in columns
        if column.base not in KEY_KINDS
    ]
    problems += [
        f'key column {column.name!r} may be NULL: ALTER TABLE ... ALTER COLUMN "{column.name}" SET NOT NULL'
        for column in columns
        if column.nullable
    ]
    names = {column.name for column in columns}
    if not any(set(unique) == names and immediate for unique, immediate in uniques):
        problems.append(f"key {sorted(names)} has no unique index that is checked at once")
    return problems


def _column(row: Sequence[Any]) -> _Known:
    name, type_name, base, nullable, length, generated, identity, schema, collation, order = row
    return _Known(
        column=MovedColumn(
            name=name,
            type=_plain(type_name),
            base=_plain(base),
            nullable=nullable,
            length=length,
            collation=BYTEWISE if KEY_KINDS.get(_plain(base)) == _TEXT else None,
            own_collation=None if collation is None else (schema, collation),
            order=order,
        ),
        generated=generated,
        identity=identity,
    )


def _quoted(*parts: str) -> str:
    """A name or `schema.name` for `to_regclass`, taken as it is written."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def _plain(type_name: str) -> str:
    return "bpchar" if type_name == "character" else type_name
