"""The cutover in both directions: nothing lost under writers, every refusal told, every failure undone or finished."""

from __future__ import annotations

import asyncio
import re
import statistics
import threading
import time
import uuid

import psycopg
import pytest

from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store
from strangler_proxy.store.memory import memory_store
from strangler_proxy.sync.ends import both_ends
from strangler_proxy.sync.preflight import preflight
from tests.integration.sync_clients import Clients, account
from tests.integration.sync_rig import ask, cut_over, declared, proxy, ready, rig, running, start, worker_for
from tests.integration.sync_world import World, until

M, E = Origin.MONOLITH, Origin.EXTRACTED
STEPS = ["preflight", "intent", "hold", "fence", "catch up", "check", "decide", "open", "release"]


def grant(world: World, origin: Origin) -> tuple[str, int, bool]:
    with psycopg.connect(world.urls[origin]) as connection:
        row = connection.execute("SELECT owner, epoch, open FROM strangler.ownership").fetchone()
    assert row is not None
    return row


def held_ms(operation: Operation) -> int:
    release = next(step for step in operation.steps if step["name"] == "release")
    found = re.match(r"held_ms=(\d+) epoch=\d+$", release["detail"])
    assert found, release
    return int(found.group(1))


async def autovacuum_is_as_it_was(world: World) -> None:
    query = "SELECT count(*) FROM pg_class WHERE reloptions::text LIKE '%autovacuum_enabled=false%'"
    await until(lambda: all(world.value(origin, query) == 0 for origin in Origin))


async def test_there_and_back_again(world: World) -> None:
    world.app(M).execute("ALTER TABLE note SET (autovacuum_enabled = true)")
    async with rig(world) as store:
        await start(store, world)
        done = await cut_over(store, world, E)
        assert done.status == "done", done.detail
        assert [step["name"] for step in done.steps] == STEPS
        assert held_ms(done) < 3000
        assert grant(world, M) == ("extracted", 2, False)
        assert grant(world, E) == ("extracted", 2, True)
        flag, _ = await store.flags.flag("people")
        assert (flag.stage, flag.owner, flag.owner_epoch, flag.hold) == (Stage.EXTRACTED, E, 2, None)
        with pytest.raises(psycopg.Error, match="strangler fence"):
            world.app(M).execute("UPDATE person SET name = 'x' WHERE id = 1")
        world.app(M).execute("UPDATE person SET last_seen = now() WHERE id = 1")
        app = world.app(E)
        number = app.execute(
            "INSERT INTO member (address, display_name) VALUES ('new', 'n') RETURNING member_id"
        ).fetchone()
        assert number is not None
        assert number[0] > 20, "the sequence went on from the monolith's"
        app.execute("UPDATE member SET display_name = 'changed' WHERE member_id = 1")
        await until(world.same)
        assert world.value(M, "SELECT last_seen IS NOT NULL FROM person WHERE id = 1"), "kept: it does not move"
        back = await cut_over(store, world, M)
        assert back.status == "done", back.detail
        assert grant(world, M) == ("monolith", 3, True)
        assert grant(world, E) == ("monolith", 3, False)
        world.app(M).execute("INSERT INTO person (email) VALUES ('after')")
        await until(world.same)
        await autovacuum_is_as_it_was(world)
        assert (
            world.value(M, "SELECT reloptions::text FROM pg_class WHERE relname = 'note'")
            == "{autovacuum_enabled=true}"
        )


async def test_twenty_cutovers_under_writers_lose_nothing(world: World) -> None:
    clients = Clients(world)
    holds: list[int] = []
    async with rig(world) as store:
        await start(store, world)
        owner = M
        async with proxy(store, "people"):
            with clients.writing():
                for _ in range(20):
                    done = await cut_over(store, world, owner.other)
                    if done.status == "done":
                        owner = owner.other
                        holds.append(held_ms(done))
                    else:
                        assert done.status in ("aborted", "refused"), done
        await until(world.same)
        account(world, clients, owner)
    print(f"hold p50 {statistics.median(holds):.0f} ms, max {max(holds)} ms over {len(holds)}; fenced {clients.fenced}")
    assert len(holds) >= 15
    assert clients.fenced > 0
    assert max(holds) < 3500


async def test_repeatable_read_writers_are_stopped_by_the_fence(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        late = world.app(M, autocommit=False)
        late.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        late.execute("SELECT open FROM strangler.ownership")
        done = await cut_over(store, world, E)
        assert done.status == "done", done.detail
        with pytest.raises(psycopg.Error) as refused:
            late.execute("INSERT INTO note (id, person_id) VALUES (%s, 1)", (uuid.uuid4(),))
        assert refused.value.sqlstate == "MF001"
        late.rollback()
        assert world.value(M, "SELECT count(*) FROM note") == 0


async def test_a_writer_that_stays_aborts_the_cutover_and_everything_is_as_before(world: World) -> None:
    async with rig(world, deadline_s=1.0) as store:
        await start(store, world)
        asked = asyncio.create_task(cut_over(store, world, E))

        async def holding() -> bool:
            return (await store.flags.flag("people"))[0].hold is not None

        writer = world.app(M, autocommit=False)
        async with proxy(store, "people", in_flight=lambda: 1):  # gives the writer time to begin
            await until(holding)
            writer.execute("UPDATE person SET name = 'w' WHERE id = 1")
            done = await asked
        writer.commit()
        assert done.status == "aborted", done.detail
        assert grant(world, M) == ("monolith", 3, True), "the epoch moved past the one that was intended"
        assert grant(world, E) == ("monolith", 1, False)
        flag, _ = await store.flags.flag("people")
        assert (flag.owner, flag.owner_epoch, flag.hold, flag.stage) == (M, 3, None, Stage.MONOLITH)
        world.app(M).execute("INSERT INTO person (email) VALUES ('goes on')")
        await until(world.same)
        await autovacuum_is_as_it_was(world)
        assert (await cut_over(store, world, E)).status == "done"


async def test_a_proxy_that_does_not_acknowledge_is_named_and_the_cutover_aborted(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        async with proxy(store, "people", acknowledges=lambda: False):
            done = await cut_over(store, world, E)
        assert done.status == "aborted"
        assert "no acknowledgement of the hold by p1" in done.detail
        assert grant(world, M)[2]


async def test_everything_that_refuses_is_told_at_once(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        await ask(store, "sync_stop", "people")
        await asyncio.sleep(1.2)
        with psycopg.connect(world.urls[M]) as admin:
            admin.execute("DROP TRIGGER strangler_capture_delete ON note")
        with psycopg.connect(world.urls[E]) as admin:
            admin.execute("UPDATE strangler.applied SET verified_at = now() - interval '2 days', mode = 'catch-up'")
            admin.execute("INSERT INTO strangler.stuck (flag, tbl, pk, error) VALUES ('people', 'note', '{1}', 'x')")
        stays = world.app(M, autocommit=False)
        stays.execute("UPDATE person SET name = 'w' WHERE id = 1")
        await asyncio.sleep(1.2)
        refused = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert refused.status == "refused"
        for reason in (
            "is catch-up",
            "lag is",
            "1 keys are stuck",
            "stale: 48 h",
            "strangler_capture_delete",
            "has held table",
        ):
            assert reason in refused.detail, refused.detail
        assert len(refused.detail.splitlines()) >= 6
        assert (await store.flags.flag("people"))[0].hold is None
        stays.rollback()


async def test_a_moment_of_lag_is_waited_for_before_anybody_is_held(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
    told = "UPDATE strangler.applied SET changed_at = now(); UPDATE strangler.ownership SET replicated_through = now()"
    with psycopg.connect(world.urls[E], autocommit=True) as copy:
        copy.execute(f"{told} - interval '3 s'".encode())
        async with both_ends(world.manifest, world.urls, "preflight") as both:
            looks = asyncio.create_task(preflight(world.manifest, both.layout, both.links, M, store.flags))
            await asyncio.sleep(0.5)
            assert not looks.done()
            copy.execute(told)
            assert await looks == []


async def test_writers_that_take_the_tables_in_another_order_do_not_keep_the_fence_away(world: World) -> None:
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(world.app_url(M)) as app:
            while not stop.is_set():
                try:
                    app.execute("UPDATE tally SET hits = hits + 1 WHERE day < 0")
                    time.sleep(0.01)
                    app.execute("UPDATE note SET amount = amount WHERE false")
                    time.sleep(0.01)
                    app.execute("UPDATE person SET name = name WHERE false")
                    app.commit()
                except psycopg.Error as error:
                    if error.sqlstate == "MF001":
                        return
                    app.rollback()

    async with rig(world) as store:
        await start(store, world)
        writers = [threading.Thread(target=write) for _ in range(6)]
        for writer in writers:
            writer.start()
        try:
            done = await cut_over(store, world, E)
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert done.status == "done", done.detail


async def test_a_cutover_to_the_owner_is_refused(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        refused = await cut_over(store, world, M)
        assert (refused.status, refused.detail) == ("refused", "monolith is the owner already")


async def test_a_copy_that_is_not_equal_is_found_by_the_check(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        with psycopg.connect(world.sync_urls()[E], autocommit=True) as tampering:
            tampering.execute("SET strangler.applier = 'people'")
            tampering.execute("UPDATE member SET display_name = 'tampered' WHERE member_id = 3")
        done = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert done.status == "aborted"
        assert "the copy is not equal: table 'person'" in done.detail
        assert grant(world, M)[2]


async def test_two_workers_share_streams_and_cutovers(world: World) -> None:
    store = await declared(memory_store(lease_s=2.0), world)
    clients = Clients(world, 2, seed=7)
    async with running(worker_for(store, world, "w1"), worker_for(store, world, "w2")):
        await start(store, world)
        with clients.writing():
            owner = M
            for _ in range(4):
                done = await cut_over(store, world, owner.other)
                assert done.status == "done", done.detail
                owner = owner.other
        await until(world.same)
        account(world, clients, owner)
    await store.close()


@pytest.mark.parametrize("at", ["holding", "fenced", "committed"])
@pytest.mark.parametrize("to", [E, M], ids=["forward", "back"])
async def test_what_a_dead_worker_left_is_aborted_or_finished(world: World, at: str, to: Origin) -> None:
    async with rig(world) as store:
        await start(store, world)
        if to is M:
            assert (await cut_over(store, world, E)).status == "done"
        await ready(store, "people")
    source = to.other
    epoch = grant(world, source)[1] + 1
    leave(world, source, at, epoch)
    survivor = await _same_store(store, world)
    async with running(worker_for(survivor, world, "w2")):
        done = at == "committed"
        owner = to if done else source
        wanted = (owner.value, epoch if done else epoch + 1, True)
        await until(lambda: grant(world, owner) == wanted, 15)

        async def told() -> bool:
            flag, _ = await survivor.flags.flag("people")
            return flag.hold is None and (flag.owner, flag.owner_epoch) == (owner, wanted[1])

        await until(told)
        assert grant(world, owner.other)[2] is False
        table = "person" if owner is M else "member"
        world.app(owner).execute(f"DELETE FROM {table}".encode())
        await until(world.same)


async def _same_store(store: Store, world: World) -> Store:
    """Memory stores survive `close`."""
    await store.sync.want("people", True)
    await store.sync.lease("stream:people", "w1", -1.0)
    return store


def leave(world: World, source: Origin, at: str, epoch: int) -> None:
    """What the databases hold when a coordinator dies after that step."""
    with psycopg.connect(world.urls[source]) as admin:
        admin.execute(
            "INSERT INTO strangler.cutover (id, operation_id, flag, source, target, epoch, status, deadline_at, stage, "
            "weight, actor, decided_at) "
            "VALUES ('c1', 99, 'people', %s, %s, %s, %s, now() + interval '0.5 s', '', 0, 't', "
            "CASE WHEN %s = 'committed' THEN now() END)",
            (source.value, source.other.value, epoch, "committed" if at == "committed" else "holding", at),
        )
        if at == "holding":
            return
        owner = source.other.value if at == "committed" else source.value
        admin.execute("UPDATE strangler.ownership SET open = false, epoch = %s, owner = %s", (epoch, owner))
        tables = ("person", "note") if source is M else ("member", "remark")
        for table in (*tables, "tally"):
            admin.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER strangler_fence".encode())
        if source is M:
            admin.execute("ALTER TABLE person ENABLE ALWAYS TRIGGER strangler_fence_columns")
        if at == "committed":
            for table in ("person", "note", "tally"):
                admin.execute(
                    "INSERT INTO strangler.progress (flag, tbl, source, done) VALUES ('people', %s, %s, true) "
                    "ON CONFLICT (flag, tbl) DO UPDATE SET source = excluded.source, done = true",
                    (table, source.other.value),
                )
