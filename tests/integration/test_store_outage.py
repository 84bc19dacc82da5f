"""A control database that is stopped or killed costs seconds, never a hang; and it is used again when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.core.ports import Heartbeat
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store, migrate, open_store
from tests.ports.store_samples import applied
from tests.servers import EmbeddedPostgres
from tests.servers_stopped import stopped


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder: Path = tmp_path_factory.mktemp("outage")
    server = EmbeddedPostgres(folder / "data", settings={"fsync": "off"}).start()
    migrate(server.url())
    yield server
    server.stop()


@pytest.fixture
async def store(server: EmbeddedPostgres) -> AsyncIterator[Store]:
    store = open_store(server.url(), timeout_s=1.0)
    await applied(store)
    yield store
    await store.close()


async def unavailable(call: Awaitable[object], *, within_s: float) -> None:
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call
    assert time.monotonic() - begun < within_s


async def test_a_stopped_database_costs_its_time_limit_and_no_more(server: EmbeddedPostgres, store: Store) -> None:
    with stopped(server):
        await unavailable(store.tables.load(), within_s=1.8)
        calls = [store.tables.beat(Heartbeat(proxy_id="p", revision=1)) for _ in range(6)]
        await asyncio.gather(*(unavailable(call, within_s=1.8) for call in calls))
    begun = time.monotonic()
    assert (await store.tables.load()).revision > 0
    assert time.monotonic() - begun < 1.0


async def test_a_call_that_is_cancelled_ends_at_once_and_leaves_no_connection_in_a_transaction(
    server: EmbeddedPostgres, store: Store
) -> None:
    with stopped(server):
        call = asyncio.ensure_future(store.tables.load())
        await asyncio.sleep(0.2)
        call.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - begun < 0.8
    await store.tables.load()


async def test_a_killed_database_is_used_again_when_it_is_back(server: EmbeddedPostgres, store: Store) -> None:
    revision = await store.tables.revision()
    server.kill()
    try:
        await unavailable(store.tables.revision(), within_s=1.8)
        await unavailable(store.tables.revision(), within_s=1.8)
    finally:
        server.start()
    assert await store.tables.revision() == revision


async def test_a_notice_arrives_within_a_quarter_of_a_second(store: Store) -> None:
    async with aclosing(store.tables.changes()) as changes:
        heard = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.3)
        revision = await store.switches.set_stage(
            "catalog", stage=Stage.CANARY, weight=77, by="a", reason="", expected_revision=None
        )
        begun = time.monotonic()
        assert await asyncio.wait_for(heard, 2) == revision
        assert time.monotonic() - begun < 0.25


async def test_listening_ends_when_the_database_is_killed_or_stopped(server: EmbeddedPostgres, store: Store) -> None:
    async with aclosing(store.tables.changes()) as changes:
        heard = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.2)
        with stopped(server), pytest.raises(StoreUnavailable):
            await asyncio.wait_for(heard, 8)
    async with aclosing(store.tables.changes()) as changes:
        heard = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.2)
        server.kill()
        try:
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(heard, 8)
        finally:
            server.start()
