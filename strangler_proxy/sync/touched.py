"""Keys applied since the last clean pass, and a second look at them soon afterwards.

A pass over a large table takes its time, and what is applied meanwhile would all be left for the cutover's check, in
which requests are held. So some of these keys are compared in later live batches, and those that are equal forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import Layout
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.rows import Key, rows_of
from strangler_proxy.sync.statements import statement
from strangler_proxy.sync.verify import Differing, differing, mark_differing

AT_ONCE = 1_000
"""So many keys are compared in one batch: some 10 ms."""

AGAIN_S = 1.0
"""From look to look, unless more was waiting than one look takes."""


@dataclass(slots=True)
class TouchedLooks:
    """When a live batch is to look at touched keys again; times are monotonic seconds."""

    _due_at: float = 0.0
    _waiting: bool = True  # nobody knows what was left before

    def due(self, now: float) -> bool:
        """Whether the next batch is to look."""
        return self._waiting and now >= self._due_at

    def applied(self) -> None:
        """A live batch has touched keys."""
        self._waiting = True

    def looked(self, now: float, *, more: bool) -> None:
        """A batch has looked, and been committed."""
        self._waiting = more
        self._due_at = now + (0.0 if more else AGAIN_S)


async def touch(target: Link, flag: str, keys: Mapping[str, set[Key]]) -> None:
    """Inside a live batch: note keys as applied, by table."""
    for table, some in keys.items():
        await target.execute(statement("touched", "touch"), {"flag": flag, "tbl": table, "keys": _json(sorted(some))})


async def touched_keys(target: Link, flag: str) -> dict[str, list[Key]]:
    """Those not looked at since, by table."""
    return _by_table(await (await target.execute(statement("touched", "all"), {"flag": flag})).fetchall())


@dataclass(slots=True)
class Looked:
    """Whether more keys may be waiting, how many differ, and the first of those."""

    more: bool = False
    mismatched: int = 0
    told: list[Differing] = field(default_factory=list)


async def compare_touched(layout: Layout, origin: Origin, source: Link, target: Link) -> Looked:
    """Inside a live batch, after its writes: compare keys that have waited longest, and forget those that are equal.

    Those that differ are marked dirty at the source, and stay noted: this worker may die between the two commits.
    """
    given: dict[str, object] = {"flag": layout.flag, "limit": AT_ONCE}
    rows = await (await target.execute(statement("touched", "oldest"), given)).fetchall()
    looked = Looked(more=len(rows) >= AT_ONCE)
    for table, keys in _by_table(rows).items():
        moved = layout.named(table)
        differ: Sequence[Key] = ()
        if moved is not None:
            here = await rows_of(moved, origin).hashes_of(source, keys)
            there = await rows_of(moved, origin.other).hashes_of(target, keys)
            differ = differing(here, there)
            looked.mismatched += len(differ)
            looked.told += await mark_differing(layout, moved, origin, source, target, differ)
        equal = _json(set(keys) - set(differ))
        await target.execute(statement("touched", "forget"), {"flag": layout.flag, "tbl": table, "keys": equal})
    return looked


def _by_table(rows: Sequence[tuple[str, list[str]]]) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for table, key in rows:
        found.setdefault(table, []).append(tuple(key))
    return found


def _json(keys: Sequence[Key] | set[Key]) -> str:
    return json.dumps([list(key) for key in keys])
