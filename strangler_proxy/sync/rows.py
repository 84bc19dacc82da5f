"""Read and write rows of one moved table on one side, as texts."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import shapes
from strangler_proxy.sync.layout import MovedTable
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import template

Key = tuple[str, ...]
Row = tuple[str | None, ...]

STATEMENT_CHARACTERS = 1 << 25
"""PostgreSQL takes 1 GB as one parameter; a statement gets about this much of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """Rows and two sums of 64-bit halves of their hashes."""

    rows: int
    first: int
    second: int


class Rows:
    """Statements on one table of one side; `link` is given with each call, so is its transaction."""

    def __init__(self, moved: MovedTable, origin: Origin) -> None:
        self.moved = moved
        self.origin = origin
        self.side = moved.sides[origin]
        self._width = len(self.side.columns)
        self._keys = shapes.unnested(len(self.side.key))
        self._matches = shapes.matches(self.side, "t", whole_rows=False)
        self._read = template(
            "rows",
            "read",
            texts=shapes.texts(self.side, "t"),
            keys=self._keys,
            table=self.side.identifier,
            matches=self._matches,
        )
        self._whole = shapes.matches(self.side, "t", whole_rows=True)

    async def read(self, link: Link, keys: Sequence[Key]) -> list[Row]:
        """Rows of these keys; those that are not there are absent."""
        if not keys:
            return []
        return list(await (await link.execute(self._read, self._key_values(keys))).fetchall())

    async def chunk(self, link: Link, after: Key | None, limit: int) -> list[Row]:
        """The next rows after a key (None: from the start)."""
        query = template(
            "rows",
            "chunk",
            texts=shapes.texts(self.side, "t"),
            table=self.side.identifier,
            after=self._range(after, None),
            order=shapes.key_columns(self.side, "t"),
        )
        return list(await (await link.execute(query, {**_bounds(after, None), "limit": limit})).fetchall())

    async def keys_between(self, link: Link, after: Key | None, upto: Key | None) -> set[Key]:
        """Keys in a range."""
        query = template(
            "rows",
            "keys_between",
            key_texts=shapes.key_texts(self.side, "t"),
            table=self.side.identifier,
            range=self._range(after, upto),
        )
        return set(await (await link.execute(query, _bounds(after, upto))).fetchall())

    def select_chunk(self, after: Key | None, limit: int) -> sql.Composed:
        """The same as COPY text, without parameters."""
        return template(
            "rows",
            "chunk_values",
            values=shapes.values(self.moved, self.origin, "t"),
            table=self.side.identifier,
            after=self._range(after, None, literal=True),
            order=shapes.key_columns(self.side, "t"),
            limit=sql.Literal(limit),
        )

    def destination(self, *, staged: bool) -> sql.Composed:
        """Where COPY writes: the table, or the temporary one, with the moved columns."""
        table = shapes.STAGED if staged else self.side.identifier
        return sql.SQL("{} ({})").format(table, shapes.names(self.side))

    async def has_after(self, link: Link, after: Key | None) -> bool:
        """Whether there is a row after a key (None: any)."""
        query = template(
            "rows",
            "has_after",
            table=self.side.identifier,
            after=self._range(after, None),
            order=shapes.key_columns(self.side, "t"),
        )
        return await (await link.execute(query, _bounds(after, None))).fetchone() is not None

    async def past(self, link: Link, keys: Sequence[Key], after: Key) -> set[Key]:
        """Those of these keys that come after one."""
        query = template(
            "rows",
            "past",
            keys=self._keys,
            given=shapes.given(len(self.side.key)),
            typed=shapes.given_keys(self.side),
            after=shapes.key_values(self.side, "after"),
        )
        return set(await (await link.execute(query, {**self._key_values(keys), "after": list(after)})).fetchall())

    async def stage(self, link: Link) -> None:
        """Make the temporary table that a chunk is copied into; it goes with the transaction."""
        await link.execute(
            template("rows", "stage", staged=shapes.STAGED, names=shapes.names(self.side), table=self.side.identifier)
        )

    async def take_staged(self, link: Link, after: Key | None, upto: Key | None) -> None:
        """Make a range of the table equal to the temporary one; columns that do not move keep what they have."""
        parts = {
            "table": self.side.identifier,
            "staged": shapes.STAGED,
            "same_key": shapes.same_key(self.side, "t", "s"),
        }
        whole = sql.SQL("WHERE true") if after is None and upto is None else self._range(after, upto)
        await link.execute(template("rows", "staged_delete", range=whole, **parts), _bounds(after, upto))
        if len(self.side.key) < self._width:
            update = template(
                "rows",
                "staged_update",
                assignments=shapes.assignments_from(self.side, "s"),
                mine=shapes.values_of(self.side, "t"),
                theirs=shapes.values_of(self.side, "s"),
                **parts,
            )
            await link.execute(update)
        insert = template(
            "rows", "staged_insert", names=shapes.names(self.side), theirs=shapes.values_of(self.side, "s"), **parts
        )
        await link.execute(insert)

    async def delete(self, link: Link, keys: Sequence[Key]) -> None:
        """Delete rows of these keys where they are."""
        query = template("rows", "delete", table=self.side.identifier, keys=self._keys, matches=self._matches)
        await link.execute(query, self._key_values(keys))

    async def upsert(self, link: Link, rows: Sequence[Row]) -> None:
        """Write whole rows: update those that are there, insert the others; other columns keep what they have."""
        for part in _parts(rows):
            await self._upsert(link, part)

    async def _upsert(self, link: Link, rows: Sequence[Row]) -> None:
        given = shapes.columns_of(rows, self._width)
        source = shapes.unnested(self._width)
        if len(self.side.key) < self._width:
            update = template(
                "rows",
                "update",
                table=self.side.identifier,
                assignments=shapes.assignments(self.side),
                rows=source,
                matches=self._whole,
            )
            await link.execute(update, given)
        insert = template(
            "rows",
            "insert",
            table=self.side.identifier,
            names=shapes.names(self.side),
            typed=shapes.typed(self.side),
            rows=source,
            matches=self._whole,
        )
        await link.execute(insert, given)

    async def park(self, link: Link, key: Key) -> bool:
        """Free the unique values of a row for this transaction; False where a column cannot hold another value."""
        parked: list[sql.Composable] = []
        for position in self.side.exclusive:
            column = self.side.columns[position]
            if column.nullable:
                value: sql.Composable = sql.SQL("NULL")
            elif column.is_text:
                value = sql.SQL("left(md5(random()::text), {})").format(sql.Literal(column.length or 32))
            elif column.type == "uuid":
                value = sql.SQL("gen_random_uuid()")
            else:
                continue
            parked.append(sql.SQL("{} = {}").format(self.side.column(position), value))
        if not parked:
            return False
        query = template(
            "rows",
            "park",
            table=self.side.identifier,
            parked=shapes.comma(parked),
            keys=self._keys,
            matches=self._matches,
        )
        await link.execute(query, self._key_values([key]))
        return True

    async def bound(self, link: Link, after: Key | None, rows: int) -> Key | None:
        """The key that ends a range of so many rows; None where fewer are left."""
        query = template(
            "rows",
            "bound",
            key_texts=shapes.key_texts(self.side, "t"),
            table=self.side.identifier,
            after=self._range(after, None),
            order=shapes.key_columns(self.side, "t"),
        )
        row = await (await link.execute(query, {**_bounds(after, None), "rows": rows - 1})).fetchone()
        return None if row is None else tuple(row)

    async def checksum(self, link: Link, after: Key | None, upto: Key | None) -> Checksum:
        """Of a range of keys, by canonical texts."""
        query = template(
            "rows",
            "checksums",
            canonical=shapes.canonical(self.moved, self.origin, "t"),
            table=self.side.identifier,
            range=self._range(after, upto),
        )
        row = await (await link.execute(query, _bounds(after, upto))).fetchone()
        if row is None:
            raise AssertionError("an aggregate always has a row")
        return Checksum(rows=int(row[0]), first=int(row[1]), second=int(row[2]))

    async def hashes(self, link: Link, after: Key | None, upto: Key | None) -> dict[Key, str]:
        """Hash by key in a range."""
        query = template(
            "rows",
            "hashes",
            key_texts=shapes.key_texts(self.side, "t"),
            canonical=shapes.canonical(self.moved, self.origin, "t"),
            table=self.side.identifier,
            range=self._range(after, upto),
        )
        return {tuple(r[:-1]): r[-1] for r in await (await link.execute(query, _bounds(after, upto))).fetchall()}

    async def hashes_of(self, link: Link, keys: Sequence[Key]) -> dict[Key, str]:
        """Hash by key of those of these rows that are there."""
        query = template(
            "rows",
            "hashes_of",
            key_texts=shapes.key_texts(self.side, "t"),
            canonical=shapes.canonical(self.moved, self.origin, "t"),
            table=self.side.identifier,
            keys=self._keys,
            matches=self._matches,
        )
        cursor = await link.execute(query, self._key_values(keys))
        return {tuple(r[:-1]): r[-1] for r in await cursor.fetchall()}

    async def canonicals(self, link: Link, keys: Sequence[Key]) -> dict[Key, Row]:
        """Canonical texts of all columns by key, of those of these rows that are there."""
        query = template(
            "rows",
            "canonicals",
            key_texts=shapes.key_texts(self.side, "t"),
            canonical=shapes.canonical(self.moved, self.origin, "t"),
            table=self.side.identifier,
            keys=self._keys,
            matches=self._matches,
        )
        width = len(self.side.key)
        cursor = await link.execute(query, self._key_values(keys))
        return {tuple(r[:width]): tuple(r[width:]) for r in await cursor.fetchall()}

    async def totals(
        self, link: Link, money: Sequence[int], by: Sequence[int], keys: Sequence[Key] | None = None
    ) -> list[tuple[Any, ...]]:
        """Sums of columns by group, positions as in the manifest's columns; of these keys, or of all rows (None)."""
        rows: sql.Composable = sql.SQL("{} AS t").format(self.side.identifier)
        if keys is not None:
            rows = sql.SQL("{} JOIN {} ON {}").format(self._keys, rows, self._matches)
        groups = [sql.SQL("{}::text").format(self.side.column(p, "t")) for p in by] or [sql.SQL("''").format()]
        query = template(
            "rows",
            "totals",
            groups=shapes.comma(groups),
            sums=shapes.comma(
                sql.SQL("trim_scale(coalesce(sum({}), 0)::numeric)::text").format(self.side.column(p, "t"))
                for p in money
            ),
            rows=rows,
            group_by=shapes.comma(sql.SQL(str(number)) for number in range(1, len(groups) + 1)),
        )
        cursor = await link.execute(query, None if keys is None else self._key_values(keys))
        return sorted(await cursor.fetchall(), key=repr)

    async def highest(self, link: Link, position: int) -> int:
        """The largest value of a column, 0 where there is none."""
        query = template("rows", "highest", column=self.side.column(position, "t"), table=self.side.identifier)
        row = await (await link.execute(query)).fetchone()
        return 0 if row is None else int(row[0])

    def _key_values(self, keys: Sequence[Key]) -> dict[str, list[str | None]]:
        return shapes.columns_of(keys, len(self.side.key))

    def _range(self, after: Key | None, upto: Key | None, *, literal: bool = False) -> sql.Composed:
        parts: list[sql.Composable] = []
        order = shapes.key_columns(self.side, "t")
        if after is not None:
            bound = shapes.key_literals(self.side, after) if literal else shapes.key_values(self.side, "after")
            parts.append(sql.SQL("({}) > ({})").format(order, bound))
        if upto is not None:
            parts.append(sql.SQL("({}) <= ({})").format(order, shapes.key_values(self.side, "upto")))
        if not parts:
            return sql.Composed([])
        return sql.SQL("WHERE ") + sql.SQL(" AND ").join(parts)


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in parts whose texts fit into one statement."""
    part: list[Row] = []
    size = 0
    for row in rows:
        part.append(row)
        size += sum(len(value) for value in row if value is not None)
        if size >= STATEMENT_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _bounds(after: Key | None, upto: Key | None) -> dict[str, Any]:
    return {
        **({} if after is None else {"after": list(after)}),
        **({} if upto is None else {"upto": list(upto)}),
    }


@functools.lru_cache(maxsize=512)
def rows_of(moved: MovedTable, origin: Origin) -> Rows:
    """The statements of a table, made once per layout."""
    return Rows(moved, origin)
