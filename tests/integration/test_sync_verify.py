"""Asked verification, repair and rehearsal: exact, told by key and column, and nothing moved."""

from __future__ import annotations

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from tests.integration.sync_rig import ask, proxy, rig, start, status
from tests.integration.sync_world import World, damage, until

M, E = Origin.MONOLITH, Origin.EXTRACTED


async def test_a_verification_says_how_much_is_equal(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        done = await ask(store, "sync_verify", "people")
        assert done.status == "done", done.detail
        rows = sum(world.value(M, f"SELECT count(*) FROM {table}") for table in ("person", "note", "tally"))
        assert done.detail == f"equal: {rows} rows of 3 tables"


async def test_what_differs_is_named_by_key_and_column_and_repaired(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        secret = "nobody-may-see-this"
        damage(
            world,
            f"UPDATE member SET display_name = '{secret}' WHERE member_id = 3",
            "DELETE FROM member WHERE member_id = 4",
            f"INSERT INTO member VALUES (9999, '{secret}', 'extra')",
        )
        done = await ask(store, "sync_verify", "people")
        assert done.status == "failed"
        assert done.detail == "3 keys differed; they are being carried over again: strangler sync repair people"
        told = {step["detail"] for step in done.steps if step["name"] == "differs"}
        assert told == {"person 3: name", "person 4: missing", "person 9999: extra"}
        assert secret not in str(done)
        assert secret not in str(await status(store, "people"))
        repaired = await ask(store, "sync_verify", "people", repair="yes")
        assert repaired.status == "done", repaired.detail
        await until(world.same)


async def test_a_repair_mends_what_it_finds_in_one_go(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        damage(world, "UPDATE member SET display_name = 'x' WHERE member_id = 5")
        repaired = await ask(store, "sync_verify", "people", repair="yes")
        assert repaired.status == "done", repaired.detail
        assert repaired.detail.endswith(", 1 keys carried over again")
        assert world.same()


async def test_a_rehearsal_holds_and_moves_nothing(world: World) -> None:
    async with rig(world) as store, proxy(store, "people"):
        await start(store, world)
        done = await ask(store, "cutover", "people", to="extracted", rehearse="yes")
        assert done.status == "done", done.detail
        assert done.detail.startswith("rehearsed held_ms=")
        names = [step["name"] for step in done.steps]
        assert names == ["preflight", "intent", "hold", "fence", "catch up", "check", "abort"]
        flag, _ = await store.flags.flag("people")
        assert (flag.owner, flag.hold) == (M, None)
        world.app(M).execute("UPDATE person SET name = 'still the writer' WHERE id = 1")
        with pytest.raises(psycopg.Error, match="strangler fence"):
            world.app(E).execute("UPDATE member SET display_name = 'x' WHERE member_id = 1")
        await until(world.same)


async def test_a_rehearsal_that_would_be_refused_says_why(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        refused = await ask(store, "cutover", "people", to="monolith", rehearse="yes")
        assert refused.status == "refused"
        assert refused.detail == "monolith is the owner already"
