"""Pieces of SQL made from a layout: keys, columns, and each value in one canonical text on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import MovedColumn, MovedTable, TableSide

STAGED = sql.Identifier("pg_temp", "strangler_chunk")
"""The temporary table of a chunk."""

_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric"})
_PRINTED_AS_CAST = _NUMBERS | {
    "text", "character varying", "uuid", "date", "timestamp without time zone", "timestamp with time zone",
    "json", "jsonb", "bytea", "real", "double precision",
}  # fmt: skip
"""Types of which COPY prints what a cast to text gives."""

_EXACT = frozenset({
    "smallint", "integer", "bigint", "boolean", "uuid", "bytea", "date", "timestamp without time zone",
    "timestamp with time zone", "time without time zone",
})  # fmt: skip
"""Types whose `=` says that nothing changed. Others have none (point, json), or one that overlooks something: how a
number is written, upper case in citext, 24 hours that were a day, where a box is. Of those the texts are compared."""

_COMMA = sql.SQL(", ")


def key_texts(side: TableSide, alias: str) -> sql.Composed:
    """The key's columns as texts."""
    return _COMMA.join(sql.SQL("{}::text").format(side.column(position, alias)) for position in side.key)


def key_columns(side: TableSide, alias: str | None = None) -> sql.Composed:
    """The key's columns in an order that is the same on both sides."""
    return _COMMA.join(_ordered(side, position, alias) for position in side.key)


def key_values(side: TableSide, parameter: str) -> sql.Composed:
    """One key from a `text[]` parameter, typed as on that side."""
    return _COMMA.join(
        sql.SQL("(({})[{}]){}").format(
            sql.SQL("{}::text[]").format(sql.Placeholder(parameter)),
            sql.Literal(number),
            _cast(side.columns[position]),
        )
        for number, position in enumerate(side.key, 1)
    )


def key_literals(side: TableSide, key: Sequence[str]) -> sql.Composed:
    """One key as literals, typed as on that side."""
    return _COMMA.join(
        sql.SQL("{}{}").format(sql.Literal(value), _cast(side.columns[position]))
        for position, value in zip(side.key, key, strict=True)
    )


def given(width: int) -> sql.Composed:
    """`u.c0, u.c1 ...`: texts as they were given."""
    return _COMMA.join(sql.Identifier("u", f"c{number}") for number in range(width))


def given_keys(side: TableSide) -> sql.Composed:
    """The same for keys, typed as on that side and in the order of `key_columns`."""
    return _COMMA.join(
        sql.SQL("{}{}{}").format(
            sql.Identifier("u", f"c{number}"),
            _cast(side.columns[position]),
            _collated(side.columns[position]),
        )
        for number, position in enumerate(side.key)
    )


def same_key(side: TableSide, left: str, right: str) -> sql.Composed:
    """Equality of the key's columns of two aliases of one table."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(side.column(position, left), side.column(position, right)) for position in side.key
    )


def matches(side: TableSide, alias: str, *, whole_rows: bool) -> sql.Composed:
    """Equality of the key with `u.c0, u.c1 ...`: numbered by column for whole rows, else by place in the key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}{}").format(
            side.column(position, alias),
            sql.Identifier("u", f"c{position if whole_rows else number}"),
            _cast(side.columns[position]),
        )
        for number, position in enumerate(side.key)
    )


def comparable(side: TableSide, alias: str) -> sql.Composed:
    """The moved columns, each so that it is equal exactly if the value is the same."""
    return _COMMA.join(
        sql.SQL("{}{}").format(
            side.column(position, alias), sql.SQL("" if column.type in _EXACT else '::text COLLATE "C"')
        )
        for position, column in enumerate(side.columns)
    )


def texts(side: TableSide, alias: str) -> sql.Composed:
    """The moved columns as texts, to carry them over."""
    return _COMMA.join(sql.SQL("{}::text").format(side.column(p, alias)) for p in range(len(side.columns)))


def values(moved: MovedTable, origin: Origin, alias: str) -> sql.Composed:
    """The moved columns as COPY has to print them, so that the other side reads what `texts` would give it."""
    here, there = moved.sides[origin], moved.sides[origin.other]
    return _COMMA.join(
        sql.SQL("{}{}").format(
            here.column(position, alias),
            sql.SQL("" if _printed_as_cast(column.type, there.columns[position].type) else "::text"),
        )
        for position, column in enumerate(here.columns)
    )


def values_of(side: TableSide, alias: str) -> sql.Composed:
    """The moved columns of an alias."""
    return _COMMA.join(side.column(position, alias) for position in range(len(side.columns)))


def names(side: TableSide) -> sql.Composed:
    """The moved columns' names."""
    return _COMMA.join(side.column(position) for position in range(len(side.columns)))


def typed(side: TableSide) -> sql.Composed:
    """`u.c0 ...` cast to that side's types, without lengths: a value that is too long is an error, not cut off."""
    return _COMMA.join(
        sql.SQL("{}{}").format(sql.Identifier("u", f"c{position}"), _cast(column))
        for position, column in enumerate(side.columns)
    )


def assignments(side: TableSide) -> sql.Composed:
    """`column = u.cN` for all but the key."""
    return _COMMA.join(
        sql.SQL("{} = {}{}").format(side.column(position), sql.Identifier("u", f"c{position}"), _cast(column))
        for position, column in enumerate(side.columns)
        if position not in side.key
    )


def assignments_from(side: TableSide, alias: str) -> sql.Composed:
    """`column = alias.column` for all but the key."""
    return _COMMA.join(
        sql.SQL("{} = {}").format(side.column(position), side.column(position, alias))
        for position in range(len(side.columns))
        if position not in side.key
    )


def unnested(width: int) -> sql.Composed:
    """`unnest(%(c0)s::text[], ...) AS u (c0, ...)`, for the parameters of `columns_of`."""
    return sql.SQL("unnest({}) AS u ({})").format(
        _COMMA.join(sql.SQL("{}::text[]").format(sql.Placeholder(f"c{number}")) for number in range(width)),
        _COMMA.join(sql.Identifier(f"c{number}") for number in range(width)),
    )


def canonical(moved: MovedTable, origin: Origin, alias: str) -> sql.Composed:
    """The moved columns as texts that are equal on both sides exactly if the values are."""
    here, there = moved.sides[origin], moved.sides[origin.other]
    return _COMMA.join(
        _canonical(here.column(position, alias), here.columns[position].base, there.columns[position].base)
        for position in range(len(here.columns))
    )


def columns_of(rows: Sequence[Sequence[str | None]], width: int) -> dict[str, list[str | None]]:
    """Rows turned into the parameters of `unnested`."""
    return {f"c{position}": [row[position] for row in rows] for position in range(width)}


def comma(parts: Iterable[sql.Composable]) -> sql.Composed:
    """Parts with commas between them."""
    return _COMMA.join(parts)


def _canonical(column: sql.Composable, here: str, there: str) -> sql.Composed:
    pair = {here, there}
    if pair & {"json", "jsonb"} and pair != {"json"}:
        return sql.SQL("{}::jsonb::text").format(column)
    if pair == {"timestamp with time zone", "timestamp without time zone"}:
        return sql.SQL("{}::timestamptz::text").format(column)
    if "numeric" in pair and pair <= _NUMBERS:
        return sql.SQL("trim_scale({}::numeric)::text").format(column)
    return sql.SQL("{}::text").format(column)


def _printed_as_cast(here: str, there: str) -> bool:
    # A padded `bpchar` loses its blanks as text, and is padded again where it has to be.
    return here in _PRINTED_AS_CAST or (here == there and here != "bpchar")


def _ordered(side: TableSide, position: int, alias: str | None) -> sql.Composed:
    return sql.SQL("{}{}").format(side.column(position, alias), _collated(side.columns[position]))


def _collated(column: MovedColumn) -> sql.Composable:
    return sql.SQL("") if column.collation is None else sql.SQL(" COLLATE ") + sql.Identifier(*column.collation)


def _cast(column: MovedColumn) -> sql.Composable:
    """From format_type of the catalog, so already quoted where it has to be; text needs none."""
    return sql.SQL("") if column.type == "text" else sql.SQL("::" + column.type)
