"""Where the rows of a manifest are on either side, as the two catalogs say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.side import BYTEWISE, KEY_KINDS, MovedColumn, TableSide, read_sides

__all__ = ["Layout", "MovedColumn", "MovedTable", "TableSide", "read_layout", "read_one_side"]


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
    return await _read(manifest, links)


async def read_one_side(manifest: Manifest, link: Link, origin: Origin) -> Layout:
    """The same where only one side can be read: its tables have no other. Raises DeclarationError."""
    return await _read(manifest, {origin: link})


async def _read(manifest: Manifest, links: Mapping[Origin, Link]) -> Layout:
    problems: list[str] = []
    tables: list[MovedTable] = []
    read = {origin: await read_sides(link, manifest, origin) for origin, link in links.items()}
    for position, table in enumerate(manifest.tables):
        sides: dict[Origin, TableSide] = {}
        for origin in links:
            side, wrong = read[origin][position]
            problems += wrong
            if side is not None:
                sides[origin] = side
        if len(sides) == 2:
            problems += [f"flag {manifest.flag!r}, table {table.monolith!r}: {each}" for each in _apart(sides)]
            sides = _ordered_alike(sides)
        if len(sides) == len(links):
            tables.append(MovedTable(name=table.monolith, table=table, sides=sides))
    if problems:
        raise DeclarationError(problems)
    return Layout(flag=manifest.flag, tables=tuple(tables))


def _apart(sides: Mapping[Origin, TableSide]) -> Iterable[str]:
    """Keys that have no common order: ranges of keys would not be the same rows on both sides."""
    here, there = sides[Origin.MONOLITH], sides[Origin.EXTRACTED]
    for position in here.key:
        one, other = here.columns[position], there.columns[position]
        kinds = {KEY_KINDS[column.base] for column in (one, other) if column.base in KEY_KINDS}
        if "number" in kinds and len(kinds) > 1:
            yield f"key column {one.name!r} is {one.type} here and {other.type} there, which are ordered differently"


def _ordered_alike(sides: Mapping[Origin, TableSide]) -> dict[Origin, TableSide]:
    """Have text keys ordered by the columns' own collations, whose indexes exist, where both order alike.

    Elsewhere by bytes: without an index with COLLATE "C" a side then sorts what is left of the table for each chunk.
    """
    found = dict(sides)
    for position in sides[Origin.MONOLITH].key:
        orders = {side.columns[position].order for side in sides.values()}
        for origin, side in found.items():
            column = side.columns[position]
            own = column.order is not None and (len(orders) == 1 or column.order == "C")
            columns = list(side.columns)
            if column.is_text:
                columns[position] = replace(column, collation=column.own_collation if own else BYTEWISE)
            found[origin] = replace(side, columns=tuple(columns))
    return found
