"""What `make bench-sync` measures: each figure beside what it is a ratio to, from the same minutes."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import psycopg

from strangler_proxy.core.stage import Origin
from strangler_proxy.local.postgres import binaries
from strangler_proxy.store import Store
from strangler_proxy.sync.ends import both_ends
from strangler_proxy.sync.rows import rows_of
from tests.benchmarks.sync_world import HERE, NAMES, OTHERS, THERE, create
from tests.benchmarks.sync_writer import writing
from tests.integration.sync_rig import ask, cut_over, ready
from tests.integration.sync_world import World

M, E = Origin.MONOLITH, Origin.EXTRACTED
MIB = 1 << 20


@dataclass(slots=True)
class Peak:
    """Resident memory of this process, which runs the worker: before, and the most meanwhile, in MiB."""

    before: float = 0.0
    most: float = 0.0


@contextmanager
def memory() -> Iterator[Peak]:
    """Look at the memory 50 times a second."""
    process, stop = psutil.Process(), threading.Event()
    peak = Peak(before=process.memory_info().rss / MIB)

    def look() -> None:
        while not stop.wait(0.02):
            peak.most = max(peak.most, process.memory_info().rss / MIB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def copy_s(world: World) -> float:
    """Seconds of `COPY ... TO STDOUT | COPY ... FROM STDIN`, psql to psql, into an empty table like the target."""
    plain = "plain_charge"
    world.app(E).execute(create(plain, OTHERS).encode())
    psql = str(binaries() / "psql")
    out = [psql, "-qX", world.app_url(M), "-c", f"COPY {HERE} ({', '.join(NAMES)}) TO STDOUT"]
    into = [psql, "-qX", world.app_url(E), "-c", f"COPY {plain} ({', '.join(OTHERS)}) FROM STDIN"]
    began = time.monotonic()
    with subprocess.Popen(out, stdout=subprocess.PIPE) as sender:
        subprocess.run(into, stdin=sender.stdout, check=True, timeout=600)
    seconds = time.monotonic() - began
    world.app(E).execute(f"DROP TABLE {plain}".encode())
    return seconds


async def snapshot_s(store: Store, world: World, seconds: float = 900.0) -> float:
    """Seconds of the first copy, from its first look at the source until its last row is committed."""
    asked = asyncio.create_task(ask(store, "sync_start", world.manifest.flag))
    there = await psycopg.AsyncConnection.connect(world.urls[E], autocommit=True)
    try:
        began, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                rows = await (await there.execute("SELECT done FROM strangler.progress")).fetchall()
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                rows = []
            if rows and not began:
                began = time.monotonic()
            if rows and all(row[0] for row in rows):
                done = await asked
                assert done.status == "done", done.detail
                return time.monotonic() - began
            await asyncio.sleep(0.01)
        raise TimeoutError(f"no snapshot within {seconds} s")
    finally:
        await there.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Seconds of both checksum queries one after the other, of both at once, and of the stream's exact pass."""

    one_by_one: float
    at_once: float
    passed: float


async def verified(store: Store, world: World) -> Verified:
    """Compare whole tables by the two queries alone, then have the stream verify."""
    await ready(store, world.manifest.flag, seconds=300)
    async with both_ends(world.manifest, world.sync_urls(), "bench") as ends:
        moved = ends.layout.tables[0]
        sides = [(rows_of(moved, origin), ends.links[origin]) for origin in Origin]
        for link in ends.all:
            await link.execute("SET statement_timeout = '15min'")  # whole tables, which the stream never reads at once
        began = time.monotonic()
        sums = [await rows.checksum(link, None, None) for rows, link in sides]
        middle = time.monotonic()
        await asyncio.gather(*(rows.checksum(link, None, None) for rows, link in sides))
        end = time.monotonic()
    assert sums[0] == sums[1]
    asked = time.monotonic()
    done = await ask(store, "sync_verify", world.manifest.flag, seconds=300)
    assert done.status == "done", done.detail
    return Verified(one_by_one=middle - began, at_once=end - middle, passed=time.monotonic() - asked)


@dataclass(slots=True)
class Lag:
    """Milliseconds from the commit of a row at the source until the target shows it, under so many writes a second."""

    samples: list[float] = field(default_factory=list)
    writes_per_s: float = 0.0


async def lag(store: Store, world: World, rate: int, seconds: float) -> Lag:
    """Live lag of probes among the writes of another process."""
    await ready(store, world.manifest.flag, seconds=60)
    found = Lag()
    with writing(world, rate) as written:
        await asyncio.sleep(2.0)
        await asyncio.to_thread(_probe, world, seconds, found.samples)
    found.writes_per_s = written.per_second
    return found


def _probe(world: World, seconds: float, samples: list[float]) -> None:
    query = (
        f"INSERT INTO {HERE} ({', '.join(NAMES[1:])}) VALUES (2, 'probe', 1, 'EUR', '{{}}', now()) RETURNING id"
    ).encode()
    look = f"SELECT 1 FROM {THERE} WHERE {OTHERS[0]} = %s".encode()
    with (
        psycopg.connect(world.app_url(M), autocommit=True) as here,
        psycopg.connect(world.app_url(E), autocommit=True) as there,
    ):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            row = here.execute(query).fetchone()
            began = time.monotonic()
            while there.execute(look, row).fetchone() is None:
                if time.monotonic() > began + 20:
                    raise TimeoutError("a probe did not arrive within 20 s")
                time.sleep(0.003)
            samples.append((time.monotonic() - began) * 1000)
            time.sleep(0.03)


@dataclass(slots=True)
class Held:
    """Milliseconds of the holds, and cutovers that did not come to their end, by what they said."""

    ms: list[int] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    writes_per_s: float = 0.0


async def holds(store: Store, world: World, rate: int, number: int, seconds: float) -> Held:
    """So many cutovers there and back under writes, ending at home; one that is refused or aborts is tried again.

    After so many seconds, or with as many failures, it is left at those that were done.
    """
    held, to, end = Held(), E, time.monotonic() + seconds
    with writing(world, rate) as written:
        while (len(held.ms) < number or to is M) and held.others.total() < number:
            if time.monotonic() > end and to is E:
                break
            done = await cut_over(store, world, to, seconds=60)
            if done.status != "done":
                said = re.sub(r"[0-9][0-9.]*", "N", done.detail.partition("\n")[0])
                held.others[f"{done.status}: {said[:100]}"] += 1
                continue
            release = next(step for step in done.steps if step["name"] == "release")
            found = re.match(r"held_ms=(\d+)", release["detail"])
            held.ms += [int(found[1])] if found else []
            to = to.other
    held.writes_per_s = written.per_second
    return held


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which so large a share lies."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]
