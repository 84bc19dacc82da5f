"""One proof: a site, cutovers of all its flags at once, faults in periods with healing between, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from strangler_proxy.store import Store
from tests.prove.account import Account
from tests.prove.cast import Cast
from tests.prove.checker import Verdict, check
from tests.prove.lane import Lane
from tests.prove.nemesis import Nemesis
from tests.prove.shortened import shortened
from tests.prove.site import Plan, Site, proving
from tests.prove.until import NotSettled

PERIOD_S = 25.0
EQUAL_WITHIN_S = 30.0
"""After the last fault was healed; a seeded bug gets a fifth of it."""


@dataclass
class Outcome:
    """What was done, what was found."""

    plan: Plan
    account: Account = field(default_factory=Account)
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0
    kept: str = ""
    history: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """Everything that may not be."""
        return [*self.account.problems, *map(str, self.verdict.violations)]


@dataclass(kw_only=True)
class Arena:
    """What a schedule works with."""

    site: Site
    store: Store
    account: Account
    nemesis: Nemesis
    chance: random.Random
    until: float
    outcome: Outcome
    cast: Cast | None = None

    @property
    def over(self) -> bool:
        """Time is up, or something was found."""
        return time.monotonic() >= self.until or bool(self.outcome.violations)

    @asynccontextmanager
    async def quiet(self, *lanes: Lane) -> AsyncGenerator[None]:
        """These lanes (all: none named) ask for no cutover, and the one under way is over. Raises NotSettled."""
        some = lanes or tuple(self.site.lanes)
        for lane in some:
            lane.paused = True
        try:
            async with asyncio.timeout(self.site.plan.patience_s):
                await asyncio.gather(*(lane.idle.wait() for lane in some))
        except TimeoutError:
            late = ", ".join(lane.flag for lane in some if not lane.idle.is_set())
            raise NotSettled(f"operations of {late} are not over in time after healing") from None
        try:
            yield
        finally:
            for lane in some:
                lane.idle.clear()
                lane.paused = False

    async def judged(self) -> None:
        """Everything at rest, then the verdict of all lanes; and on."""
        async with self.quiet():
            late = await asyncio.to_thread(self.site.rest)
            self.account.problems += [f"client {name} never got an answer" for name in late]
            await asyncio.gather(*(lane.settled(self.store) for lane in self.site.lanes))
            if not self.account.problems:
                await self._judge()
            if not self.over:
                self.site.write()

    async def _judge(self) -> None:
        until = time.monotonic() + EQUAL_WITHIN_S / (5 if self.site.plan.bug else 1)
        while True:
            whole = await asyncio.to_thread(self._verdict)
            if not whole.violations or time.monotonic() > until:
                self.outcome.verdict = whole
                return
            await asyncio.sleep(1.0)

    def _verdict(self) -> Verdict:
        whole = Verdict()
        charges = None if self.cast is None else self.cast.charges()
        for lane in self.site.lanes:
            urls = {side.value: url for side, url in lane.world.urls.items()}
            mine = None if charges is None else charges.get(lane.flag, {})
            effects = self.cast.effects() if self.cast is not None and lane.number == 0 else None
            whole.add(check(lane.history, urls, mine, effects), lane.flag)
        return whole


Schedule = Callable[[Arena], Awaitable[None]]


async def at_random(arena: Arena) -> None:
    """Faults of all kinds in periods; after each one everything has to settle, the clients writing on."""
    while not arena.over:
        period = time.monotonic() + PERIOD_S
        while time.monotonic() < min(period, arena.until):
            await arena.nemesis.strike()
            await asyncio.sleep(arena.chance.choice((0.0, 0.1, 0.3, 0.6)))
        async with arena.quiet():
            await asyncio.gather(*(lane.settled(arena.store) for lane in arena.site.lanes))
    if not arena.outcome.violations:
        await arena.judged()


async def prove(plan: Plan, seconds: float, schedule: Schedule = at_random) -> Outcome:
    """One proof on a site of its own; ends at the first problem, or when its schedule is over."""
    outcome, began = Outcome(plan=plan), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="strangler-prove-"))
    site = await asyncio.to_thread(Site, folder, plan)
    cast = await asyncio.to_thread(_cast, site) if plan.cast else None
    try:
        try:
            async with proving(site) as store:
                chance = random.Random(plan.seed)
                arena = Arena(
                    site=site,
                    store=store,
                    account=outcome.account,
                    nemesis=Nemesis(site, store, outcome.account, chance),
                    chance=chance,
                    until=time.monotonic() + seconds,
                    outcome=outcome,
                    cast=cast,
                )
                if cast is not None:
                    arena.nemesis.more = cast.faults()
                await _run(arena, schedule)
        except NotSettled as error:
            outcome.account.problems.append(str(error))
    finally:
        if cast is not None:
            await asyncio.to_thread(cast.close)
        await asyncio.to_thread(site.close)
    outcome.seconds = time.monotonic() - began
    if outcome.violations and not plan.bug:
        outcome.kept = str(_keep(folder, plan.seed))
        outcome.history = shortened([lane.history for lane in site.lanes], outcome.verdict.violations)
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _cast(site: Site) -> Cast:
    cast = Cast(site)
    cast.begin()
    site.also_heal = cast.heal
    site.clients_also = {"proxies": cast.proxy_urls}
    return cast


async def _run(arena: Arena, schedule: Schedule) -> None:
    """The schedule, while the lanes go to and fro; what ends a lane ends the proof."""
    site = arena.site
    site.write()
    lanes = [
        asyncio.create_task(lane.cut_over_for_ever(arena.store, arena.account, site.plan.seed)) for lane in site.lanes
    ]
    work = asyncio.ensure_future(schedule(arena))
    try:
        await asyncio.wait({work, *lanes}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, *lanes):
            if task.done():
                task.result()
    finally:
        for task in (work, *lanes):
            task.cancel()
        for task in (work, *lanes):
            with contextlib.suppress(asyncio.CancelledError, NotSettled):
                await task


def _keep(folder: Path, seed: int) -> Path:
    """Histories and logs of a proof that failed."""
    kept = Path(tempfile.gettempdir()) / f"strangler-prove-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for file in (*folder.glob("*.jsonl"), *folder.glob("*.log")):
        shutil.copy(file, kept)
    return kept
