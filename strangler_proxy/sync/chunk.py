"""The next rows of a table that is copied for the first time: as COPY text, or row by row where that is refused.

- Nothing in the target after the cursor (the usual case): COPY right into the table.
- Something there: COPY into a temporary table; what the source does not have goes, what differs is updated, the rest
  inserted. Columns that do not move keep what they have.
- A row that the target refuses: all of that is undone, and the chunk goes through `write`, which finds the row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.blocks import carry, values_of
from strangler_proxy.sync.layout import MovedTable
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.rows import Key, rows_of
from strangler_proxy.sync.write import ROW_ERRORS, Change, write

REFUSALS = (*ROW_ERRORS, psycopg.NotSupportedError, psycopg.errors.InsufficientPrivilege)
"""What another way of writing may get around: besides bad rows, COPY under row security, or no temporary tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A chunk to be: so many rows after a key, from the source (`origin`) to the other side."""

    moved: MovedTable
    origin: Origin
    source: Link
    target: Link
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What a chunk came to. `changes` are still to be written: empty where COPY did it all."""

    rows: int
    after: Key | None
    finished: bool
    changes: Sequence[Change] = ()
    seconds: float = 0.0
    """Of COPY alone."""


async def copied(chunk: Range, before: Sequence[Change]) -> Chunk | None:
    """Write `before`, then the chunk, in one savepoint. None where any of that is refused: nothing is kept then."""
    found: Chunk | None = None
    try:
        async with chunk.target.transaction():
            if await write(chunk.target, chunk.origin.other, before):
                raise psycopg.Rollback
            await chunk.target.execute(b"SET CONSTRAINTS ALL DEFERRED")
            began = time.monotonic()
            rows, last = await _copy(chunk)
            seconds = time.monotonic() - began
            await chunk.target.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
            found = Chunk(
                rows=rows, after=chunk.after if last is None else last, finished=rows < chunk.limit, seconds=seconds
            )
    except REFUSALS:
        return None
    return found


async def row_by_row(chunk: Range) -> Chunk:
    """The same range as changes; what the target has in it and the source not is deleted by them."""
    moved = chunk.moved
    rows = await rows_of(moved, chunk.origin).chunk(chunk.source, chunk.after, chunk.limit)
    finished = len(rows) < chunk.limit
    upto = None if finished else moved.key_of(rows[-1])
    there = await rows_of(moved, chunk.origin.other).keys_between(chunk.target, chunk.after, upto)
    here = {moved.key_of(row): row for row in rows}
    return Chunk(
        rows=len(rows),
        after=moved.key_of(rows[-1]) if rows else chunk.after,
        finished=finished,
        changes=[
            *(Change(moved=moved, key=key, row=None) for key in there - set(here)),
            *(Change(moved=moved, key=key, row=row) for key, row in here.items()),
        ],
    )


async def _copy(chunk: Range) -> tuple[int, Key | None]:
    """Rows, and the last key."""
    here, there = rows_of(chunk.moved, chunk.origin), rows_of(chunk.moved, chunk.origin.other)
    select = here.select_chunk(chunk.after, chunk.limit)
    empty = not await there.has_after(chunk.target, chunk.after)
    if not empty:
        await there.stage(chunk.target)
    carried = await carry(chunk.source, select, chunk.target, there.destination(staged=not empty))
    last = _key(chunk.moved, chunk.origin, carried.last)
    if not empty:
        await there.take_staged(chunk.target, chunk.after, None if carried.rows < chunk.limit else last)
    return carried.rows, last


def _key(moved: MovedTable, origin: Origin, line: bytes) -> Key | None:
    if not line:
        return None
    return tuple(str(value) for value in values_of(line, moved.sides[origin].key))
