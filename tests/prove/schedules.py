"""Schedules that leave nothing to chance: every failpoint in both directions, and what brings seeded bugs to light."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

from strangler_proxy.core.stage import Origin
from tests.prove.fault_line import Fault
from tests.prove.lane import Lane
from tests.prove.nemesis import Failpoint, every_failpoint
from tests.prove.proof import Arena, Schedule
from tests.prove.until import until

_TRIES = 6
_PAST_DEADLINE_S = 5.5


class Directed:
    """Every failpoint in both directions: in waves, one point for each lane, until each was met."""

    def __init__(self, points: Sequence[Failpoint] | None = None) -> None:
        some = every_failpoint() if points is None else list(points)
        self.todo: dict[Origin, list[Failpoint]] = {side: list(some) for side in Origin}
        self.met: list[tuple[Origin, Failpoint]] = []
        self._tries: dict[tuple[Origin, Failpoint], int] = {}

    async def __call__(self, arena: Arena) -> None:
        """Until nothing is left, or the time is over."""
        async with arena.quiet():
            while not arena.over and any(self.todo.values()):
                cutovers = await asyncio.gather(*(self._begin(arena, lane) for lane in arena.site.lanes))
                await asyncio.gather(*(self._strike(arena, *begun) for begun in cutovers))
                await asyncio.to_thread(arena.site.heal)
                arena.account.fault_ends()
                await asyncio.gather(*(cutting for _, _, _, cutting in cutovers))
                await asyncio.gather(*(lane.settled(arena.store) for lane in arena.site.lanes))
        if not arena.outcome.violations:
            await arena.judged()

    async def _begin(self, arena: Arena, lane: Lane) -> tuple[Lane, Origin, Failpoint | None, asyncio.Task[str]]:
        await lane.ready(arena.store)
        side = await asyncio.to_thread(lane.owner)
        assert side is not None
        point = self.todo[side].pop(0) if self.todo[side] else None
        rehearse = point is not None and point.step == "abort"
        return lane, side, point, asyncio.create_task(lane.cut_over(arena.store, arena.account, rehearse=rehearse))

    async def _strike(
        self, arena: Arena, lane: Lane, side: Origin, point: Failpoint | None, cutting: asyncio.Task[str]
    ) -> None:
        """A worker that is killed or stopped for another lane may keep this point from being met: tried again."""
        if point is None:
            return
        lasts = arena.chance.choice((0.0, 1.0, _PAST_DEADLINE_S))
        if await arena.nemesis.failpoint(point, lane, lasts=lasts, cutting=cutting):
            self.met.append((side, point))
            return
        tries = self._tries[side, point] = self._tries.get((side, point), 0) + 1
        if tries < _TRIES:
            self.todo[side].append(point)


def hunt(*kinds: str, each: int = 2) -> Schedule:
    """These faults in turn, judged after every few."""

    async def schedule(arena: Arena) -> None:
        turn = 0
        while not arena.over:
            for _ in range(each):
                kind = kinds[turn % len(kinds)]
                turn += 1
                if kind.startswith("failpoint="):
                    point = Failpoint.parse(kind.partition("=")[2])
                    lane = arena.site.lanes[turn % len(arena.site.lanes)]
                    await arena.nemesis.failpoint(point, lane, lasts=_PAST_DEADLINE_S)
                    await asyncio.to_thread(arena.site.heal)
                    arena.account.fault_ends()
                else:
                    await arena.nemesis.strike(kind)
            await arena.judged()

    return schedule


async def overtaken(arena: Arena) -> None:
    """An applier is stopped with rows in its hands and loses the source; the target is opened; then it goes on."""
    lane = arena.site.lanes[0]
    while not arena.over:
        async with arena.quiet():
            side = await asyncio.to_thread(lane.owner)
            assert side is not None
            await lane.ready(arena.store)
            name = await arena.nemesis.failpoint(Failpoint.parse("apply:before:stop"), lane, lasts=0.0)
            if not name:
                continue
            arena.site.put(Fault.RESET, worker=name, link=side.value)
            moved = asyncio.create_task(_until_moved(arena, lane, side))
            await asyncio.wait({moved}, timeout=20.0)
            await asyncio.sleep(0.5)
            arena.site.put(Fault.NONE)
            next(each for each in arena.site.workers if each.name == name).send(signal.SIGCONT)
            moved.cancel()
            await asyncio.sleep(0.5)
            await asyncio.to_thread(arena.site.heal)
        await arena.judged()


async def _until_moved(arena: Arena, lane: Lane, source: Origin) -> None:
    end = time.monotonic() + 20

    async def moved() -> bool:
        if await lane.is_ready(arena.store):
            await lane.cut_over(arena.store, arena.account)
        return await asyncio.to_thread(lane.owner) is source.other

    await until(moved, end - time.monotonic(), "not moved")
