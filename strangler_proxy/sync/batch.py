"""One batch of the applier: dirty keys out of the source, rows into the target, committed in that order backwards.

1. Target: BEGIN, advisory lock of the flag, ownership `FOR SHARE` (closed, and older than the source's), marker.
2. Source: BEGIN REPEATABLE READ, take dirty keys.
3. While the snapshot runs, the next chunk of rows after the cursor (see `chunk`). A dirty key after the cursor waits
   for its chunk: so the target is empty there, and the chunk can be copied.
4. Re-read the rows of the keys in that snapshot; absent means deleted.
5. Write them to the target with cursor and progress. Commit the target, then the source.

A crash between the commits redoes work, no more.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.chunk import Range, copied, row_by_row
from strangler_proxy.sync.layout import Layout, MovedTable
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.ownership import Grant
from strangler_proxy.sync.pace import Mode
from strangler_proxy.sync.rows import Key, rows_of
from strangler_proxy.sync.statements import statement
from strangler_proxy.sync.touched import Looked, compare_touched, touch
from strangler_proxy.sync.trouble import at
from strangler_proxy.sync.verify import Look, Verification, verify_range
from strangler_proxy.sync.write import Change, Failure, ordered, write

CHUNK_BYTES = 1 << 26
"""About so much goes through in one chunk of a snapshot, however many rows it may have."""


class NotTarget(Exception):
    """The target is open, or not older than the source: rows do not flow this way (any more)."""


class Busy(Exception):
    """Another applier holds the target's lock."""


@dataclass(slots=True)
class TableProgress:
    """How far the first copy of one table is."""

    table: str
    after_key: Key | None = None
    done: bool = False
    rows_done: int = 0
    rows_estimated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """One direction: both databases with a connection each; `source` is REPEATABLE READ inside transactions."""

    layout: Layout
    origin: Origin  # of the source
    source: Link
    target: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a batch is to do. `limit` bounds its keys unless it is live; `look` is the range to verify, None for none.

    `rows` bounds the chunk of a snapshot (0: `limit` does). `touched`: compare keys that were applied lately, too.
    """

    mode: Mode
    limit: int
    retry_stuck: bool = False
    look: Look | None = None
    verification: Verification | None = None
    rows: int = 0
    touched: bool = False


@dataclass(slots=True)
class Done:
    """What a batch did. `through`: source clock from before its snapshot; the copy is complete up to it if live.

    `chunk_s`: how much of its time the chunk took. `mismatched` keys differ in the range that was looked at; `touched`
    is what a look at keys applied lately has found, None where there was none.
    """

    through: dt.datetime
    source_epoch: int
    keys: int = 0
    rows: int = 0
    chunk_s: float = 0.0
    cut_short: bool = False
    failures: list[Failure] = field(default_factory=list)
    stuck: int = 0
    looked: bool = False
    mismatched: int = 0
    touched: Looked | None = None


async def run_batch(ends: Ends, progress: dict[str, TableProgress], wanted: Wanted) -> Done:
    """Do one batch. Raises NotTarget, Busy, and psycopg's errors; nothing is kept of a batch that raised.

    `progress` is changed only when the batch was committed.
    """
    moved_on: list[tuple[TableProgress, Key | None, bool, int]] = []
    try:
        async with ends.source.transaction(), ends.target.transaction():
            done = await _apply(ends, progress, wanted, moved_on)
    except psycopg.errors.SerializationFailure as error:
        raise Busy("another applier took the same keys") from error
    for table, after, finished, rows in moved_on:
        table.after_key, table.done = after, finished
        table.rows_done += rows
    return done


async def _apply(
    ends: Ends,
    progress: dict[str, TableProgress],
    wanted: Wanted,
    moved_on: list[tuple[TableProgress, Key | None, bool, int]],
) -> Done:
    flag = ends.layout.flag
    done = await _begin(ends)
    keys = await _take(ends, wanted, done)
    stuck = await _stuck(ends)
    if wanted.retry_stuck:
        for table, key in stuck:
            keys.setdefault(table, set()).add(key)
    current = next((p for p in progress.values() if not p.done), None)
    changes: list[Change] = []
    for moved in ends.layout.tables:
        if current is not None and _not_started(ends.layout, moved, current):
            continue  # its rows are read later, in a newer snapshot
        some = await _reread(ends, moved, keys.get(moved.name, set()))
        if current is not None and moved.name == current.table:
            some = await _up_to_cursor(ends, moved, current.after_key, some)
        changes += some
    done.keys = sum(len(some) for some in keys.values())
    with at(ends.origin.other, ends.target):
        if wanted.mode is Mode.SNAPSHOT and current is not None and not done.cut_short:
            await _snapshot(ends, current, wanted.rows or wanted.limit, changes, done, moved_on)
        else:
            done.failures = await write(ends.target, ends.origin.other, ordered(changes, ends.layout.tables))
    await _keep_stuck(ends, done, stuck, keys)
    if wanted.mode is Mode.LIVE:
        await touch(ends.target, flag, keys)
        await ends.target.execute(statement("batch", "replicated"), {"flag": flag, "through": done.through})
        if wanted.look is not None and not done.stuck:
            done.mismatched = await verify_range(ends.layout, ends.origin, ends.source, ends.target, wanted.look)
            done.looked = True
        if wanted.touched and not done.stuck:
            done.touched = await compare_touched(ends.layout, ends.origin, ends.source, ends.target)
    if wanted.verification is not None:
        await wanted.verification.keep(ends.target, flag, ends.origin, wanted.mode, done.stuck)
    return done


async def _begin(ends: Ends) -> Done:
    flag = {"flag": ends.layout.flag}
    locked = await (await ends.target.execute(statement("batch", "begin"), flag)).fetchone()
    if locked is None or not locked[0]:
        raise Busy("another applier holds the lock of the target")
    here = await (await ends.target.execute(statement("batch", "grant_shared"), flag)).fetchone()
    there = await (await ends.source.execute(statement("batch", "grant"), flag)).fetchone()
    if here is None or there is None:
        raise NotTarget("no ownership record: the stream was never started")
    target = Grant(owner=Origin(here[0]), epoch=here[1], open=here[2])
    source = Grant(owner=Origin(there[0]), epoch=there[1], open=there[2])
    if target.open or source.order <= target.order:
        raise NotTarget(f"target is at epoch {target.epoch}, open {target.open}; source at {source.epoch}")
    return Done(through=there[3], source_epoch=source.epoch)


async def _take(ends: Ends, wanted: Wanted, done: Done) -> dict[str, set[Key]]:
    """Dirty keys by table. Unknown tables (a manifest that changed) are dropped with them."""
    given: dict[str, object] = {"flag": ends.layout.flag}
    if wanted.mode is Mode.LIVE:
        cursor = await ends.source.execute(statement("batch", "take_all"), given)
    else:
        given |= {"tables": [moved.name for moved in ends.layout.tables], "limit": wanted.limit}
        cursor = await ends.source.execute(statement("batch", "take_some"), given)
    rows = await cursor.fetchall()
    done.cut_short = wanted.mode is not Mode.LIVE and len(rows) >= wanted.limit
    keys: dict[str, set[Key]] = {}
    for table, key in rows:
        keys.setdefault(table, set()).add(tuple(key))
    return keys


async def _stuck(ends: Ends) -> set[tuple[str, Key]]:
    """What the target refused so far (bounded: more than a thousand are not retried at once)."""
    cursor = await ends.target.execute(statement("batch", "stuck"), {"flag": ends.layout.flag})
    return {(table, tuple(key)) for table, key in await cursor.fetchall()}


def _not_started(layout: Layout, moved: MovedTable, current: TableProgress) -> bool:
    names = [table.name for table in layout.tables]
    return names.index(moved.name) > names.index(current.table)


async def _reread(ends: Ends, moved: MovedTable, keys: set[Key]) -> list[Change]:
    if not keys:
        return []
    found = {moved.key_of(row): row for row in await rows_of(moved, ends.origin).read(ends.source, sorted(keys))}
    return [Change(moved=moved, key=key, row=found.get(key)) for key in sorted(keys)]


async def _up_to_cursor(ends: Ends, moved: MovedTable, after: Key | None, changes: list[Change]) -> list[Change]:
    """Rows after the cursor are left to a chunk, which reads them in this snapshot or a newer one; deletes are not.

    Nor is anything where the target has rows there already: they may hold unique values that others are to have.
    """
    there = [change.key for change in changes if change.row is not None]
    if not there or await rows_of(moved, ends.origin.other).has_after(ends.target, after):
        return changes
    past = set(there) if after is None else await rows_of(moved, ends.origin).past(ends.source, there, after)
    return [change for change in changes if change.row is None or change.key not in past]


async def _snapshot(
    ends: Ends,
    current: TableProgress,
    rows: int,
    changes: list[Change],
    done: Done,
    moved_on: list[tuple[TableProgress, Key | None, bool, int]],
) -> None:
    """Write the changes and the next rows of the table that is being copied; the progress beside them."""
    moved = ends.layout.named(current.table)
    if moved is None:
        raise NotTarget(f"progress names table {current.table!r}, which the manifest does not")
    wanted = Range(
        moved=moved,
        origin=ends.origin,
        source=ends.source,
        target=ends.target,
        after=current.after_key,
        limit=moved.sides[ends.origin].rows_within(CHUNK_BYTES, rows),
    )
    began = time.monotonic()
    chunk = await copied(wanted, ordered(changes, ends.layout.tables))
    if chunk is None:
        chunk = await row_by_row(wanted)
        all_changes = ordered(_once([*changes, *chunk.changes]), ends.layout.tables)
        done.failures = await write(ends.target, ends.origin.other, all_changes)
    await ends.target.execute(
        statement("batch", "advance"),
        {
            "flag": ends.layout.flag,
            "tbl": moved.name,
            "after_key": None if chunk.after is None else list(chunk.after),
            "done": chunk.finished,
            "rows": chunk.rows,
        },
    )
    done.rows = chunk.rows
    done.chunk_s = chunk.seconds or time.monotonic() - began
    moved_on.append((current, chunk.after, chunk.finished, chunk.rows))


def _once(changes: Sequence[Change]) -> list[Change]:
    """One change per key: a key may be dirty and in the chunk; both were read in one snapshot."""
    return list({(change.moved.name, change.key): change for change in changes}.values())


async def _keep_stuck(ends: Ends, done: Done, stuck: set[tuple[str, Key]], keys: dict[str, set[Key]]) -> None:
    flag = ends.layout.flag
    failed = {(failure.change.moved.name, failure.change.key) for failure in done.failures}
    freed = {(table, key) for table, key in stuck - failed if key in keys.get(table, ())}
    for table, key in freed:
        given: dict[str, object] = {"flag": flag, "tbl": table, "pk": list(key)}
        await ends.target.execute(statement("batch", "unstick"), given)
    for failure in done.failures:
        given = {
            "flag": flag,
            "tbl": failure.change.moved.name,
            "pk": list(failure.change.key),
            "error": failure.reason,
        }
        await ends.target.execute(statement("batch", "stick"), given)
    done.stuck = len((stuck - freed) | failed)


async def mark_dirty(link: Link, flag: str, table: str, keys: Sequence[Key]) -> None:
    """Have keys carried over once more."""
    given = {"flag": flag, "tbl": table, "keys": json.dumps([list(key) for key in keys])}
    await link.execute(statement("batch", "mark_dirty"), given)
