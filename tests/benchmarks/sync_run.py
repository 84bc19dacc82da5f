"""`make bench-sync`: what keeping rows in step costs, as ratios from one run.

ROWS=1000000 CUTOVERS=100 GROWTH=yes python -m tests.benchmarks.sync_run [--json FILE] [--page FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from strangler_proxy.store import Store
from tests.benchmarks import sync_page
from tests.benchmarks.machine import machine
from tests.benchmarks.sync_capture import BULK_ROWS, Cost, capture, disk
from tests.benchmarks.sync_measure import Peak, copy_s, holds, lag, memory, percentile, snapshot_s, verified
from tests.benchmarks.sync_world import server, world
from tests.integration.sync_rig import ask, rig
from tests.integration.sync_world import World
from tests.servers import EmbeddedPostgres

ROWS = int(os.environ.get("ROWS") or 1_000_000)
SIZES = (10_000, 100_000, 10_000_000) if os.environ.get("GROWTH") == "yes" else (10_000,)
CUTOVERS = int(os.environ.get("CUTOVERS") or 100)
RATE = 500
LAG_S = 15.0
HOLDS_S = 120.0
"""The cutovers end after so many seconds, however many were done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure beside what it is compared with; `met` is None where nothing was promised."""

    what: str
    against: str
    found: str
    ratio: str
    target: str
    met: bool | None

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        word = {True: "met", False: "NOT met", None: ""}[self.met]
        return self.what, self.against, self.found, self.ratio, self.target, word


class Run:
    """The measurements, in an order in which none disturbs the next."""

    def __init__(self, postgres: EmbeddedPostgres, console: Console) -> None:
        self.lines: list[Line] = []
        self._postgres = postgres
        self._console = console
        self._began = time.monotonic()

    async def growth(self, rows: int) -> None:
        """First copy and verification at another size."""
        with world(self._postgres, rows) as here:
            async with rig(here) as store:
                await self._copied(store, here, rows, None)
                await self._verified(store, here, rows, None)

    async def all(self, rows: int) -> None:
        """Everything, on one table of that size."""
        with world(self._postgres, rows) as here:
            async with rig(here) as store:
                await self._copied(store, here, rows, 0.4)
                await self._verified(store, here, rows, 1.5)
                await self._lag(store, here)
                await self._held(store, here)
                await ask(store, "sync_stop", here.manifest.flag)
                await asyncio.sleep(1.5)
            cost = await asyncio.to_thread(capture, here, 800, 5)
        self._capture("capture, one row inserted", cost.insert, 0.15)
        self._capture("capture, one row updated", cost.update, None)
        bulk = cost.bulk
        ratio = bulk.wall[1] / bulk.wall[0]
        self._show(
            f"capture, {BULK_ROWS:,} rows in one insert",
            f"{bulk.wall[0]:.2f} s without",
            f"{bulk.wall[1]:.2f} s; CPU {bulk.cpu[1] / bulk.cpu[0]:.2f} x",
            f"{ratio:.2f} x",
            "below 2.5 x",
            ratio < 2.5,
        )

    async def _copied(self, store: Store, here: World, rows: int, target: float | None) -> None:
        plain = [await asyncio.to_thread(copy_s, here)]
        with memory() as peak:
            seconds = await snapshot_s(store, here)
        plain.append(await asyncio.to_thread(copy_s, here))
        compared = sum(plain) / 2
        self._show(
            f"first copy, {rows:,} rows",
            f"`COPY TO` piped into `COPY FROM`: {rows / compared:,.0f} rows/s",
            f"{rows / seconds:,.0f} rows/s, {_grew(peak)}",
            f"{compared / seconds:.2f} x",
            "" if target is None else f"at least {target} x",
            None if target is None else compared / seconds >= target,
        )

    async def _verified(self, store: Store, here: World, rows: int, target: float | None) -> None:
        with memory() as peak:
            checked = await verified(store, here)
        ratio = checked.passed / checked.one_by_one
        self._show(
            f"exact verification, {rows:,} rows",
            f"the two checksum queries alone: {checked.one_by_one:.2f} s, both at once {checked.at_once:.2f} s",
            f"{checked.passed:.2f} s, {_grew(peak)}",
            f"{ratio:.2f} x, {checked.passed / checked.at_once:.2f} x",
            "" if target is None else f"below {target} x of the first",
            None if target is None else ratio <= target,
        )

    async def _lag(self, store: Store, here: World) -> None:
        found = await lag(store, here, RATE, LAG_S)
        p50, p99 = percentile(found.samples, 0.5), percentile(found.samples, 0.99)
        what = f"live lag at {found.writes_per_s:.0f} writes/s, {len(found.samples)} probes"
        self._show(what, "", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms", "", "p99 below 250 ms", p99 < 250)

    async def _held(self, store: Store, here: World) -> None:
        found = await holds(store, here, RATE, CUTOVERS, HOLDS_S)
        p50, p99 = percentile(found.ms, 0.5), percentile(found.ms, 0.99)
        others = ", ".join(f"{number} x {said!r}" for said, number in found.others.most_common(5)) or "none"
        self._show(
            f"hold of a cutover (no proxies) at {found.writes_per_s:.0f} writes/s, {len(found.ms)} times, both ways",
            f"tried again because refused or aborted: {others}",
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {max(found.ms)} ms",
            "",
            "p50 below 300 ms, p99 below 1 s",
            p50 < 300 and p99 < 1000,
        )

    def _capture(self, what: str, cost: Cost, target: float | None) -> None:
        self._show(
            f"{what}, committed, fsync",
            f"{cost.wall[0] * 1e6:.0f} us without; CPU of the server's process {cost.cpu[0] * 1e6:.0f} us",
            f"{cost.wall[1] * 1e6:.0f} us; CPU {cost.cpu[1] * 1e6:.0f} us, {cost.more_cpu:+.0%}",
            f"{cost.more_wall:+.1%}",
            "" if target is None else f"below {target:.0%}",
            None if target is None else cost.more_wall < target,
        )

    def _show(self, what: str, against: str, found: str, ratio: str, target: str, met: bool | None) -> None:
        line = Line(what=what, against=against, found=found, ratio=ratio, target=target, met=met)
        self.lines.append(line)
        text = " | ".join(filter(None, line.cells()))
        self._console.print(f"{time.monotonic() - self._began:4.0f} s  {text}", highlight=False, soft_wrap=True)


def _grew(peak: Peak) -> str:
    return f"worker {peak.before:.0f} -> {peak.most:.0f} MiB"


async def _measured(run: Run) -> None:
    for rows in SIZES:
        await run.growth(rows)
    await run.all(ROWS)


def _shown(console: Console, lines: list[Line]) -> None:
    table = Table("what", "compared with", "found", "ratio", "target", "")
    for line in lines:
        table.add_row(*line.cells())
    console.print(table)


def main() -> None:
    """Measure, print the table, keep the JSON; the outcome is told, not judged: the machine may be busy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/sync.json"))
    parser.add_argument("--page", type=Path, help="write the table between the marks of this page, too")
    options = parser.parse_args()
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # a worker that is stopped ends its connections
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(width=200)
    where = machine()
    with server() as postgres:
        kind, fsync_s = disk(postgres.data)
        console.print(f"load before {where['load_before']}; {kind}, fdatasync {fsync_s * 1000:.2f} ms", highlight=False)
        run = Run(postgres, console)
        asyncio.run(_measured(run))
    _shown(console, run.lines)
    document = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": where,
        "disk": {"file_system": kind, "fdatasync_ms": round(fsync_s * 1000, 3)},
        "lines": [asdict(line) for line in run.lines],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.page:
        sync_page.put_bench(options.page, document)


if __name__ == "__main__":
    main()
