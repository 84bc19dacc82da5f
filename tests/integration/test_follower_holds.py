"""Holds as a proxy sees them: reported while they last, and ended at their deadline if nobody else does."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.ports import Heartbeat, Pulse, TableSource
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.follower import Follower, without_ended_holds
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.forward.table_file import TableFile
from strangler_proxy.store import Store
from strangler_proxy.store.memory import memory_store
from tests.ports.store_samples import MONOLITH, applied


@asynccontextmanager
async def following(store: Store, state_dir: Path) -> AsyncIterator[ProxyState]:
    own_writes = OwnWrites(None)
    state = ProxyState(RoutingTable.empty(MONOLITH), options=Options(), signer=None, own_writes=own_writes)
    follower = Follower(store.tables, state, proxy_id="p1", state_dir=state_dir, table_file=TableFile(state_dir, None))
    task = asyncio.create_task(follower.run())
    try:
        yield state
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        own_writes.close()


def soon(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


async def test_unsafe_requests_in_flight_are_reported_as_soon_as_they_change(tmp_path: Path) -> None:
    store = memory_store()
    await applied(store)
    async with following(store, tmp_path) as state:
        await asyncio.sleep(0.2)
        state.flag_runtime("ledger").unsafe_in_flight = 2
        await store.flags.hold("ledger", "c1", soon(3), by="w")
        for left in (2, 1, 0):
            state.flag_runtime("ledger").unsafe_in_flight = left
            begun = time.monotonic()
            while [dict(h.unsafe_in_flight) for h in await store.flags.live_proxies()] != [{"ledger": left}]:
                assert time.monotonic() - begun < 0.2
                await asyncio.sleep(0.005)
        await store.flags.release(
            "ledger", Ownership(owner=Origin.EXTRACTED, epoch=2), stage="extracted", weight=0, by="w", reason=""
        )
        await asyncio.sleep(0.1)
        assert state.table.flags["ledger"].owner is Origin.EXTRACTED
        assert state.unsafe_in_flight() == {}


async def test_a_hold_that_nobody_ends_ends_a_second_after_its_deadline(tmp_path: Path) -> None:
    store = memory_store()
    await applied(store)
    async with following(store, tmp_path) as state:
        await asyncio.sleep(0.1)
        await store.flags.hold("ledger", "c1", soon(0.3), by="w")
        await asyncio.sleep(0.5)
        assert state.table.flags["ledger"].hold is not None
        await asyncio.sleep(1.2)
        assert state.table.flags["ledger"].hold is None
        assert state.table.revision == 2


class Sluggish:
    """A source whose heartbeats take a while to be stored."""

    def __init__(self, source: TableSource) -> None:
        self._source = source

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    async def beat(self, heartbeat: Heartbeat) -> Pulse:
        await asyncio.sleep(0.4)
        return await self._source.beat(heartbeat)


async def test_a_heartbeat_on_its_way_does_not_bring_back_a_proxy_that_leaves(tmp_path: Path) -> None:
    store = memory_store()
    await applied(store)
    own_writes = OwnWrites(None)
    state = ProxyState(await store.tables.load(), options=Options(), signer=None, own_writes=own_writes)
    follower = Follower(
        cast(TableSource, Sluggish(store.tables)),
        state,
        proxy_id="p1",
        state_dir=tmp_path,
        table_file=TableFile(tmp_path, None),
    )
    step = asyncio.create_task(follower.step())
    await asyncio.sleep(0.1)
    await follower.leave()
    await step
    assert await store.flags.live_proxies() == []
    own_writes.close()


async def test_only_holds_past_their_deadline_are_taken_out() -> None:
    store = memory_store()
    await applied(store)
    await store.flags.hold("ledger", "c1", soon(3), by="w")
    table = await store.tables.load()
    assert without_ended_holds(table, soon(3.9)) is table
    ended = without_ended_holds(table, soon(4.1))
    assert ended.flags["ledger"].hold is None
    assert (ended.revision, ended.routes) == (table.revision, table.routes)
