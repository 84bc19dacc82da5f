"""What capture adds to the application's writes: wall time as it waits, and CPU of the server's process for it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from strangler_proxy.core.stage import Origin
from tests.benchmarks.sync_world import HERE, NAMES, create, fill
from tests.integration.sync_world import World

PLAIN = "plain_payment"
BULK_ROWS = 50_000
_SYNCS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Medians without and with capture, in seconds."""

    wall: tuple[float, float]
    cpu: tuple[float, float]

    @property
    def more_wall(self) -> float:
        """By how much the wall time grows, as a share."""
        return self.wall[1] / self.wall[0] - 1

    @property
    def more_cpu(self) -> float:
        """By how much the CPU of the server's process grows, as a share."""
        return self.cpu[1] / self.cpu[0] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One row inserted, one row updated, 50,000 rows inserted: each its own committed, fsynced statement."""

    insert: Cost
    update: Cost
    bulk: Cost


def capture(world: World, singles: int, bulks: int) -> Capture:
    """The same statements on the captured table and on one like it, in turns."""
    app = world.app(Origin.MONOLITH)
    app.execute(create(PLAIN, NAMES).encode())
    app.execute(fill(PLAIN, NAMES, 10_000).encode())
    given = f"({', '.join(NAMES[1:])}) VALUES (1, 'new', 1, 'EUR', '{{}}', now())"
    more = f"SET {NAMES[3]} = {NAMES[3]} + 1 WHERE id ="
    insert = _compared(app, lambda table, _: f"INSERT INTO {table} {given}", singles)
    update = _compared(app, lambda table, turn: f"UPDATE {table} {more} {1 + turn % 9000}", singles)
    bulk = _compared(app, lambda table, _: fill(table, NAMES, BULK_ROWS), bulks)
    app.execute(f"DROP TABLE {PLAIN}".encode())
    return Capture(insert=insert, update=update, bulk=bulk)


def disk(folder: Path) -> tuple[str, float]:
    """File system of a folder, and the median seconds until 8 KiB more of a file are said to be on it."""
    times: list[float] = []
    path = folder / "fsync"
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(bytes(8192))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return _file_system(folder), statistics.median(times)


def _compared(app: psycopg.Connection[object], query: Callable[[str, int], str], turns: int) -> Cost:
    wall: dict[str, list[float]] = {PLAIN: [], HERE: []}
    cpu: dict[str, list[float]] = {PLAIN: [], HERE: []}
    for turn in range(turns):
        for table in wall if turn % 2 else reversed(wall):
            statement = query(table, turn).encode()
            spent, began = _cpu_s(app.info.backend_pid), time.perf_counter()
            app.execute(statement)
            wall[table].append(time.perf_counter() - began)
            cpu[table].append(_cpu_s(app.info.backend_pid) - spent)
    return Cost(
        wall=(statistics.median(wall[PLAIN]), statistics.median(wall[HERE])),
        cpu=(statistics.median(cpu[PLAIN]), statistics.median(cpu[HERE])),
    )


def _cpu_s(pid: int) -> float:
    """Seconds that a process was on a processor, from Linux's scheduler."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    fitting = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(fitting)[1] if fitting else "?"
