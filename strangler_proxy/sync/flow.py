"""Rows flowing one way: batch after batch, until the other side becomes the source."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections.abc import Mapping

import psycopg
import structlog

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import metrics
from strangler_proxy.sync.batch import Busy, Done, Ends, TableProgress, Wanted, run_batch
from strangler_proxy.sync.drift import SchemaWatch
from strangler_proxy.sync.layout import Layout
from strangler_proxy.sync.link import Link, within
from strangler_proxy.sync.ownership import read_grants, source_of
from strangler_proxy.sync.pace import FIRST_CHUNK, LARGEST_RANGE, SMALLEST_CHUNK, Mode, Pace, next_mode
from strangler_proxy.sync.references import carry_tombstones
from strangler_proxy.sync.statements import statement
from strangler_proxy.sync.status import StreamStatus
from strangler_proxy.sync.touched import TouchedLooks
from strangler_proxy.sync.verify import Look, Verification

CHANNEL = b"LISTEN strangler_dirty"
ASKED = "verify"
"""What a stream is told by whoever has asked for a verification."""

SHORTEST_WAIT_S = 0.01
LONGEST_WAIT_S = 0.05
"""From look to look where nothing comes: capture does not tell, as NOTIFY would make the writers' commits queue."""

KEEP_S = 0.5
RETRY_STUCK_S = 5.0
BATCH_TIMEOUT_S = 60.0
LOOK_TIMEOUT_S = 5.0

log = structlog.get_logger()


class Flow:
    """One direction of one flag's stream. `links` are the batch's connections, `listener` looks at the source."""

    def __init__(
        self,
        layout: Layout,
        links: Mapping[Origin, Link],
        listener: Link,
        source: Origin,
        status: StreamStatus,
        *,
        watch: SchemaWatch,
        batch_target_s: float,
    ) -> None:
        self._watch = watch
        self._ends = Ends(layout=layout, origin=source, source=links[source], target=links[source.other])
        self._layout = layout
        self._links = links
        self._listener = listener
        self._source = source
        self._status = status
        self._pace = Pace(target_s=batch_target_s)
        self._chunks = Pace(target_s=batch_target_s, keys=FIRST_CHUNK, smallest=SMALLEST_CHUNK, largest=LARGEST_RANGE)
        self._mode = Mode.CATCH_UP
        self._progress: dict[str, TableProgress] = {}
        self._verification = Verification(layout)
        self._touched = TouchedLooks()
        self._epoch = 0
        self._backlog = 0
        self._keep_at = 0.0
        self._retry_at = 0.0
        self._wait_s = LONGEST_WAIT_S

    async def run(self) -> None:
        """Carry rows until the direction changes. Raises Drifted, SchemaMoved, and what the databases raise."""
        await within(LOOK_TIMEOUT_S, self._begin(), *self._ends_links())
        while True:
            await within(LOOK_TIMEOUT_S, self._watch.look(), *self._ends_links())
            now = time.monotonic()
            if now >= self._keep_at:
                await within(LOOK_TIMEOUT_S, self._measure(), self._listener)
                await within(LOOK_TIMEOUT_S, self._carry_tombstones(), *self._ends_links())
            self._set_mode()
            if self._mode is Mode.LIVE and await within(LOOK_TIMEOUT_S, self._nothing_to_do(now), *self._all_links()):
                if await within(LOOK_TIMEOUT_S, self._turned(), *self._ends_links()):
                    return
                await within(LOOK_TIMEOUT_S, self._wait(), self._listener)
                continue
            try:
                await self._batch(now)
            except Busy:
                await asyncio.sleep(random.uniform(0.02, 0.1))
            except psycopg.errors.DeadlockDetected as error:  # rolled back on both sides: the same batch again
                log.warning("sync.batch_deadlocked", flag=self._layout.flag, error=str(error.diag.message_detail))
                await asyncio.sleep(random.uniform(0.02, 0.1))

    async def _begin(self) -> None:
        flag = {"flag": self._layout.flag, "source": self._source.value}
        await self._ends.source.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await self._ends.target.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
        await self._listener.execute(CHANNEL)
        target = self._ends.target
        rows = await (await target.execute(statement("batch", "progress"), flag)).fetchall()
        found = {row[0]: TableProgress(row[0], row[1] and tuple(row[1]), row[2], row[3], row[4]) for row in rows}
        for moved in self._layout.tables:
            if moved.name not in found:
                estimated = moved.sides[self._source].rows_estimated
                await target.execute(
                    statement("batch", "begin_progress"), {**flag, "tbl": moved.name, "estimated": estimated}
                )
                found[moved.name] = TableProgress(moved.name, rows_estimated=estimated)
        self._progress = {moved.name: found[moved.name] for moved in self._layout.tables}
        applied = await (await target.execute(statement("batch", "applied"), flag)).fetchone()
        now = time.monotonic()
        if applied is not None:
            _, verified_at, verified, mismatches = applied
            self._verification.restore(verified, verified_at, mismatches, now + 60.0 if verified else now)
        self._status.source = self._source
        self._status.tables = list(self._progress.values())
        log.info("sync.flow_begun", flag=self._layout.flag, source=self._source.value)

    def _set_mode(self) -> None:
        done = all(table.done for table in self._progress.values())
        mode = next_mode(self._mode, snapshot_done=done, backlog=self._backlog)
        if mode is not self._mode:
            log.info("sync.mode_changed", flag=self._layout.flag, mode=mode.value, dirty_keys=self._backlog)
            self._mode = mode
            self._keep_at = 0.0
        self._status.mode = mode

    async def _measure(self) -> None:
        """Depth of the queue and age of its oldest key, twice a second."""
        row = await (
            await self._listener.execute(statement("batch", "backlog"), {"flag": self._layout.flag})
        ).fetchone()
        if row is not None:
            self._backlog = row[0]
            self._status.dirty_keys, self._status.oldest_key_s = row[0], row[1]

    async def _carry_tombstones(self) -> None:
        tables = [moved.table for moved in self._layout.tables]
        await carry_tombstones(self._layout.flag, tables, self._links)

    async def _nothing_to_do(self, now: float) -> bool:
        """One look at the source; True when nothing waits, nothing is due, and so the copy is complete by now."""
        row = await (await self._listener.execute(statement("batch", "idle"), {"flag": self._layout.flag})).fetchone()
        if row is None:
            return False
        _, self._epoch, self._is_open, clock, waiting = row
        self._status.epoch = self._epoch
        if waiting or now >= self._keep_at or self._touched_due(now) or self._range_due(now) is not None:
            return False
        self._complete(clock, now)
        return True

    async def _turned(self) -> bool:
        """Whether the target has become the source; only a source that is closed can have lost that."""
        if self._is_open:
            return False
        grants = await read_grants(self._links, self._layout.flag)
        return grants is not None and source_of(grants) is not self._source

    async def _wait(self) -> None:
        async for told in self._listener.notifies(timeout=self._wait_s, stop_after=1):  # by a cutover, or
            if told.payload == ASKED:
                self._keep_at = 0.0
        self._wait_s = min(LONGEST_WAIT_S, self._wait_s * 2)

    async def _batch(self, now: float) -> None:
        flag = self._layout.flag
        live = self._mode is Mode.LIVE
        look = self._range_due(now) if live else None
        wanted = Wanted(
            mode=self._mode,
            limit=self._pace.keys,
            rows=self._chunks.keys,
            retry_stuck=bool(self._status.stuck) and now >= self._retry_at,
            look=look,
            verification=self._verification if now >= self._keep_at else None,
            touched=live and self._touched_due(now),
        )
        done = await within(BATCH_TIMEOUT_S, run_batch(self._ends, self._progress, wanted), *self._ends_links())
        after = time.monotonic()
        self._note(done, wanted, now, after)
        if live:
            self._complete(done.through, now)
            self._note_touched(done, after)
        else:
            self._backlog = max(self._backlog - done.keys, 0)
            self._learn(done, after - now)
            if not done.cut_short and all(table.done for table in self._progress.values()):
                self._backlog = 0
        if look is not None and done.looked and self._verification.note(look, done.mismatched, after):
            log.info("sync.verified", flag=flag, clean=self._verification.verified)
            self._keep_at = 0.0
            self._status.awaited = True
        self._status.verified, self._status.verified_at = self._verification.verified, self._verification.verified_at
        self._status.mismatches = self._verification.mismatches
        if look is not None:
            self._status.verification = self._verification.to_json()

    def _learn(self, done: Done, seconds: float) -> None:
        """Keys that came with a chunk are few, and written with it: they teach nothing.

        A chunk may take its time, or as long as the rest of its batch does: with many tables on a busy machine that is
        longer, and small chunks would not make it shorter.
        """
        if done.rows:
            rest = max(seconds - done.chunk_s, self._chunks.target_s)
            self._chunks.note(done.chunk_s * self._chunks.target_s / rest, done.rows)
        else:
            self._pace.note(seconds, done.keys)

    def _range_due(self, now: float) -> Look | None:
        """Nothing is compared while keys are stuck, which are known to differ."""
        return None if self._status.stuck else self._verification.next_look(now)

    def _touched_due(self, now: float) -> bool:
        return not self._status.stuck and self._touched.due(now)

    def _note_touched(self, done: Done, now: float) -> None:
        touched = done.touched
        if touched is not None:
            self._touched.looked(now, more=touched.more)
        if done.keys:
            self._touched.applied()
        if touched is not None and touched.mismatched:
            self._verification.found(touched.mismatched)
            self._tell_mismatch(touched.told[0].table, touched.mismatched)

    def _note(self, done: Done, wanted: Wanted, began: float, ended: float) -> None:
        flag = self._layout.flag
        if wanted.verification is not None:
            self._keep_at = ended + KEEP_S
        if wanted.retry_stuck:
            self._retry_at = ended + RETRY_STUCK_S
        if done.keys or done.rows:
            self._wait_s = SHORTEST_WAIT_S
            metrics.BATCH.labels(flag).observe(ended - began)
            metrics.KEYS.labels(flag, self._source.value).inc(done.keys + done.rows)
        if done.rows:
            self._status.rows_per_s = done.rows / max(ended - began, 1e-4)
            log.debug("sync.chunk_copied", flag=flag, rows=done.rows, seconds=round(ended - began, 3))
        if done.mismatched:
            self._tell_mismatch("" if wanted.look is None else wanted.look.moved.name, done.mismatched)
        if done.failures:
            self._watch.hurry()
        if done.stuck > self._status.stuck:
            self._retry_at = ended + RETRY_STUCK_S
            for failure in done.failures[:5]:
                log.error(
                    "sync.key_stuck", flag=flag, table=failure.change.moved.name, key=failure.change.key,
                    error=failure.reason,
                )  # fmt: skip
        self._status.stuck = done.stuck
        self._status.epoch = done.source_epoch

    def _tell_mismatch(self, table: str, keys: int) -> None:
        metrics.MISMATCHES.labels(self._layout.flag).inc(keys)
        log.error("sync.mismatch_found", flag=self._layout.flag, table=table, keys=keys)

    def _complete(self, through: dt.datetime, looked_at: float) -> None:
        self._status.through = through
        self._status.fresh_at = looked_at

    def _ends_links(self) -> tuple[Link, Link]:
        return self._ends.source, self._ends.target

    def _all_links(self) -> tuple[Link, ...]:
        return (*self._ends_links(), self._listener)

    _is_open = True
