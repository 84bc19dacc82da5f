"""`make bench-sync`: what keeping rows in step costs, as ratios from one run.

ROWS=1000000 GROWTH=10000,100000 CUTOVERS=10 python -m tests.benchmarks.sync_run
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass

import structlog
from rich.console import Console
from rich.table import Table

from tests.benchmarks.machine import described, machine
from tests.benchmarks.sync_measure import capture, copy_s, holds, lag, memory, percentile, snapshot_s, verified
from tests.benchmarks.sync_world import server, world
from tests.integration.sync_rig import ask, rig
from tests.servers import EmbeddedPostgres

ROWS = int(os.environ.get("ROWS") or 1_000_000)
GROWTH = [int(size) for size in (os.environ.get("GROWTH") or "10000,100000").split(",") if size]
CUTOVERS = int(os.environ.get("CUTOVERS") or 10)
RATE = 500
LAG_S = 15.0
BUDGET_S = 440.0
"""No part that may be left out begins after so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the outcome: `ratio` against `target`."""

    what: str
    found: str
    ratio: str
    target: str
    met: bool | None

    def cells(self) -> tuple[str, str, str, str, str]:
        """As the table shows it."""
        return self.what, self.found, self.ratio, self.target, {True: "met", False: "NOT met", None: ""}[self.met]


class Run:
    """The measurements, in an order in which none disturbs the next."""

    def __init__(self, postgres: EmbeddedPostgres, console: Console) -> None:
        self.lines: list[Line] = []
        self._postgres = postgres
        self._console = console
        self._began = time.monotonic()

    async def growth(self, rows: int) -> None:
        """The snapshot alone, at another size."""
        with world(self._postgres, rows) as here:
            plain = await asyncio.to_thread(copy_s, here)
            async with rig(here) as store:
                with memory() as peak:
                    seconds = await snapshot_s(store, here)
        self._snapshot(rows, plain, seconds, peak.before, peak.most, None)

    async def all(self, rows: int) -> None:
        """Everything, on one table of that size."""
        with world(self._postgres, rows) as here:
            plain = [await asyncio.to_thread(copy_s, here)]
            async with rig(here) as store:
                with memory() as peak:
                    seconds = await snapshot_s(store, here)
                plain.append(await asyncio.to_thread(copy_s, here))
                self._snapshot(rows, sum(plain) / 2, seconds, peak.before, peak.most, 0.4)
                with memory() as peak:
                    checked = await verified(store, here)
                ratio = checked.passed / checked.one_by_one
                said = f"{checked.passed:.1f} s, worker {peak.most:.0f} MiB"
                self._add(f"verify {rows:,}: the two queries, {checked.one_by_one:.1f} s", said, ratio, 1.5)
                self._add(
                    f"verify {rows:,}: both at once, {checked.at_once:.1f} s", said, checked.passed / checked.at_once
                )
                found = await lag(store, here, RATE, LAG_S)
                p50, p99 = percentile(found.samples, 0.5), percentile(found.samples, 0.99)
                what = f"lag at {found.writes_per_s:.0f} writes/s, {len(found.samples)} probes"
                self._plain(what, f"p50 {p50:.0f} ms, p99 {p99:.0f} ms", "p99 < 250 ms", p99 < 250)
                if time.monotonic() - self._began < BUDGET_S:
                    await self._holds(store, here)
                await ask(store, "sync_stop", here.manifest.flag)
                await asyncio.sleep(1.5)
                cost = await asyncio.to_thread(capture, here, 600, 5)
            self._capture(cost.single, cost.bulk)

    async def _holds(self, store: object, here: object) -> None:
        held = await holds(store, here, RATE, CUTOVERS)  # type: ignore[arg-type]
        p50, p99 = percentile(held, 0.5), percentile(held, 0.99)
        what = f"hold of a cutover, rows only, at {RATE} writes/s, {len(held)} times"
        self._plain(what, f"p50 {p50:.0f} ms, p99 {p99:.0f} ms", "p50 < 300 ms, p99 < 1 s", p50 < 300 and p99 < 1000)

    def _snapshot(
        self, rows: int, plain: float, seconds: float, before: float, most: float, target: float | None
    ) -> None:
        found = f"{rows / seconds:,.0f} rows/s, worker {before:.0f} -> {most:.0f} MiB"
        ratio = plain / seconds
        what = f"snapshot {rows:,}: COPY to COPY, {rows / plain:,.0f} rows/s"
        at_least = "" if target is None else f">= {target} x"
        self._show(
            Line(what=what, found=found, ratio=f"{ratio:.2f} x", target=at_least, met=target and ratio >= target)
        )

    def _capture(self, single: tuple[float, float], bulk: tuple[float, float]) -> None:
        more = (single[1] / single[0] - 1) * 100
        what = f"capture, one committed insert: {single[0] * 1000:.2f} ms without"
        self._plain(what, f"{single[1] * 1000:.2f} ms, {more:+.0f} %", "< 15 %", more < 15)
        self._add(f"capture, 50,000 rows at once: {bulk[0]:.2f} s without", f"{bulk[1]:.2f} s", bulk[1] / bulk[0], 2.5)

    def _add(self, what: str, found: str, ratio: float, most: float | None = None) -> None:
        met = None if most is None else ratio < most
        at_most = "" if most is None else f"< {most} x"
        self._show(Line(what=what, found=found, ratio=f"{ratio:.2f} x", target=at_most, met=met))

    def _plain(self, what: str, found: str, target: str, met: bool) -> None:
        self._show(Line(what=what, found=found, ratio="", target=target, met=met))

    def _show(self, line: Line) -> None:
        self.lines.append(line)
        self._console.print(f"{time.monotonic() - self._began:4.0f} s  {' | '.join(line.cells())}", highlight=False)


async def _measured(run: Run) -> None:
    for rows in GROWTH:
        await run.growth(rows)
    await run.all(ROWS)


def main() -> None:
    """Measure and print the table; the outcome is told, not judged: the machine may be busy."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # a worker that is stopped ends its connections
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(width=160)
    console.print(described(machine()), highlight=False)
    with server() as postgres:
        run = Run(postgres, console)
        asyncio.run(_measured(run))
    table = Table("what it is compared with", "found", "ratio", "target", "")
    for line in run.lines:
        table.add_row(*line.cells())
    console.print(table)


if __name__ == "__main__":
    main()
