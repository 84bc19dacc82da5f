"""The follower on a real control database: quick, refusing what does not compile, and unmoved by an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.follower import Follower
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.own_writes import OwnWrites
from strangler_proxy.forward.state import ProxyState
from strangler_proxy.forward.table_file import TableFile
from strangler_proxy.store import Store, migrate, open_store
from tests.ports.store_samples import MONOLITH, applied
from tests.servers import EmbeddedPostgres
from tests.servers_stopped import stopped


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder: Path = tmp_path_factory.mktemp("follower")
    server = EmbeddedPostgres(folder / "data", settings={"fsync": "off"}).start()
    yield server
    server.stop()


def run_sql(server: EmbeddedPostgres, statement: str) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        connection.execute(statement)


@pytest.fixture
async def store(server: EmbeddedPostgres) -> AsyncIterator[Store]:
    run_sql(server, "DROP SCHEMA IF EXISTS strangler CASCADE")
    migrate(server.url())
    store = open_store(server.url(), timeout_s=1.0)
    await applied(store)
    yield store
    await store.close()


@asynccontextmanager
async def following(store: Store, state_dir: Path) -> AsyncIterator[tuple[ProxyState, Follower]]:
    own_writes = OwnWrites(None)
    state = ProxyState(RoutingTable.empty(MONOLITH), options=Options(), signer=None, own_writes=own_writes)
    follower = Follower(
        store.tables, state, proxy_id="p1", state_dir=state_dir, table_file=TableFile(state_dir, None), address="h:1"
    )
    task = asyncio.create_task(follower.run())
    try:
        yield state, follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        own_writes.close()


async def until(holds: Callable[[], bool], within_s: float) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def flip(store: Store, weight: int) -> int:
    return await store.switches.set_stage(
        "catalog", stage=Stage.CANARY, weight=weight, by="ada", reason="", expected_revision=None
    )


async def test_a_change_is_served_and_acknowledged_within_a_quarter_of_a_second(store: Store, tmp_path: Path) -> None:
    async with following(store, tmp_path) as (state, _):
        await until(lambda: state.table.revision == 1, 2)
        await asyncio.sleep(0.3)
        for weight in (1, 2, 3):
            revision = await flip(store, weight)
            begun = time.monotonic()
            while [h.revision for h in await store.flags.live_proxies()] != [revision]:
                assert time.monotonic() - begun < 0.25
                await asyncio.sleep(0.01)
            assert state.table.flags["catalog"].weight == weight
        (live,) = await store.flags.live_proxies()
        assert (live.proxy_id, live.address, live.refused_table) == ("p1", "h:1", "")


def break_and_tell(server: EmbeddedPostgres, statement: str) -> None:
    """Someone edits rows behind the toolkit's back."""
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection, connection.transaction():
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement)
        connection.execute("UPDATE strangler.state SET revision = revision + 1")
        connection.execute("SELECT pg_notify('strangler_table', '0')")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE strangler.route SET extracted_cluster = 'nowhere' WHERE name = 'ledger'", "unknown cluster"),
        ("UPDATE strangler.route SET path = '/a/**/b' WHERE name = 'ledger'", "path segment"),
        ("UPDATE strangler.route SET access = 'secret' WHERE name = 'ledger'", "'secret' is not a valid Access"),
        ("UPDATE strangler.cluster SET endpoints = '{nonsense}' WHERE name = 'ledger'", "cluster 'ledger'"),
        ("UPDATE strangler.state SET default_cluster = 'gone'", "default cluster"),
    ],
)
async def test_a_bad_table_is_refused_and_reported_while_the_last_good_one_serves(
    server: EmbeddedPostgres, store: Store, tmp_path: Path, statement: str, says: str
) -> None:
    async with following(store, tmp_path) as (state, follower):
        await until(lambda: state.table.revision == 1, 2)
        good = state.table
        await asyncio.to_thread(break_and_tell, server, statement)
        await until(lambda: follower.refused_table != "", 2)
        await asyncio.sleep(0.1)
        (live,) = await store.flags.live_proxies()
        assert live.revision == 1
        assert says in live.refused_table
        assert live.refused_table.startswith("revision 2: ")
        assert state.table is good
        assert follower.refusals == 1
        await asyncio.to_thread(
            break_and_tell,
            server,
            "UPDATE strangler.route SET extracted_cluster = 'ledger', path = '/api/ledger/**', access = 'public'"
            " WHERE name = 'ledger'; UPDATE strangler.cluster SET endpoints = '{127.0.0.1:1}' WHERE name = 'ledger';"
            "UPDATE strangler.state SET default_cluster = 'monolith'",
        )
        await until(lambda: state.table.revision == 3, 2)
        await asyncio.sleep(0.1)
        (live,) = await store.flags.live_proxies()
        assert (live.revision, live.refused_table) == (3, "")


async def test_a_refused_table_is_not_tried_again_each_second(
    server: EmbeddedPostgres, store: Store, tmp_path: Path
) -> None:
    async with following(store, tmp_path) as (state, follower):
        await until(lambda: state.table.revision == 1, 2)
        await asyncio.to_thread(break_and_tell, server, "UPDATE strangler.state SET default_cluster = 'gone'")
        await until(lambda: follower.refusals > 0, 2)
        await asyncio.sleep(2.2)
        assert follower.refusals == 1


async def test_an_empty_database_does_not_take_the_served_table_away(
    server: EmbeddedPostgres, store: Store, tmp_path: Path
) -> None:
    async with following(store, tmp_path) as (state, follower):
        await until(lambda: state.table.revision == 1, 2)
        await asyncio.to_thread(run_sql, server, "DROP SCHEMA strangler CASCADE")
        await asyncio.sleep(1.2)
        await asyncio.to_thread(migrate, server.url())
        await until(lambda: "nothing is declared" in follower.refused_table, 3)
        assert state.table.revision == 1


async def test_an_outage_changes_nothing_and_is_made_good(
    server: EmbeddedPostgres, store: Store, tmp_path: Path
) -> None:
    async with following(store, tmp_path) as (state, follower):
        await until(lambda: state.table.revision == 1, 2)
        table = state.table
        with stopped(server):
            lags = []
            for _ in range(60):
                begun = time.monotonic()
                await asyncio.sleep(0.05)
                lags.append(time.monotonic() - begun - 0.05)
            assert state.table is table
            assert follower.age_s is not None
            assert follower.age_s > 2.5
            assert sorted(lags)[-3] < 0.1, "the event loop is never blocked"
        revision = await flip(store, 50)
        await until(lambda: state.table.revision == revision, 4)
        server.kill()
        try:
            await asyncio.sleep(1.5)
            assert state.table.revision == revision
        finally:
            server.start()
        revision = await flip(store, 60)
        await until(lambda: state.table.revision == revision, 4)


async def test_kill_files_and_learned_owners_need_no_database(
    server: EmbeddedPostgres, store: Store, tmp_path: Path
) -> None:
    async with following(store, tmp_path) as (state, _):
        await until(lambda: state.table.revision == 1, 2)
        with stopped(server):
            (tmp_path / "kill-ledger").touch()
            assert await until(lambda: state.is_killed("ledger"), 1) < 1
            (tmp_path / "kill-ledger").unlink()
            assert await until(lambda: not state.killed, 1) < 1
            state.learned("ledger", Ownership(owner=Origin.EXTRACTED, epoch=7))

            def on_disk() -> bool:
                table = TableFile(tmp_path, None).load().table
                return table is not None and table.flags["ledger"].owner_epoch == 7

            await until(on_disk, 2)
        await until(lambda: state.table.revision == 1, 2)
        revision = await flip(store, 70)
        await until(lambda: state.table.revision == revision, 4)
        assert state.table.flags["ledger"].owner is Origin.EXTRACTED, "an older row does not undo what a fence taught"


async def test_a_proxy_that_leaves_is_out_at_once_and_still_follows(store: Store, tmp_path: Path) -> None:
    async with following(store, tmp_path) as (state, follower):
        await until(lambda: state.table.revision == 1, 2)
        await follower.leave()
        revision = await flip(store, 9)
        await until(lambda: state.table.revision == revision, 2)
        await asyncio.sleep(1.2)
        assert await store.flags.live_proxies() == []
