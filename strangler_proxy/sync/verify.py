"""Compare both sides exactly while both move: in a live batch, after its writes and before either commit.

There the target is equal to the source's snapshot, so every difference is real. A range of keys is compared by count
and two 64-bit sums of row hashes; where those differ, by the hash of each row, and the keys that differ are marked
dirty in the same transaction: the next batch carries them over again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import Layout, MovedTable
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.pace import LARGEST_RANGE, Mode, Pace
from strangler_proxy.sync.rows import Key, rows_of
from strangler_proxy.sync.statements import statement

RANGE_ROWS = 5_000
"""Of the first range; the next ones are as large as one batch can compare in RANGE_S."""

RANGE_S = 0.2
"""What is written meanwhile waits as long."""

RANGE_BYTES = 1 << 26
WHOLE_ROWS = 20_000
WHOLE_BYTES = 1 << 26
"""Tables up to this size are compared whole at a cutover; larger ones by the keys applied since the last pass."""

PASS_INTERVAL_S = 120.0
"""From the end of one clean pass over all tables to the beginning of the next."""


KEYS_TOLD = 20
"""Of the keys that differ in one pass, so many are told by name."""

PASSES_TOLD = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """A key that differs, and where: columns as the manifest names them, or `missing` or `extra` seen from the source.

    Values are not told: they are the users' data.
    """

    table: str
    key: Key
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.table} {'/'.join(self.key)}: {', '.join(self.columns)}"


@dataclass(slots=True)
class Look:
    """One range to compare: after a key, so many rows of the source. The rest is found out on the way."""

    moved: MovedTable
    after: Key | None
    limit: int = RANGE_ROWS
    upto: Key | None = None
    clock: dt.datetime | None = None
    rows: int = 0
    seconds: float = 0.0
    wrong: list[Differing] = field(default_factory=list)


async def verify_range(layout: Layout, origin: Origin, source: Link, target: Link, look: Look) -> int:
    """Compare one range inside a live batch; the number of keys that differ, which are marked dirty at the source."""
    here, there = rows_of(look.moved, origin), rows_of(look.moved, origin.other)
    if look.after is None:  # perhaps the first range of a pass
        row = await (await target.execute(statement("batch", "target_clock"))).fetchone()
        look.clock = None if row is None else row[0]
    began = time.monotonic()
    look.upto = await here.bound(source, look.after, look.limit)
    ours, theirs = await asyncio.gather(
        here.checksum(source, look.after, look.upto), there.checksum(target, look.after, look.upto)
    )
    look.rows, look.seconds = ours.rows, time.monotonic() - began
    if ours == theirs:
        return 0
    wrong = differing(
        await here.hashes(source, look.after, look.upto), await there.hashes(target, look.after, look.upto)
    )
    look.wrong = await mark_differing(layout, look.moved, origin, source, target, wrong)
    return max(1, len(wrong))


async def mark_differing(
    layout: Layout, moved: MovedTable, origin: Origin, source: Link, target: Link, keys: Sequence[Key]
) -> list[Differing]:
    """Have the next batch carry these keys over again; the first of them with the columns that differ."""
    if not keys:
        return []
    told = keys[:KEYS_TOLD]
    here, there = rows_of(moved, origin), rows_of(moved, origin.other)
    wrong = where(moved, await here.canonicals(source, told), await there.canonicals(target, told), told)
    await source.execute(
        statement("batch", "mark_dirty"),
        {"flag": layout.flag, "tbl": moved.name, "keys": json.dumps([list(key) for key in keys])},
    )
    return wrong


def where(
    moved: MovedTable, here: Mapping[Key, Sequence[object]], there: Mapping[Key, Sequence[object]], keys: Sequence[Key]
) -> list[Differing]:
    """In which columns these keys differ."""
    names = moved.table.column_names(Origin.MONOLITH)
    told = []
    for key in keys:
        ours, theirs = here.get(key), there.get(key)
        if ours is None or theirs is None:
            columns: tuple[str, ...] = ("extra",) if ours is None else ("missing",)
        else:
            columns = tuple(name for name, one, other in zip(names, ours, theirs, strict=True) if one != other)
        told.append(Differing(table=moved.name, key=key, columns=columns))
    return told


def differing(here: Mapping[Key, str], there: Mapping[Key, str]) -> list[Key]:
    """Keys that are on one side only, or whose hashes differ."""
    return sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))


@dataclass(slots=True)
class Pass:
    """One pass over all tables. `began_at` by the target's clock; `differing` are some of the keys that differ."""

    began_at: dt.datetime | None = None
    rows: int = 0
    mismatched: int = 0
    differing: list[Differing] = field(default_factory=list)

    def note(self, look: Look, mismatched: int) -> None:
        """Take one range of a committed batch."""
        self.rows += look.rows
        self.mismatched += mismatched
        self.differing += look.wrong[: KEYS_TOLD - len(self.differing)]

    def to_json(self) -> dict[str, object]:
        """The published form."""
        return {
            "began_at": None if self.began_at is None else self.began_at.astimezone(dt.UTC).isoformat(),
            "rows": self.rows,
            "mismatched": self.mismatched,
            "differing": [str(each) for each in self.differing],
        }


class Verification:
    """Where a stream's verification stands: passes over all tables, range after range, one range per live batch."""

    def __init__(self, layout: Layout) -> None:
        self.verified: bool | None = None
        self.verified_at: dt.datetime | None = None
        self.mismatches = 0
        self._layout = layout
        self._position = 0
        self._after: Key | None = None
        self._began: dt.datetime | None = None
        self._wrong_in_pass = 0
        self._due_at = 0.0
        self._finished: dt.datetime | None = None
        self._asked_at: dt.datetime | None = None
        self._answered_at: dt.datetime | None = None
        self._going = Pass()
        self._size = Pace(target_s=RANGE_S, keys=RANGE_ROWS, largest=LARGEST_RANGE)
        self._ended: deque[Pass] = deque(maxlen=PASSES_TOLD)

    def restore(self, verified: bool | None, verified_at: dt.datetime | None, mismatches: int, due_at: float) -> None:
        """Go on from what the target keeps; the next pass is due then (monotonic seconds)."""
        self.verified, self.verified_at, self.mismatches, self._due_at = verified, verified_at, mismatches, due_at

    def next_look(self, now: float) -> Look | None:
        """The range to compare in the next live batch, if one is due (`now`: monotonic seconds)."""
        self._begin_if_asked()
        if now < self._due_at or not self._layout.tables:
            return None
        moved = self._layout.tables[self._position]
        limit = min(side.rows_within(RANGE_BYTES, self._size.keys) for side in moved.sides.values())
        return Look(moved=moved, after=self._after, limit=limit)

    def _begin_if_asked(self) -> None:
        """Somebody asked for a pass from then on: one that began earlier is begun again."""
        asked = self._asked_at
        if asked is None or asked == self._answered_at:
            return
        self._answered_at = asked
        if self.verified_at is not None and asked <= self.verified_at:
            return
        self._due_at = 0.0
        if self._began is not None and self._began < asked:
            self._position, self._after, self._began, self._wrong_in_pass = 0, None, None, 0

    def note(self, look: Look, mismatched: int, now: float) -> bool:
        """Take the outcome of a committed batch; True when it ended a pass."""
        if self._began is None:
            self._began = look.clock
            self._going = Pass(began_at=look.clock)
        self._going.note(look, mismatched)
        self._size.note(look.seconds, look.rows)
        self._wrong_in_pass += mismatched
        self.mismatches += mismatched
        if mismatched:
            self.verified = False
        self._after = look.upto
        if look.upto is not None:
            return False
        self._position += 1
        if self._position < len(self._layout.tables):
            return False
        clean = self._wrong_in_pass == 0
        self.verified = clean
        if clean:
            self._finished = self._began
        self._ended.append(self._going)
        self._due_at = now + (PASS_INTERVAL_S if clean else 0.0)
        self._position, self._began, self._wrong_in_pass = 0, None, 0
        return True

    def found(self, mismatched: int) -> None:
        """So many keys that were applied lately differ: a whole pass is due."""
        self.verified, self._due_at = False, 0.0
        self.mismatches += mismatched
        self._wrong_in_pass += mismatched

    def to_json(self) -> dict[str, object]:
        """How far the pass under way is, and what the last ones found, oldest first."""
        tables = len(self._layout.tables)
        going = None if self._began is None else {**self._going.to_json(), "table": self._position + 1}
        return {"tables": tables, "going": going, "ended": [each.to_json() for each in self._ended]}

    async def keep(self, target: Link, flag: str, source: Origin, mode: Mode, stuck: int) -> None:
        """Inside a batch: write mode and outcome beside the data, where the cutover's preflight reads them."""
        finished, self._finished = self._finished, None
        given = {
            "flag": flag,
            "source": source.value,
            "mode": mode.value,
            "verified": False if stuck else self.verified,
            "verified_now": finished is not None,
            "mismatches": self.mismatches,
        }
        row = await (await target.execute(statement("batch", "set_applied"), given)).fetchone()
        if row is not None:
            self.verified_at, self._asked_at = row
        if finished is not None:
            await target.execute(statement("touched", "untouch"), {"flag": flag, "before": finished})


async def compare(
    layout: Layout, links: Mapping[Origin, Link], origin: Origin, touched: Mapping[str, list[Key]]
) -> list[str]:
    """After the fence and the catch-up, when neither side moves: what differs, one sentence each; empty if nothing.

    Both sides work at the same time, for requests are held meanwhile. Small tables whole, large ones by the keys
    applied since the last clean pass and not looked at since; totals of the same rows, where there is money.
    """
    problems: list[str] = []
    source, target = links[origin], links[origin.other]
    for moved in layout.tables:
        here, there = rows_of(moved, origin), rows_of(moved, origin.other)
        side = moved.sides[origin]
        keys: list[Key] | None = None
        if side.rows_estimated <= WHOLE_ROWS and side.rows_estimated * side.row_bytes <= WHOLE_BYTES:
            ours, theirs = await asyncio.gather(here.checksum(source, None, None), there.checksum(target, None, None))
            if ours != theirs:
                problems.append(f"table {moved.name!r}: {ours.rows} rows at the source, {theirs.rows} at the target")
        else:
            keys = touched.get(moved.name, [])
            wrong = differing(*await asyncio.gather(here.hashes_of(source, keys), there.hashes_of(target, keys)))
            if wrong:
                problems.append(f"table {moved.name!r}: {len(wrong)} of {len(keys)} touched rows differ")
        problems += await _totals(moved, links, origin, keys)
    return problems


async def _totals(
    moved: MovedTable, links: Mapping[Origin, Link], origin: Origin, keys: Sequence[Key] | None
) -> list[str]:
    if not moved.table.money:
        return []
    names = moved.table.column_names(Origin.MONOLITH)
    money = [names.index(column) for column in moved.table.money]
    by = [names.index(column) for column in moved.table.money_by]
    ours, theirs = await asyncio.gather(
        rows_of(moved, origin).totals(links[origin], money, by, keys),
        rows_of(moved, origin.other).totals(links[origin.other], money, by, keys),
    )
    return [] if ours == theirs else [f"table {moved.name!r}: totals {ours} at the source, {theirs} at the target"]
