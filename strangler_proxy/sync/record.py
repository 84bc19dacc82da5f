"""The record of a cutover, and its transactions: each one in one database, compare-and-set, safe to repeat.

The record lives with the owner that the cutover begins with, in both directions; decision, fence and abort are local
to that database.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.install import set_fence
from strangler_proxy.sync.layout import Layout, MovedTable
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.rows import rows_of
from strangler_proxy.sync.statements import statement, template


class CutoverLost(Exception):
    """The record is not ours to go on with: aborted, decided by somebody, or out of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a cutover is asked to do. `stage` empty: the stage stays."""

    cutover_id: str
    operation_id: int
    flag: str
    source: Origin
    stage: str
    weight: int
    actor: str
    reason: str

    @property
    def target(self) -> Origin:
        """The side that is to own."""
        return self.source.other


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A cutover as its database knows it. `epoch` is the one that the target is to be opened at."""

    plan: Plan
    epoch: int
    status: str
    deadline_at: dt.datetime
    overdue: bool
    decided_long_ago: bool


def record_from(row: tuple[Any, ...]) -> Record:
    """A row of `open_records` or `record_of_operation`."""
    return Record(
        plan=Plan(
            cutover_id=row[0],
            operation_id=row[1],
            flag=row[2],
            source=Origin(row[3]),
            stage=row[8],
            weight=row[9],
            actor=row[10],
            reason=row[11],
        ),
        epoch=row[5],
        status=row[6],
        deadline_at=row[7],
        overdue=row[12],
        decided_long_ago=row[13],
    )


async def intend(source: Link, plan: Plan, deadline_s: float) -> Record:
    """Insert the record. Raises CutoverLost where another one is under way or the source is not open."""
    given = {
        "id": plan.cutover_id,
        "operation_id": plan.operation_id,
        "flag": plan.flag,
        "source": plan.source.value,
        "target": plan.target.value,
        "deadline_s": deadline_s,
        "stage": plan.stage,
        "weight": plan.weight,
        "actor": plan.actor,
        "reason": plan.reason,
    }
    row = await (await source.execute(statement("cutover", "intent"), given)).fetchone()
    if row is None:
        raise CutoverLost("another cutover of this flag is under way, or the source is not open")
    return Record(plan=plan, epoch=row[0], status="holding", deadline_at=row[1], overdue=False, decided_long_ago=False)


async def fence(source: Link, layout: Layout, record: Record, order: list[MovedTable], *, lock_timeout_ms: int) -> None:
    """One transaction: record locked and holding, owner closed at the new epoch, fences up. Raises CutoverLost.

    Tables are locked in the order given. One that is not to be had in time is put first for the next try: writers that
    take it first, and then wait for a table that is locked here already, would otherwise be met again and again.
    """
    given = {"id": record.plan.cutover_id, "flag": record.plan.flag, "epoch": record.epoch}
    async with source.transaction():
        await source.execute(f"SET LOCAL lock_timeout = {lock_timeout_ms}".encode())
        row = await (await source.execute(statement("cutover", "hold_record"), given)).fetchone()
        if row is None:
            raise CutoverLost("the record is not holding any more: somebody aborted it, or its time is over")
        closed = await source.execute(statement("cutover", "close_source"), given)
        if closed.rowcount != 1:
            raise CutoverLost(f"the source is not open at epoch {record.epoch - 1}")
        await _lock(source, record.plan.source, order)
        await set_fence(source, layout, record.plan.source, up=True)


async def _lock(source: Link, origin: Origin, order: list[MovedTable]) -> None:
    for number, moved in enumerate(order):
        try:
            await source.execute(template("cutover", "lock_table", table=moved.sides[origin].identifier))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            order.insert(0, order.pop(number))
            raise


async def caught_up(source: Link, flag: str) -> bool:
    """No dirty keys are left. After the fence nobody adds any."""
    row = await (await source.execute(statement("cutover", "caught_up"), {"flag": flag})).fetchone()
    return bool(row and row[0])


async def wake(link: Link, word: str) -> None:
    """Have the applier look at once, and tell it why: a flag's cutover, or `flow.ASKED`."""
    await link.execute(statement("cutover", "wake"), {"word": word})


async def decide(source: Link, layout: Layout, record: Record) -> None:
    """The decision, and with it what the stream the other way begins from. Raises CutoverLost."""
    plan = record.plan
    given: dict[str, object] = {
        "id": plan.cutover_id,
        "flag": plan.flag,
        "target": plan.target.value,
        "epoch": record.epoch,
    }
    async with source.transaction():
        if (await source.execute(statement("cutover", "decide"), given)).rowcount != 1:
            raise CutoverLost("the record is not holding any more: somebody aborted it, or its time is over")
        if (await source.execute(statement("cutover", "hand_over"), given)).rowcount != 1:
            raise CutoverLost(f"the source is not closed at epoch {record.epoch}")
        async with source.pipeline():
            for moved in layout.tables:
                progress = {**given, "tbl": moved.name, "rows": moved.sides[plan.source].rows_estimated}
                await source.execute(statement("cutover", "reverse_progress"), progress)
        await source.execute(statement("cutover", "reverse_applied"), given)


async def open_target(target: Link, layout: Layout, record: Record, *, lock_timeout_ms: int) -> bool:
    """Open the target at the record's epoch; False where it, or a later grant, is there already."""
    plan = record.plan
    given = {"flag": plan.flag, "target": plan.target.value, "epoch": record.epoch}
    async with target.transaction():
        await target.execute(f"SET LOCAL lock_timeout = {lock_timeout_ms}".encode())
        if (await target.execute(statement("cutover", "open_target"), given)).rowcount != 1:
            return False
        await set_fence(target, layout, plan.target, up=False)
    return True


async def abort(source: Link, layout: Layout, record: Record, detail: str, *, lock_timeout_ms: int) -> bool:
    """One transaction: compare-and-set, epoch past the intended one, reopen, fences down; False: not holding."""
    plan = record.plan
    given = {"id": plan.cutover_id, "flag": plan.flag, "detail": detail[:2000], "source": plan.source.value}
    async with source.transaction():
        await source.execute(f"SET LOCAL lock_timeout = {lock_timeout_ms}".encode())
        row = await (await source.execute(statement("cutover", "abort"), given)).fetchone()
        if row is None:
            return False
        await source.execute(statement("cutover", "reopen"), {**given, "epoch": row[0]})
        await set_fence(source, layout, plan.source, up=False)
    return True


async def finish(source: Link, cutover_id: str) -> None:
    """After the release: nothing is left to do."""
    await source.execute(statement("cutover", "finish"), {"id": cutover_id})


async def status_of(source: Link, cutover_id: str) -> str | None:
    """The record's status, None where it is not in this database."""
    row = await (await source.execute(statement("cutover", "status_of"), {"id": cutover_id})).fetchone()
    return None if row is None else str(row[0])


async def open_records(link: Link, flag: str) -> list[Record]:
    """Records in this database that are not over."""
    rows = await (await link.execute(statement("cutover", "open_records"), {"flag": flag})).fetchall()
    return [record_from(row) for row in rows]


async def record_of_operation(link: Link, flag: str, operation_id: int) -> Record | None:
    """What an earlier claim of the operation got to."""
    given = {"operation_id": operation_id, "flag": flag}
    row = await (await link.execute(statement("cutover", "record_of_operation"), given)).fetchone()
    return None if row is None else record_from(row)


async def advance_sequences(links: Mapping[Origin, Link], layout: Layout, source: Origin) -> None:
    """Set the target's sequences past the source's; they never go back."""
    for moved in layout.tables:
        if moved.table.sequence is None:
            continue
        position = moved.table.column_names(Origin.MONOLITH).index(moved.table.sequence)
        found: dict[Origin, str] = {}
        for origin in Origin:
            given = {
                "table": moved.sides[origin].regclass,
                "column": moved.sides[origin].columns[position].name,
            }
            row = await (await links[origin].execute(statement("cutover", "sequence_of"), given)).fetchone()
            if row is None or row[0] is None:
                raise CutoverLost(f"table {given['table']}: column {given['column']!r} has no sequence")
            found[origin] = row[0]
        query = template("cutover", "last_value", sequence=sql.SQL(found[source]))
        last = await (await links[source].execute(query)).fetchone()
        highest = await rows_of(moved, source).highest(links[source], position)
        behind = found[source.other]
        await links[source.other].execute(
            template("cutover", "sequence_past", sequence=sql.SQL(behind)),
            {"sequence": behind, "last": max(last[0] if last else 0, highest, 1)},
        )
