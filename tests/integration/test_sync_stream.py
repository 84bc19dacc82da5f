"""The stream: snapshot, live changes, exact verification, stuck keys; with the roles of the contract."""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.batch import Busy, Ends, Wanted, run_batch
from strangler_proxy.sync.ends import both_ends
from strangler_proxy.sync.pace import Mode
from tests.integration.sync_rig import ask, ready, rig, start, status
from tests.integration.sync_world import World, build, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    yield made
    made.close()


def seed(world: World, people: int = 3000) -> None:
    app = world.app(M)
    app.execute(
        "INSERT INTO person (email, name) SELECT 'p' || g, CASE g % 3 WHEN 0 THEN '' ELSE 'né \"' || g END "
        f"FROM generate_series(1, {people}) AS g".encode()
    )
    app.execute(
        "INSERT INTO note (id, person_id, amount, body) SELECT gen_random_uuid(), 1 + g % 40, g / 7.0, "
        f"jsonb_build_object('n', g) FROM generate_series(1, {people}) AS g".encode()
    )
    app.execute("INSERT INTO tally SELECT 'Place ' || g % 7, g, g FROM generate_series(1, 100) AS g")


async def test_a_copy_begins_under_writes_becomes_live_and_is_verified(world: World) -> None:
    seed(world)
    stop = threading.Event()
    done = [0]

    def write() -> None:
        chance = random.Random(3)
        with psycopg.connect(world.app_url(M), autocommit=True) as app:
            while not stop.is_set():
                key = chance.randint(1, 3000)
                app.execute("UPDATE person SET name = name || 'x' WHERE id = %s", (key,))
                app.execute("DELETE FROM person WHERE id = %s", (chance.randint(1001, 3000),))
                app.execute(
                    "INSERT INTO note (id, person_id) SELECT %s, id FROM person WHERE id = %s", (uuid.uuid4(), key)
                )
                done[0] += 1
                time.sleep(0.002)

    writer = threading.Thread(target=write)
    async with rig(world) as store:
        writer.start()
        try:
            said = await start(store, world)
            await asyncio.sleep(1.5)
            said = await status(store, "people")
        finally:
            stop.set()
            writer.join()
        assert said["mode"] == "live"
        assert said["verified"] is True
        assert said["mismatches"] == 0
        assert said["stuck"] == 0
        assert [table["done"] for table in said["tables"]] == [True] * 3
        await until(world.same)
        assert done[0] > 100
        assert (await store.flags.flag("people"))[0].owner_epoch == 1


async def test_live_lag_is_small(world: World) -> None:
    lags: list[float] = []
    async with rig(world) as store:
        await start(store, world)
        app, there = world.app(M), psycopg.connect(world.urls[E], autocommit=True)
        world.connections.append(there)
        for number in range(60):
            app.execute("INSERT INTO tally VALUES ('lag', %s, 0)", (number,))
            began = time.monotonic()
            await until(lambda n=number: there.execute("SELECT 1 FROM tally WHERE day = %s", (n,)).fetchone(), 5)
            lags.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
    print(f"lag p50 {statistics.median(lags) * 1000:.0f} ms, max {max(lags) * 1000:.0f} ms")
    assert sorted(lags)[int(len(lags) * 0.95)] < 0.25


async def test_what_differs_is_found_and_repaired(world: World) -> None:
    seed(world, 50)
    async with rig(world) as store:
        await start(store, world)
        await ask(store, "sync_stop", "people")
        await asyncio.sleep(1.2)
        with psycopg.connect(world.sync_urls()[E], autocommit=True) as tampering:
            tampering.execute("SET strangler.applier = 'people'")
            tampering.execute("UPDATE member SET display_name = 'tampered' WHERE member_id = 3")
            tampering.execute("DELETE FROM member WHERE member_id = 4")
            tampering.execute("INSERT INTO tally VALUES ('phantom', 1, 1)")
            tampering.execute("UPDATE strangler.applied SET verified = NULL")
        assert not world.same()
        await ask(store, "sync_start", "people")
        said = await until(lambda: _repaired(store))
        assert said["mismatches"] == 3
        await until(world.same)


async def _repaired(store: object) -> dict[str, object] | None:
    said = await status(store, "people")  # type: ignore[arg-type]
    return said if said.get("mismatches") and said.get("verified") else None


async def test_unique_values_change_hands_within_a_batch_and_in_a_ring(world: World) -> None:
    app = world.app(M)
    app.execute("INSERT INTO person (id, email) VALUES (1, 'x'), (2, 'y'), (3, 'z')")
    world.app(E).execute("ALTER TABLE member DROP CONSTRAINT member_address_key, ADD UNIQUE (address)")
    async with rig(world) as store:
        await start(store, world)
        async with world_lock(world):
            app.execute("UPDATE person SET email = 'free' WHERE id = 1")
            app.execute("UPDATE person SET email = 'x' WHERE id = 2")
            app.execute("UPDATE person SET email = 'y' WHERE id = 3")
        await until(world.same)
        async with world_lock(world):
            app.execute("UPDATE person SET email = 'tmp' WHERE id = 1")
            app.execute("UPDATE person SET email = 'free' WHERE id = 2")
            app.execute("UPDATE person SET email = 'x' WHERE id = 1")
        await until(world.same)
        assert (await status(store, "people"))["stuck"] == 0


class world_lock:  # noqa: N801 - reads as a statement
    """Keeps the applier out of the target meanwhile, so that several writes come in one batch."""

    def __init__(self, world: World) -> None:
        self._connection = psycopg.connect(world.sync_urls()[E])

    async def __aenter__(self) -> None:
        query = "SELECT pg_advisory_xact_lock(hashtextextended('strangler.sync:people', 0))"
        await asyncio.to_thread(self._connection.execute, query)

    async def __aexit__(self, *exc: object) -> None:
        self._connection.close()


async def test_a_row_that_the_target_refuses_is_stuck_alone_and_comes_through_later(world: World) -> None:
    world.app(E).execute("ALTER TABLE member ADD CONSTRAINT short CHECK (length(display_name) < 5)")
    async with rig(world) as store:
        await start(store, world)
        app = world.app(M)
        app.execute("INSERT INTO person (id, email, name) SELECT g, 'p' || g, 'ok' FROM generate_series(1, 20) AS g")
        app.execute("UPDATE person SET name = 'far too long' WHERE id = 7")

        async def stuck() -> bool:
            return bool((await status(store, "people")).get("stuck") == 1)

        await until(stuck)
        assert world.value(E, "SELECT count(*) FROM member") >= 19
        assert "short" in world.value(E, "SELECT error FROM strangler.stuck")
        refused = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert refused.status == "refused"
        assert "1 keys are stuck" in refused.detail
        world.app(E).execute("ALTER TABLE member DROP CONSTRAINT short")
        await until(world.same, 15)
        await ready(store, "people")


async def test_a_paused_applier_does_not_overwrite_newer_rows(world: World) -> None:
    app = world.app(M)
    app.execute("INSERT INTO tally VALUES ('a', 1, 1)")
    async with rig(world) as store:
        await start(store, world)
        await ask(store, "sync_stop", "people")
        await asyncio.sleep(1.2)
    app.execute("UPDATE tally SET hits = 2")
    async with (
        both_ends(world.manifest, world.sync_urls(), "paused") as first,
        both_ends(world.manifest, world.sync_urls(), "second") as second,
    ):
        for both in (first, second):
            await both.links[M].set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        ends = [Ends(layout=b.layout, origin=M, source=b.links[M], target=b.links[E]) for b in (first, second)]
        live = Wanted(mode=Mode.LIVE, limit=100)
        # The first one has read and is stopped before it writes; then its session at the source dies.
        await first.links[E].execute("BEGIN")
        await first.links[E].execute("SELECT pg_advisory_xact_lock(hashtextextended('strangler.sync:people', 0))")
        await first.links[E].execute("SELECT set_config('strangler.applier', 'people', true)")
        app.execute("UPDATE tally SET hits = 3")
        with pytest.raises(Busy):
            await run_batch(ends[1], {}, live)
        await first.links[E].execute("UPDATE tally SET hits = 2 WHERE place = 'a'")
        await first.links[E].execute("COMMIT")
        done = await run_batch(ends[1], {}, live)
        assert done.keys == 1
    assert world.value(E, "SELECT hits FROM tally") == 3
    assert world.same()


async def test_a_database_that_goes_away_is_waited_for_and_said(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        database = world.urls[E].rpartition("/")[2]
        with psycopg.connect(world.urls[M], autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false'.encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
            world.app(M).execute("INSERT INTO tally VALUES ('away', 1, 1)")

            async def said() -> bool:
                return bool((await status(store, "people")).get("error"))

            await until(said)
            admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true'.encode())
        await until(world.same, 15)
        assert (await ready(store, "people"))["error"] == ""


async def test_a_deadlock_with_others_at_the_copy_only_repeats_the_batch(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    seed(world, 50)
    async with rig(world) as store:
        await start(store, world)
        with psycopg.connect(world.urls[E]) as other:
            other.execute("SET deadlock_timeout = '20 s'")  # the batch is the one that is rolled back
            other.execute("SELECT FROM member WHERE member_id = 50 FOR UPDATE")
            world.app(M).execute("UPDATE person SET name = 'later'")
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await until(lambda: world.value(E, waits))
            await asyncio.to_thread(other.execute, b"SELECT FROM member WHERE member_id = 1 FOR UPDATE")
        await until(lambda: world.value(E, "SELECT count(*) FROM member WHERE display_name = 'later'") == 50)
    said = capsys.readouterr().out
    assert "sync.batch_deadlocked" in said
    assert "sync.stream_failed" not in said
