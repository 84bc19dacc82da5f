"""Keys applied lately are looked at again soon, so that a cutover has few left to compare while requests are held."""

from __future__ import annotations

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import touched, verify
from strangler_proxy.sync.ends import both_ends
from tests.integration.sync_rig import ask, ready, rig, start, status
from tests.integration.sync_world import World, damage, until

M, E = Origin.MONOLITH, Origin.EXTRACTED
LEFT = "SELECT count(*) FROM strangler.touched"
OTHERWISE = """
CREATE FUNCTION otherwise() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.display_name := 'otherwise'; RETURN NEW; END $$;
CREATE TRIGGER otherwise BEFORE INSERT OR UPDATE ON member FOR EACH ROW EXECUTE FUNCTION otherwise();
"""


async def test_more_keys_than_one_look_takes_are_forgotten_soon(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        rows = touched.AT_ONCE * 2 + 1
        world.app(M).execute(
            "INSERT INTO tally (place, day, hits) SELECT 'touched', g, 1 FROM generate_series(1, %s) g", (rows,)
        )
        await until(lambda: world.value(E, LEFT) >= rows)
        await until(lambda: world.value(E, LEFT) == 0, 10.0)
        assert (await ready(store, "people"))["mismatches"] == 0


async def test_a_row_that_was_applied_otherwise_is_found_long_before_the_next_pass(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        with psycopg.connect(world.urls[E], autocommit=True) as owner:
            owner.execute(OTHERWISE.encode())
            world.app(M).execute("UPDATE person SET name = 'new' WHERE id = 3")

            async def found() -> bool:
                said = await status(store, "people")
                return bool(said["mismatches"]) and not said["verified"]

            await until(found, verify.PASS_INTERVAL_S / 10)
            owner.execute("DROP TRIGGER otherwise ON member")
        await until(world.same)
        await ready(store, "people")


async def test_large_tables_are_checked_by_the_keys_that_nobody_has_looked_at_since(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "WHOLE_ROWS", -1)
    monkeypatch.setattr(touched, "AGAIN_S", 1_000.0)
    async with rig(world) as store:
        await start(store, world)
        note = (
            world.app(M)
            .execute("INSERT INTO note (id, person_id, amount) VALUES (gen_random_uuid(), 3, 5) RETURNING id")
            .fetchone()
        )
        await until(lambda: world.value(E, LEFT) == 1)  # the stream's first look is over, the next one far away
        await until(world.same)
        assert note is not None
        damage(world, f"UPDATE remark SET amount = 6 WHERE id = '{note[0]}'")
        await ready(store, "people")
        done = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert done.status == "aborted"
        assert "table 'note': 1 of 1 touched rows differ" in done.detail
        assert "totals [('EUR', '5')] at the source, [('EUR', '6')] at the target" in done.detail
        damage(world, f"UPDATE remark SET amount = 5 WHERE id = '{note[0]}'")
        await ready(store, "people")
        done = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert done.status == "done", done.detail


async def test_a_key_that_differs_stays_noted_when_the_worker_dies_between_its_two_commits(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
    damage(world, "UPDATE member SET display_name = 'damaged' WHERE member_id = 3")
    async with both_ends(world.manifest, world.sync_urls(), "test") as both:
        source, target = both.links[M], both.links[E]
        await touched.touch(target, "people", {"person": {("3",), ("4",)}})
        async with source.transaction() as not_committed:
            async with target.transaction():
                looked = await touched.compare_touched(both.layout, M, source, target)
            raise psycopg.Rollback(not_committed)
        assert looked.mismatched == 1
        assert await touched.touched_keys(target, "people") == {"person": [("3",)]}
