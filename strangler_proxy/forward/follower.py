"""Keeps a proxy's table what the flag table says. Requests never wait for any of this.

One task does all that talks to the control database, one step after the other: report (heartbeat), load a table when
the revision is another one, swap it in, report again, so that whoever waits for an acknowledgement hears of it at once.
It wakes on NOTIFY, each second, and while a cutover holds requests as soon as the unsafe ones in flight have changed.
With the database away it keeps trying, and the table that is served stays. A table that does not compile is refused
and said so in the heartbeat. Beside it: kill files, the table on disk, and holds that nobody ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.errors import DeclarationError, StoreUnavailable
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.ports import Heartbeat, TableSource
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.kill import LOOK_S, read_kills
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.forward.table_file import TableFile

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
HELD_LOOK_S: Final = 0.02
HELD_BEAT_S: Final = 0.25
LISTEN_AGAIN_S: Final = 0.5
HOLD_GRACE_S: Final = 1.0
_EXPIRY_LOOK_S: Final = 0.25
_AFTER_CRASH_S: Final = 1.0
_CLOCK_WITHIN_S: Final = 0.5


class Follower:
    """Follows one source for one `ProxyState`. `run` until cancelled; `leave` first when the process drains."""

    def __init__(
        self,
        source: TableSource,
        state: ProxyState,
        *,
        proxy_id: str,
        state_dir: Path,
        table_file: TableFile,
        address: str = "",
    ) -> None:
        self._source = source
        self._state = state
        self._proxy_id = proxy_id
        self._address = address
        self._state_dir = state_dir
        self._table_file = table_file
        self._started_at: dt.datetime | None = None
        self._wake = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._turn = asyncio.Lock()
        self._leaving = False
        self._away = False
        self._refused_revision: int | None = None
        self._sent: tuple[int, Mapping[str, int]] = (-1, {})
        self._sent_at = 0.0
        self._confirmed_at: float | None = None
        self.refused_table = ""
        """Why the newest table is not served; empty if it is."""
        self.refusals = 0
        state.on_learned = self._learned
        if state.table.revision:
            self._unsaved.set()

    @property
    def age_s(self) -> float | None:
        """Seconds since the database last said which revision is current; None if it never did."""
        return None if self._confirmed_at is None else time.monotonic() - self._confirmed_at

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self._follow, self._listen, self._watch_kills, self._end_holds, self._save):
                tasks.create_task(_kept_up(work), name=work.__name__)

    async def leave(self) -> None:
        """Take this proxy out of the table of proxies: it drains. Tables are still followed, without heartbeats."""
        self._leaving = True
        try:
            async with self._turn:  # a heartbeat on its way would put the proxy in again
                await self._source.leave(self._proxy_id)
        except StoreUnavailable as error:
            log.warning("proxy.leave_failed", error=error.message)

    async def step(self) -> None:
        """One report, and the newest table if there is one. Raises StoreUnavailable."""
        async with self._turn:
            revision = await self._report()
            if revision not in (self._state.table.revision, self._refused_revision):
                await self._load(revision)
                await self._report()

    async def _follow(self) -> None:
        while True:
            try:
                await self.step()
            except StoreUnavailable as error:
                self._lost(error)
            await self._until_due()

    async def _until_due(self) -> None:
        """A second, less if a change is announced, or if a held flag's requests in flight have changed."""
        due = time.monotonic() + POLL_S
        while (left := due - time.monotonic()) > 0:
            held = bool(self._state.unsafe_in_flight())
            try:
                await asyncio.wait_for(self._wake.wait(), min(left, HELD_LOOK_S) if held else left)
                break
            except TimeoutError:
                if held and self._has_news():
                    break
        self._wake.clear()

    def _has_news(self) -> bool:
        known = (self._state.table.revision, self._state.unsafe_in_flight())
        return known != self._sent or time.monotonic() - self._sent_at > HELD_BEAT_S

    async def _report(self) -> int:
        """Send a heartbeat; the current revision."""
        state = self._state
        if self._leaving:
            revision = await self._source.revision()
        else:
            in_flight = state.unsafe_in_flight()
            begun = time.monotonic()
            pulse = await self._source.beat(
                Heartbeat(
                    proxy_id=self._proxy_id,
                    revision=state.table.revision,
                    unsafe_in_flight=in_flight,
                    holding=state.holding(),
                    refused_table=self.refused_table,
                    upstreams=state.sick_upstreams(),
                    address=self._address,
                    started_at=self._started_at,
                )
            )
            self._sent, self._sent_at = (state.table.revision, in_flight), time.monotonic()
            self._note_clock(pulse.clock, self._sent_at - begun)
            state.note_replicated(pulse.replicated_through)
            revision = pulse.revision
        self._confirmed_at = time.monotonic()
        if self._away:
            self._away = False
            log.info("table.source_returned", revision=revision)
        return revision

    def _note_clock(self, clock: dt.datetime, took_s: float) -> None:
        """Rather late than early: a write that is marked too early would be looked for in a copy without it."""
        if self._started_at is None or took_s < _CLOCK_WITHIN_S:
            self._state.note_clock(clock + dt.timedelta(seconds=took_s))
        self._started_at = self._started_at or clock

    async def _load(self, revision: int) -> None:
        try:
            table = await self._source.load()
            if not table.default_cluster.endpoints:
                raise DeclarationError(["nothing is declared in the control database"])
        except DeclarationError as error:
            self._refuse(revision, error)
            return
        before = self._state.table.revision
        self._state.swap(without_ended_holds(table, self._now()))
        self.refused_table, self._refused_revision = "", None
        self._unsaved.set()
        log.info("table.swapped", revision=table.revision, before=before)

    def _refuse(self, revision: int, error: DeclarationError) -> None:
        self._refused_revision = revision
        self.refused_table = f"revision {revision}: {error.message}"
        self.refusals += 1
        log.error("table.refused", revision=revision, serving=self._state.table.revision, problems=error.problems)

    def _lost(self, error: StoreUnavailable) -> None:
        if not self._away:
            self._away = True
            log.warning("table.source_lost", error=error.message, serving=self._state.table.revision)

    async def _listen(self) -> None:
        while True:
            changes = self._source.changes()
            try:
                async for _ in changes:
                    self._wake.set()
            except StoreUnavailable:
                pass  # `_follow` meets the same outage and reports it
            finally:
                await changes.aclose()
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def _watch_kills(self) -> None:
        while True:
            self.look_for_kills()
            await asyncio.sleep(LOOK_S)

    def look_for_kills(self) -> None:
        """Take over what the kill files say; what was known stays where they cannot be read."""
        try:
            kills = read_kills(self._state_dir)
        except OSError as error:
            log.error("kill.unreadable", error=str(error))
            return
        if kills != self._state.killed:
            log.warning("kill.changed", on=sorted(kills), before=sorted(self._state.killed))
            self._state.set_killed(kills)

    async def _end_holds(self) -> None:
        """With the database away nobody ends a hold: past its deadline the fence decides, not the proxy."""
        while True:
            await asyncio.sleep(_EXPIRY_LOOK_S)
            table = without_ended_holds(self._state.table, self._now())
            if table is not self._state.table:
                self._state.swap(table)
                log.warning("hold.expired", revision=table.revision)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._state.now(), dt.UTC)

    def _learned(self, flag: str, ownership: Ownership) -> None:
        log.warning("ownership.learned", flag=flag, owner=ownership.owner.value, epoch=ownership.epoch)
        self._unsaved.set()

    async def _save(self) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            table = self._state.table
            try:
                await asyncio.to_thread(self._table_file.save, table)
            except OSError as error:
                log.error("table.save_failed", error=str(error), path=str(self._table_file.path))


def without_ended_holds(table: RoutingTable, now: dt.datetime) -> RoutingTable:
    """The table without holds whose deadline is over for a second; itself where there are none.

    The deadline is by the source database's clock, `now` by the control database's: the grace covers their difference.
    """
    ended = {key: dataclasses.replace(flag, hold=None) for key, flag in table.flags.items() if _ended(flag, now)}
    if not ended:
        return table
    return RoutingTable.compile(
        revision=table.revision,
        flags={**table.flags, **ended}.values(),
        routes=table.routes,
        clusters=table.clusters.values(),
        default_cluster=table.default_cluster.name,
    )


def _ended(flag: Flag, now: dt.datetime) -> bool:
    return flag.hold is not None and now > flag.hold.deadline_at + dt.timedelta(seconds=HOLD_GRACE_S)


async def _kept_up(work: Callable[[], Awaitable[None]]) -> None:
    """Run a part for ever. A fault in one must neither stop the others nor the traffic: it is logged, and goes on."""
    while True:
        try:
            await work()
        except Exception:  # the data plane outlives every fault of what feeds it
            log.exception("follower.failed", part=getattr(work, "__name__", ""))
            await asyncio.sleep(_AFTER_CRASH_S)
