"""A stream that is paused: changes are noted, nothing is carried over, whoever starts again; then all of it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest

from strangler_proxy.control import sync as verbs
from strangler_proxy.control.status import status as look
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.flip import not_ready
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store, migrate, open_store
from tests.integration.sync_rig import ask, declared, in_step, ready, rig, running, start, status, worker_for
from tests.integration.sync_world import World, build, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    yield made
    made.close()


@pytest.fixture
async def store(world: World, make_database: Callable[[str], str]) -> AsyncIterator[Store]:
    """On PostgreSQL: what a pause survives is a restart of workers."""
    control = make_database("control")
    await asyncio.to_thread(migrate, control)
    made = await declared(open_store(control), world)
    yield made
    await made.close()


async def is_paused(store: Store) -> dict[str, Any] | None:
    """The last word of a worker that carries nothing over."""
    said = await status(store, "people")
    return said if said.get("mode") == "paused" else None


async def test_a_pause_notes_changes_carries_nothing_and_survives_workers(world: World, store: Store) -> None:
    app = world.app(M)
    app.execute("INSERT INTO person (id, email) SELECT g, 'p' || g FROM generate_series(1, 20) AS g")
    async with running(worker_for(store, world, "w1")):
        await start(store, world)
        first = await verbs.pause(store, "people", by="ann", reason="a migration")
        again = await verbs.pause(store, "people", by="ben", reason="another reason")
        assert again == first, "the one that is there stays"
        await until(lambda: is_paused(store), 60)
    app.execute("DELETE FROM person WHERE id <= 5")
    app.execute("UPDATE person SET name = 'changed' WHERE id = 6")
    async with running(worker_for(store, world, "w2")):
        said = await until(lambda: _told(store, dirty_keys=6), 60)
        assert (said["worker"], said["error"]) == ("w2", "")
        assert world.value(E, "SELECT count(*) FROM member") == 20
        assert world.value(M, "SELECT count(*) FROM strangler.dirty") == 6
        stream = (await look(store, "people")).flags[0].stream
        (missing,) = not_ready((await store.flags.flag("people"))[0], stream)
        assert missing.startswith("the stream is paused since ")
        assert missing.endswith("UTC by ann: a migration")
        for verb in (verbs.rehearse(store, "people", by="a"), verbs.verify(store, "people", repair=False, by="a")):
            with pytest.raises(GateRefused, match="by ann: a migration") as refused:
                await verb
            assert refused.value.next_command == "strangler sync resume people"
        with pytest.raises(GateRefused, match="is started already, and is paused"):
            await verbs.start(store, "people", by="a")
        late = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert late.status == "refused", "asked by somebody who had not looked"
        assert "by ann: a migration: strangler sync resume people" in late.detail
        verify = await ask(store, "sync_verify", "people")
        assert (verify.status, verify.detail) == ("failed", "the stream is paused: strangler sync resume people")

        await verbs.resume(store, "people", by="ben", reason="done")
        await in_step(world)
        assert (await ready(store, "people", seconds=60))["dirty_keys"] == 0
        assert await store.pauses.paused() == {}
    entries = [(e.verb, e.actor, e.reason) for e in await store.records.history("people", 20)]
    assert ("sync_pause", "ann", "a migration") in entries
    assert ("sync_resumed", "ben", "done") in entries
    assert not any(actor == "ben" for verb, actor, _ in entries if verb == "sync_pause"), "no change, no entry"
    assert (await store.records.verify_audit()).broken_at is None


async def _told(store: Store, **wanted: object) -> dict[str, Any] | None:
    said = await is_paused(store)
    return said if said and all(said[name] == value for name, value in wanted.items()) else None


async def test_resuming_what_is_not_paused_mends_capture_and_changes_nothing_else(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        done = await ask(store, "sync_resume", "people")
        assert done.status == "done"
        assert done.detail.startswith("the stream was not paused")
        world.app(M).execute("INSERT INTO person (email) VALUES ('x')")
        await in_step(world)
        await ready(store, "people", seconds=60)


async def test_a_stream_that_is_stopped_and_started_is_not_paused(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        await verbs.pause(store, "people", by="ann")
        await until(lambda: is_paused(store), 60)
        await ask(store, "sync_stop", "people")
        await start(store, world)


async def test_a_pause_waits_for_the_end_of_a_cutover_that_needs_the_stream(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
    await store.switches.request("cutover", "people", {"to": "extracted"}, by="a", reason="")
    with pytest.raises(GateRefused, match=r"\(cutover, queued, by a\) is not over yet, and needs the stream"):
        await verbs.pause(store, "people", by="ann")
    assert await store.pauses.paused() == {}


async def test_a_preflight_tells_everything_at_once_and_holds_nobody(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        good = await verbs.preflight(store, "people", by="ann")
        assert good.args["preflight"] == "yes"
        done = await until(lambda: _ended(store, good.id), 30)
        assert (done.status, done.detail) == ("done", "monolith -> extracted: nothing refuses")
        off = "SELECT count(*) FROM pg_class WHERE reloptions::text LIKE '%autovacuum_enabled=false%'"
        assert all(world.value(origin, off) == 0 for origin in Origin)
        assert world.value(M, "SELECT count(*) FROM strangler.cutover") == 0
        await verbs.pause(store, "people", by="ann", reason="a look")
        await until(lambda: is_paused(store), 60)
        with psycopg.connect(world.urls[E]) as admin:
            admin.execute("UPDATE strangler.applied SET verified_at = now() - interval '2 days'")
            admin.execute("INSERT INTO strangler.stuck (flag, tbl, pk, error) VALUES ('people', 'note', '{1}', 'x')")
        with psycopg.connect(world.urls[M]) as admin:
            admin.execute("ALTER TABLE note DISABLE TRIGGER strangler_truncate")
        stays = world.app(M, autocommit=False)
        stays.execute("INSERT INTO person (email) VALUES ('w')")
        await asyncio.sleep(1.2)
        bad = await verbs.preflight(store, "people", by="ann")
        done = await until(lambda: _ended(store, bad.id), 30)
        assert done.status == "refused"
        for reason in ("by ann: a look", "1 keys are stuck", "stale: 48 h", "strangler_truncate", "has held table"):
            assert reason in done.detail, done.detail
        stays.rollback()


async def _ended(store: Store, number: int) -> Operation | None:
    found = next(each for each in await store.records.operations("people", 10) if each.id == number)
    return found if found.status not in ("queued", "running") else None
