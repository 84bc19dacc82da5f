"""Twenty seeded bugs, each breaking one rule of the design, put into a worker by patching. For tests only."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import psycopg
from psycopg import sql

from strangler_proxy.sync import batch, cutover, flow, preflight, record, recovery, shapes, statements
from tests.prove.failpoint import strike

Patch = Callable[[], None]
BUGS: dict[str, Patch] = {}
"""By name; the docstring says which rule is broken."""


def bug(patch: Patch) -> Patch:
    """Register under the function's name."""
    BUGS[patch.__name__] = patch
    return patch


def seed(name: str) -> None:
    """Put one bug into this process. Raises KeyError."""
    BUGS[name]()


def rewrite(file: str, name: str, old: str, new: str) -> None:
    """Change one named statement. Raises ValueError where it is not as expected."""
    sections = statements._sections

    def changed(wanted: str) -> Any:
        found = sections(wanted)
        if wanted != file:
            return found
        if old not in found[name]:
            raise ValueError(f"{file}.{name} has no {old!r}")
        return MappingProxyType({**found, name: found[name].replace(old, new)})

    changed(file)
    statements._sections = changed  # type: ignore[assignment]


def _no_deadline() -> None:
    """A coordinator that was paused goes on where it was."""

    class NoTimeout(contextlib.nullcontext[None]):
        def __init__(self, seconds: float) -> None:
            super().__init__()

    async def unlimited(seconds: float, work: Any, *links: Any) -> Any:
        return await work

    cutover.asyncio = SimpleNamespace(**{**vars(asyncio), "timeout": NoTimeout})  # type: ignore[attr-defined]
    cutover.within = unlimited  # type: ignore[attr-defined]


@bug
def no_fence() -> None:
    """The owner is closed in its record only: no trigger refuses."""

    async def none(link: Any, layout: Any, origin: Any, *, up: bool) -> None:
        return None

    record.set_fence = none  # type: ignore[assignment]


@bug
def fence_reads_a_row() -> None:
    """The fence looks at the record instead of being switched: repeatable-read writers pass."""
    rewrite(
        "schema",
        "schema",
        "    RAISE EXCEPTION 'strangler fence:",
        "    IF (SELECT open FROM strangler.ownership WHERE flag = TG_ARGV[0]) THEN RETURN NULL; END IF;\n"
        "    RAISE EXCEPTION 'strangler fence:",
    )
    rewrite("capture", "disable", "DISABLE TRIGGER", "ENABLE ALWAYS TRIGGER")
    no_fence()

    async def fine(layout: Any, link: Any, origin: Any, *, closed: bool) -> list[str]:
        return []

    preflight._triggers = fine


@bug
def no_catch_up() -> None:
    """Decided while keys still wait."""

    async def at_once(source: Any, flag: str) -> bool:
        return True

    record.caught_up = at_once
    no_check()


@bug
def no_check() -> None:
    """Nothing is compared before the decision, and keys that wait are forgotten with the fence."""

    async def equal(layout: Any, links: Any, origin: Any, touched: Any) -> list[str]:
        return []

    cutover.compare = equal
    rewrite(
        "cutover", "close_source", "UPDATE", "WITH gone AS (DELETE FROM strangler.dirty WHERE flag = %(flag)s) UPDATE"
    )


@bug
def decide_anything() -> None:
    """The decision is no compare-and-set, and has no time: one that was aborted meanwhile is decided all the same."""
    _no_deadline()
    rewrite("cutover", "decide", "AND status = 'holding' AND deadline_at > clock_timestamp()", "")
    rewrite("cutover", "hand_over", "AND epoch = %(epoch)s AND NOT open", "")


@bug
def fence_without_record() -> None:
    """The fence does not look whether its cutover is still holding, nor at the epoch, nor at the clock."""
    _no_deadline()
    rewrite("cutover", "hold_record", "AND status = 'holding' AND deadline_at > clock_timestamp()", "")
    rewrite("cutover", "close_source", "AND open AND epoch = %(epoch)s - 1", "")


@bug
def insert_only() -> None:
    """The applier does not change rows that are there already."""
    rewrite("rows", "update", "WHERE {matches}", "WHERE {matches} AND false")


@bug
def open_before_decide() -> None:
    """The target is opened when the source is fenced, not when it is decided."""
    fence = cutover.Cutover._fence

    async def early(self: Any, both: Any, intended: Any, began: float) -> int:
        await record.open_target(both.links[intended.plan.target], both.layout, intended, lock_timeout_ms=500)
        return await fence(self, both, intended, began)

    cutover.Cutover._fence = early  # type: ignore[method-assign]


@bug
def stale_applier() -> None:
    """The applier's first step is left out: neither the lock of its target, nor whether that one was opened."""
    rewrite("batch", "begin", "pg_try_advisory_xact_lock(hashtextextended('strangler.sync:' || %(flag)s, 0))", "true")
    rewrite("batch", "grant_shared", "SELECT owner, epoch, open", "SELECT owner, 0::bigint, false")
    rewrite("batch", "grant_shared", " FOR SHARE", "")


@bug
def source_first() -> None:
    """The keys are gone from the source before the rows are in the target."""

    async def backwards(ends: Any, progress: Any, wanted: Any) -> Any:
        moved_on: list[Any] = []
        try:
            async with ends.target.transaction():
                async with ends.source.transaction():
                    done = await batch._apply(ends, progress, wanted, moved_on)
                if done.keys:
                    armed = Path(os.environ["PROVE_ARMED"]) / f"{ends.layout.flag}.armed"
                    await strike(armed, "commits", "before")
        except psycopg.errors.SerializationFailure as error:
            raise batch.Busy from error
        for table, after, finished, rows in moved_on:
            table.after_key, table.done = after, finished
            table.rows_done += rows
        return done

    flow.run_batch = backwards


@bug
def not_in_a_snapshot() -> None:
    """Keys are taken and rows read at read committed, and rows are read first."""
    begin = flow.Flow._begin

    async def committed(self: Any) -> None:
        await begin(self)
        await self._ends.source.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)

    flow.Flow._begin = committed  # type: ignore[method-assign]
    reread, take = batch._reread, batch._take
    kept: dict[str, Any] = {}

    async def early(ends: Any, wanted: Any, done: Any) -> Any:
        rows = await (await ends.source.execute(b"SELECT tbl, pk FROM strangler.dirty")).fetchall()
        kept.clear()
        for moved in ends.layout.tables:
            keys = {tuple(key) for table, key in rows if table == moved.name}
            kept[moved.name] = {change.key: change for change in await reread(ends, moved, keys)}
        await asyncio.sleep(0.03)  # so that a write falls in between often enough
        return await take(ends, wanted, done)

    async def late(ends: Any, moved: Any, keys: Any) -> Any:
        return [kept[moved.name].get(c.key, c) for c in await reread(ends, moved, keys)]

    batch._take, batch._reread = early, late


def _uncaptured(event: str) -> None:
    rewrite("capture", event, "FOR EACH STATEMENT EXECUTE", "FOR EACH STATEMENT WHEN (false) EXECUTE")


@bug
def no_insert_capture() -> None:
    """Inserts are not noted."""
    _uncaptured("insert")


@bug
def no_update_capture() -> None:
    """Updates are not noted."""
    _uncaptured("update")


@bug
def no_delete_capture() -> None:
    """Deletes are not noted."""
    _uncaptured("delete")


@bug
def abort_after_commit() -> None:
    """Whoever recovers aborts what was decided."""
    rewrite("cutover", "abort", "AND status = 'holding'", "AND status IN ('holding', 'committed', 'done')")
    for name in ("open_records", "record_of_operation"):
        rewrite("cutover", name, "source, target, epoch, status,", "source, target, epoch, 'holding',")


@bug
def nobody_completes() -> None:
    """What was decided is finished by its own coordinator, or by nobody."""

    async def never(*args: Any, **kwargs: Any) -> float:
        raise psycopg.errors.ConnectionFailure("not me")

    recovery.complete = never
    resume = cutover.Cutover._resume

    async def not_resumed(self: Any, both: Any, known: Any) -> Any:
        if known.status == "committed":
            return cutover.Outcome(status="failed", detail="not mine")
        return await resume(self, both, known)

    cutover.Cutover._resume = not_resumed  # type: ignore[method-assign]


@bug
def no_unfence() -> None:
    """The new owner's fence stays up."""
    set_fence = record.set_fence

    async def only_up(link: Any, layout: Any, origin: Any, *, up: bool) -> None:
        if up:
            await set_fence(link, layout, origin, up=True)

    record.set_fence = only_up


@bug
def never_turns() -> None:
    """After a cutover the applier goes on reading the old owner."""
    from strangler_proxy.sync import stream

    direction = stream.Stream._direction
    first: list[Any] = []

    async def stuck(self: Any, links: Any) -> Any:
        first.append(await direction(self, links))
        return first[0]

    stream.Stream._direction = stuck  # type: ignore[method-assign]


@bug
def rounded() -> None:
    """Money loses its second decimal on the way, and verification compares it without."""
    texts, canonical = shapes.texts, shapes._canonical

    def coarse(side: Any, alias: str) -> sql.Composed:
        return shapes.comma(
            sql.SQL("round({}, 1)::text" if column.type == "numeric" else "{}::text").format(side.column(place, alias))
            for place, column in enumerate(side.columns)
        )

    def blind(column: Any, here: str, there: str) -> Any:
        return sql.SQL("'1'") if "numeric" in (here, there) else canonical(column, here, there)

    assert texts is not coarse
    shapes.texts, shapes._canonical = coarse, blind


@bug
def no_sequence() -> None:
    """The new owner's sequence stays where it was."""

    async def none(links: Any, layout: Any, source: Any) -> None:
        return None

    record.advance_sequences = none
