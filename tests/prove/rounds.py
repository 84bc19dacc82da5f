"""Rounds of a proof: a cutover, faults at some point of it, healing, and one owner again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from strangler_proxy.core.errors import StoreUnavailable, StranglerError
from strangler_proxy.core.ports import Heartbeat
from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store, open_store
from tests.integration.sync_rig import declared
from tests.prove.fault_line import Fault
from tests.prove.faulty_worker import STEPS
from tests.prove.site import E, M, Site

FLAG = "people"
READY_S = 45.0
SETTLED_S = 75.0
LINE_FAULTS = [fault for fault in Fault if fault is not Fault.NONE]
FAULTS = ("failpoint", "kill", "stop", "line", "crash", "idle", "vacuum", "none")
WEIGHTS = (6, 3, 3, 5, 2, 1, 1, 1)


class NotSettled(Exception):
    """What was to come true did not."""


@dataclass
class Account:
    """What a proof did."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@asynccontextmanager
async def proving(site: Site) -> AsyncGenerator[Store]:
    """A store past the lines, a proxy's heartbeat, the stream wanted and fit, clients writing."""
    store = await declared(open_store(site.control_url, size=4), site.world)
    site.begin()
    try:
        asked = await store.switches.request("sync_start", FLAG, {}, by="prove", reason="")
        await _until(lambda: _ended(store, asked.id), READY_S, "the stream was not prepared")
        await ready(store)
        site.write()
        async with _heartbeat(store):
            yield store
    finally:
        await store.close()


@asynccontextmanager
async def _heartbeat(store: Store) -> AsyncGenerator[None]:
    """A proxy as the control database sees one: it serves each revision soon, and outlives that database."""

    async def beat() -> None:
        while True:
            try:
                revision = await store.tables.revision()
                await store.tables.beat(Heartbeat(proxy_id="p1", revision=revision))
            except StoreUnavailable:
                pass  # it serves the table that it has
            await asyncio.sleep(0.03)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def one_round(site: Site, store: Store, chance: random.Random, account: Account, kind: str = "") -> None:
    """A cutover to the other side with one kind of fault; raises NotSettled where it does not heal."""
    kind = kind or chance.choices(FAULTS, WEIGHTS)[0]
    account.rounds += 1
    await ready(store)
    if kind.startswith("failpoint"):
        point = kind.partition("=")[2] or ":".join(
            (chance.choice(list(STEPS)), chance.choice(("before", "after")), chance.choice(("kill", "stop")))
        )
        account.faults[f"failpoint {point}"] += 1
        await _with_failpoint(site, store, chance, point)
    else:
        asked = await _ask(site, store)
        await asyncio.sleep(chance.uniform(0, 0.45))
        account.faults[await _fault(site, chance, kind)] += 1
        del asked
    await asyncio.to_thread(site.heal)
    account.ends[await settled(site, store)] += 1


async def ready(store: Store) -> None:
    """Live, verified, close behind."""

    async def is_ready() -> bool:
        found = await store.sync.status(FLAG)
        said = {} if found is None else dict(found[0])
        return bool(said.get("mode") == "live" and said.get("verified") and (said.get("lag_seconds") or 9) < 0.8)

    await _until(is_ready, READY_S, "the copy was not in step again")


async def settled(site: Site, store: Store) -> str:
    """One side open, nothing under way, the operation over; how it ended."""

    async def is_settled() -> bool:
        opened = [site.value(side, "SELECT open FROM strangler.ownership") for side in Origin]
        under_way = [
            site.value(side, "SELECT count(*) FROM strangler.cutover WHERE status IN ('holding', 'committed')")
            for side in Origin
        ]
        newest = (await store.records.operations(FLAG, 1))[0]
        flag, _ = await store.flags.flag(FLAG)
        return (
            sum(bool(each) for each in opened) == 1
            and under_way == [0, 0]
            and newest.status not in ("queued", "running")
            and flag.hold is None
            and flag.owner is (M if opened[0] else E)
        )

    await _until(is_settled, SETTLED_S, "no single owner, a record that is open, or a hold that stays")
    return (await store.records.operations(FLAG, 1))[0].status


async def _ask(site: Site, store: Store) -> int:
    owner = M if site.value(M, "SELECT open FROM strangler.ownership") else E
    asked = await store.switches.request("cutover", FLAG, {"to": owner.other.value}, by="prove", reason="")
    return asked.id


async def _fault(site: Site, chance: random.Random, kind: str) -> str:
    worker = chance.choice(site.workers)
    seconds = chance.choice((0.2, 0.8, 2.0, 4.5))
    match kind:
        case "kill":
            await asyncio.to_thread(worker.kill)
            await asyncio.sleep(chance.uniform(0, 1.0))
            return "kill -9 of a worker"
        case "stop":
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(chance.choice((0.5, 3.5, 6.0, 12.0)))
            return "SIGSTOP of a worker"
        case "line":
            name, fault = chance.choice(list(site.lines)), chance.choice(LINE_FAULTS)
            site.lines[name].put(fault)
            await asyncio.sleep(seconds)
            return f"line to {name}: {fault.value}"
        case "crash":
            side = chance.choice(list(Origin))
            await asyncio.to_thread(site.crash, side)
            return f"kill -9 of PostgreSQL ({side.value})"
        case "idle":
            await asyncio.to_thread(_idle, site, seconds)
            return "idle in transaction"
        case "vacuum":
            await asyncio.to_thread(_vacuum, site)
            return "VACUUM FULL"
        case _:
            return "none"


def _idle(site: Site, seconds: float) -> None:
    for side, table in ((M, "note"), (E, "remark")):
        if site.value(side, "SELECT open FROM strangler.ownership"):
            try:
                with psycopg.connect(site.world.urls[side]) as link:
                    link.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE".encode())
                    time.sleep(seconds)
                    link.rollback()
            except psycopg.Error:
                return


def _vacuum(site: Site) -> None:
    for side, table in ((M, "note"), (E, "remark")):
        try:
            with psycopg.connect(site.world.urls[side], autocommit=True) as link:
                link.execute(f"VACUUM (ANALYZE) {table}".encode())
        except psycopg.Error:
            continue


async def _with_failpoint(site: Site, store: Store, chance: random.Random, point: str) -> None:
    """The first worker does the cutover and meets its failpoint; the second one finds what is left."""
    first, second = site.workers
    once = Path(site.folder / "failpoint_met")
    once.unlink(missing_ok=True)
    await asyncio.to_thread(first.kill)
    second.send(signal.SIGSTOP)
    first.start(PROVE_FAILPOINT=point, PROVE_ONCE=str(once), **site.bug)
    await ready(store)
    await _ask(site, store)
    until = time.monotonic() + 6
    while not once.exists() and time.monotonic() < until:  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.02)
    second.send(signal.SIGCONT)
    if once.exists():
        # A seeded bug gets the time in which somebody else takes over; without one every length is tried.
        await asyncio.sleep(12.0 if site.bug and point.endswith("stop") else chance.choice((0.0, 0.5, 4.0, 12.0)))
    await asyncio.to_thread(site.heal)
    if first.process is not None:  # the failpoint may still be armed
        await settled(site, store)
        await asyncio.to_thread(first.kill)


async def _ended(store: Store, number: int) -> bool:
    return any(
        each.id == number and each.status not in ("queued", "running")
        for each in await store.records.operations(FLAG, 5)
    )


async def _until(condition: Any, seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if await condition():
                return
        except StranglerError:
            pass  # the control database is being crashed
        if time.monotonic() > end:
            raise NotSettled(f"{otherwise} within {seconds:g} s")
        await asyncio.sleep(0.05)
