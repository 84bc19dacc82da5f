"""Faults, one after the other or two at once, while flags are cut over; and failpoints at a step of one cutover."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store
from tests.prove.account import Account
from tests.prove.fault_line import Fault
from tests.prove.faulty_worker import STEPS, STRIKES, TIMES
from tests.prove.lane import Lane
from tests.prove.site import LINKS, Site

LINE_FAULTS = [fault for fault in Fault if fault is not Fault.NONE]
FAULTS = {
    "failpoint": 8,
    "kill": 3,
    "stop": 3,
    "line": 5,
    "partition": 3,
    "crash": 2,
    "idle": 1,
    "vacuum": 1,
    "deaf": 1,
}
"""Kinds by weight; `deaf` is a proxy that does not acknowledge holds."""

TABLES = {Origin.MONOLITH: "note", Origin.EXTRACTED: "remark"}
_MET_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Failpoint:
    """Before or after a step, kill, stop or cut off whoever does it."""

    step: str
    when: str
    fault: str

    @classmethod
    def parse(cls, text: str) -> Failpoint:
        """`STEP:WHEN:FAULT`."""
        step, when, fault = text.split(":")
        return cls(step=step, when=when, fault=fault)

    def __str__(self) -> str:
        return f"{self.step}:{self.when}:{self.fault}"


def every_failpoint() -> list[Failpoint]:
    """Step x time x fault."""
    return [Failpoint(step=step, when=when, fault=fault) for step in STEPS for when in TIMES for fault in STRIKES]


class Nemesis:
    """Does faults to a site and heals them."""

    def __init__(self, site: Site, store: Store, account: Account, chance: random.Random) -> None:
        self._site, self._store, self._account, self._chance = site, store, account, chance
        self._factor = 1.0 if site.plan.short else 2.0
        self.more: dict[str, tuple[int, Callable[[], object]]] = {}

    async def strike(self, kind: str = "") -> None:
        """One fault, or two at once, its time, and healing."""
        kinds = FAULTS | {name: weight for name, (weight, _) in self.more.items()}
        both = self._chance.random() < 0.2
        some = [kind] if kind else self._chance.choices(list(kinds), list(kinds.values()), k=1 + both)
        await asyncio.gather(*(self._one(each) for each in dict.fromkeys(some)))
        await asyncio.to_thread(self._site.heal)
        self._account.fault_ends()

    async def _one(self, kind: str) -> None:
        name, _, rest = kind.partition("=")
        if name == "failpoint":
            points = every_failpoint()
            point = Failpoint.parse(rest) if rest else self._chance.choice(points)
            await self.failpoint(point, self._chance.choice(self._site.lanes), armed_s=3.0)
        elif name == "none":
            await asyncio.sleep(2.0)
        elif name in self.more:
            self._account.fault_begins(name)
            await asyncio.to_thread(self.more[name][1])
            await self._last(0.3, 1.0, 2.0)
        else:
            await getattr(self, f"_{name}")()

    async def failpoint(
        self,
        point: Failpoint,
        lane: Lane,
        *,
        armed_s: float = _MET_S,
        lasts: float = -1.0,
        cutting: asyncio.Task[str] | None = None,
    ) -> str:
        """Armed for this lane until it is met; the worker that met it, or nothing. Cut off or stopped for `lasts`.

        Nobody waits for it longer than the cutover that is to meet it takes.
        """
        folder = self._site.folder
        armed, met = folder / f"{lane.flag}.armed", folder / f"{lane.flag}.met"
        met.unlink(missing_ok=True)
        new = folder / f"{lane.flag}.new"
        new.write_text(json.dumps({"step": point.step, "when": point.when, "fault": point.fault}))
        new.rename(armed)
        until = time.monotonic() + armed_s
        while not met.exists():
            if time.monotonic() > until or (cutting is not None and cutting.done()):
                armed.unlink(missing_ok=True)
                return ""
            await asyncio.sleep(0.002)
        worker = str(json.loads(met.read_text())["worker"])
        if point.fault == "partition":
            self._site.put(Fault.BLACKHOLE, worker=worker)
        met.unlink(missing_ok=True)
        self._account.fault_begins(f"failpoint {point}")
        self._account.met.append(str(point))
        if lasts >= 0:
            await asyncio.sleep(lasts)
        else:
            await self._last(0.0, 0.4, 1.5, 4.0)
        return worker

    async def _last(self, *seconds: float) -> None:
        await asyncio.sleep(self._factor * self._chance.choice(seconds))

    async def _kill(self) -> None:
        worker = self._chance.choice(self._site.workers)
        self._account.fault_begins("kill -9 of a worker")
        await asyncio.to_thread(worker.kill)
        await self._last(0.0, 0.4, 1.5)

    async def _stop(self) -> None:
        self._account.fault_begins("SIGSTOP of a worker")
        self._chance.choice(self._site.workers).send(signal.SIGSTOP)
        await self._last(0.3, 1.2, 2.5, 5.0)  # past the stream's lease, the operation's, the deadline

    async def _line(self) -> None:
        fault = self._chance.choice(LINE_FAULTS)
        worker, link = self._chance.choice(("", "w1", "w2")), self._chance.choice(LINKS)
        self._account.fault_begins(f"line to {link}: {fault.value}")
        self._site.put(fault, worker=worker, link=link)
        await self._last(0.2, 0.6, 1.5, 3.5)

    async def _partition(self) -> None:
        """One worker is cut off from everything, and comes back."""
        self._account.fault_begins("partition of a worker")
        self._site.put(Fault.BLACKHOLE, worker=self._chance.choice(("w1", "w2")))
        await self._last(0.6, 1.5, 3.5, 5.0)

    async def _crash(self) -> None:
        side = self._chance.choice(list(Origin))
        self._account.fault_begins(f"kill -9 of PostgreSQL ({side.value})")
        await asyncio.to_thread(self._site.crash, side)

    async def _deaf(self) -> None:
        self._account.fault_begins("a proxy that acknowledges nothing")
        self._site.heartbeat_paused = True
        await self._last(1.0, 2.0)

    async def _idle(self) -> None:
        self._account.fault_begins("idle in transaction")
        seconds = self._factor * self._chance.choice((0.3, 1.0, 3.5))
        await asyncio.gather(*(asyncio.to_thread(self._hold, lane, seconds) for lane in self._site.lanes))

    def _hold(self, lane: Lane, seconds: float) -> None:
        side = lane.owner()
        if side is None:
            return
        try:
            with psycopg.connect(lane.world.urls[side]) as link:
                link.execute(f"LOCK TABLE {TABLES[side]} IN ROW EXCLUSIVE MODE".encode())
                time.sleep(seconds)
                link.rollback()
        except psycopg.Error:
            return

    async def _vacuum(self) -> None:
        self._account.fault_begins("vacuum")
        await asyncio.to_thread(self._vacuum_all)

    def _vacuum_all(self) -> None:
        for lane in self._site.lanes:
            for side, table in TABLES.items():
                try:
                    with psycopg.connect(lane.world.urls[side], autocommit=True) as link:
                        link.execute(f"VACUUM (ANALYZE) {table}".encode())
                except psycopg.Error:
                    continue
