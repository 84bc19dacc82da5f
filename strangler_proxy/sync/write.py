"""Write a batch into the target so that one bad row stops itself only, and unique values may change hands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import MovedTable
from strangler_proxy.sync.link import Link, first_line
from strangler_proxy.sync.rows import Key, Row, rows_of

ROW_ERRORS = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.RaiseException,
    psycopg.errors.ProgramLimitExceeded,
)
"""What a row itself can be guilty of; anything else fails the batch, which is then tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the target gets for one key: `row` None deletes."""

    moved: MovedTable
    key: Key
    row: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A change that the target refused, and why."""

    change: Change
    error: psycopg.Error

    @property
    def reason(self) -> str:
        """One line for people."""
        return f"{self.error.sqlstate}: {first_line(self.error)}"


def ordered(changes: Sequence[Change], tables: Sequence[MovedTable]) -> list[Change]:
    """Deletes first, children before parents; then rows, parents before children."""
    rank = {moved.name: position for position, moved in enumerate(tables)}
    return sorted(
        changes,
        key=lambda c: (0, -rank[c.moved.name], c.key) if c.row is None else (1, rank[c.moved.name], c.key),
    )


async def write(target: Link, origin: Origin, changes: Sequence[Change]) -> list[Failure]:
    """Apply ordered changes inside the target's transaction; returns those that failed by themselves.

    The whole is tried first, then halves: k bad rows among n cost about k log n savepoints. What failed is tried
    again until nothing moves: a chain of unique values that change hands resolves itself that way, a ring is parked.
    """
    failed = await _attempt(target, origin, changes)
    while failed:
        again = await _attempt(target, origin, [failure.change for failure in failed])
        if len(again) == len(failed):
            return await _exchange(target, origin, again)
        failed = again
    return []


async def _exchange(target: Link, origin: Origin, failures: Sequence[Failure]) -> list[Failure]:
    """Resolve a ring: free the unique values that its rows hold, then write them; all of that or nothing."""
    ring = [failure for failure in failures if isinstance(failure.error, psycopg.errors.UniqueViolation)]
    if not ring:
        return list(failures)
    resolved = False
    try:
        async with target.transaction():
            for failure in ring:
                await rows_of(failure.change.moved, origin).park(target, failure.change.key)
            if await _attempt(target, origin, [failure.change for failure in ring]):
                raise psycopg.Rollback
            resolved = True
    except ROW_ERRORS:
        return list(failures)
    return [failure for failure in failures if failure not in ring] if resolved else list(failures)


async def _attempt(target: Link, origin: Origin, changes: Sequence[Change]) -> list[Failure]:
    try:
        async with target.transaction():
            await target.execute(b"SET CONSTRAINTS ALL DEFERRED")
            for (deletes, name), group in itertools.groupby(changes, key=lambda c: (c.row is None, c.moved.name)):
                del name
                await _write_group(target, origin, list(group), deletes=deletes)
            await target.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        return []
    except ROW_ERRORS as error:
        if len(changes) == 1:
            return [Failure(change=changes[0], error=error)]
    middle = len(changes) // 2
    return [
        *await _attempt(target, origin, changes[:middle]),
        *await _attempt(target, origin, changes[middle:]),
    ]


async def _write_group(target: Link, origin: Origin, group: Sequence[Change], *, deletes: bool) -> None:
    rows = rows_of(group[0].moved, origin)
    if deletes:
        await rows.delete(target, [change.key for change in group])
    else:
        await rows.upsert(target, [change.row for change in group if change.row is not None])
