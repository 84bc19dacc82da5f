"""Schemas that stop fitting while rows flow: the stream pauses itself with a sentence, loses nothing, and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from strangler_proxy.control import sync as verbs
from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store
from tests.integration.sync_rig import ask, cut_over, in_step, ready, rig, start, status
from tests.integration.sync_world import World, build, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED

PERSON = "table 'person' in database 'monolith' (monolith): "
MEMBER = "table 'member' in database 'people' (extracted): "

DRIFTS = {
    "a column of the target is gone": (
        E, "ALTER TABLE member DROP COLUMN display_name", "ALTER TABLE member ADD COLUMN display_name text",
        MEMBER + "there is no column 'display_name'",
    ),
    "a column of the source is gone": (
        M, "ALTER TABLE person DROP COLUMN name CASCADE", "ALTER TABLE person ADD COLUMN name text NOT NULL DEFAULT ''",
        PERSON + "there is no column 'name'",
    ),
    "a column has another name": (
        M, "ALTER TABLE person RENAME name TO full_name", "ALTER TABLE person RENAME full_name TO name",
        PERSON + "there is no column 'name'",
    ),
    "a column has another type": (
        E, "ALTER TABLE member ALTER display_name TYPE bytea USING display_name::bytea",
        "ALTER TABLE member ALTER display_name TYPE text USING convert_from(display_name, 'utf8')",
        MEMBER + "column 'display_name' was text, and is bytea now",
    ),
    "a table is gone": (
        E, "ALTER TABLE member RENAME TO members", "ALTER TABLE members RENAME TO member",
        MEMBER + "there is no such table",
    ),
    "a new column keeps rows out": (
        E, "ALTER TABLE member ADD COLUMN height int NOT NULL DEFAULT 0; ALTER TABLE member ALTER height DROP DEFAULT",
        "ALTER TABLE member ALTER height SET DEFAULT 0",
        MEMBER + "new column 'height' is NOT NULL without a default",
    ),
    "the key is another one": (
        E, "ALTER TABLE member DROP CONSTRAINT member_pkey, ADD PRIMARY KEY (address)",
        "ALTER TABLE member DROP CONSTRAINT member_pkey, ADD PRIMARY KEY (member_id)",
        MEMBER + "key ['member_id'] has no unique index",
    ),
    "the fence is off": (
        E, "ALTER TABLE member DISABLE TRIGGER strangler_fence",
        "ALTER TABLE member ENABLE ALWAYS TRIGGER strangler_fence",
        MEMBER + "trigger strangler_fence is disabled, so writes are not kept out",
    ),
}  # fmt: skip


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    made.app(M).execute("INSERT INTO person (id, email, name) SELECT g, 'p' || g, 'n' FROM generate_series(1, 9) AS g")
    yield made
    made.close()


async def paused_by_itself(store: Store) -> str:
    """The reason, once there is one and nothing is carried over."""

    async def reason() -> str | None:
        pause = (await store.pauses.paused()).get("people")
        said = await status(store, "people")
        return pause.reason if pause is not None and pause.drift and said["mode"] == "paused" else None

    found: str = await until(reason, 60)
    return found


def change(world: World, origin: Origin, statement: str) -> None:
    """By whoever owns the tables."""
    with psycopg.connect(world.app_url(origin), autocommit=True) as owner:
        owner.execute(statement.encode())


@pytest.mark.parametrize("what", DRIFTS)
async def test_a_schema_that_does_not_fit_pauses_the_stream_until_it_does(world: World, what: str) -> None:
    origin, breaks, mends, says = DRIFTS[what]
    async with rig(world) as store:
        await start(store, world)
        change(world, origin, breaks)
        assert says in await paused_by_itself(store)
        app = world.app(M)
        app.execute("INSERT INTO person (id, email) VALUES (50, 'meanwhile')")
        app.execute("DELETE FROM person WHERE id = 1")
        noted = "SELECT count(*) FROM strangler.dirty WHERE pk IN ('{1}', '{50}')"
        assert world.value(M, noted) == 2, "capture goes on, whatever is gone"
        refused = await ask(store, "cutover", "people", to="extracted", stage="extracted")
        assert refused.status in ("refused", "failed")
        change(world, origin, mends)
        await in_step(world)
        await ready(store, "people", seconds=60)
        assert await store.pauses.paused() == {}


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("DROP TRIGGER strangler_capture_update ON person", "trigger strangler_capture_update is gone"),
        ("ALTER TABLE person DISABLE TRIGGER strangler_capture_update", "strangler_capture_update is disabled"),
        ("ALTER TABLE person DISABLE TRIGGER ALL", "changes are not noted"),
    ],
)
async def test_changes_that_were_not_noted_are_found_after_a_resume(world: World, breaks: str, says: str) -> None:
    async with rig(world) as store:
        await start(store, world)
        with psycopg.connect(world.urls[M], autocommit=True) as admin:
            admin.execute(breaks.encode())
        assert says in await paused_by_itself(store)
        world.app(M).execute("UPDATE person SET name = 'unnoted' WHERE id = 3")
        await verbs.resume(store, "people", by="ann", reason="")
        await in_step(world)
        await ready(store, "people", seconds=60)


async def test_a_type_that_changed_is_accepted_by_a_person(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        change(world, M, "ALTER TABLE tally ALTER hits TYPE bigint")
        assert "column 'hits' was integer, and is bigint now" in await paused_by_itself(store)
        done = await ask(store, "sync_resume", "people")
        assert done.status == "done", done.detail
        world.app(M).execute("INSERT INTO tally VALUES ('a', 1, 5000000000)")
        await in_step(world)
        await ready(store, "people", seconds=60)


async def test_a_resume_says_what_is_still_in_the_way(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        change(world, E, "ALTER TABLE member DROP COLUMN display_name")
        await paused_by_itself(store)
        done = await ask(store, "sync_resume", "people")
        assert done.status == "refused"
        assert MEMBER + "there is no column 'display_name'" in done.detail
        assert "people" in await store.pauses.paused()


async def test_a_change_that_fits_does_not_stop_anything(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        change(world, M, "ALTER TABLE person ADD COLUMN height integer; ALTER TABLE tally ADD COLUMN note text")
        change(world, E, "ALTER TABLE remark ADD COLUMN seen boolean NOT NULL DEFAULT false")
        world.app(M).execute("INSERT INTO person (id, email) VALUES (77, 'later')")
        await in_step(world)
        assert await store.pauses.paused() == {}
        done = await ask(store, "sync_resume", "people")
        assert done.status == "done", done.detail
        again = "SELECT verified AND verified_at IS NOT NULL FROM strangler.applied"
        await until(lambda: world.value(E, again), 60)
        moved = await cut_over(store, world, E, seconds=60)
        assert moved.status == "done", moved.detail


async def test_truncate_is_refused_on_both_sides_whoever_asks(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        for origin, tables in ((M, ("person, note", "tally")), (E, ("member", "remark", "tally"))):
            for role in (world.app_url(origin), world.urls[origin]):
                with psycopg.connect(role, autocommit=True) as connection:
                    connection.execute("SET client_min_messages = error")
                    for table in tables:
                        with pytest.raises(psycopg.Error, match="strangler") as refused:
                            connection.execute(f"TRUNCATE {table} CASCADE".encode())
                        assert refused.value.sqlstate == ("0A000" if origin is M else "MF001")
        world.app(M).execute("CREATE TABLE parent (id bigint PRIMARY KEY)")
        world.app(M).execute("ALTER TABLE person ADD COLUMN parent_id bigint REFERENCES parent")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='TRUNCATE of "person"'):
            world.app(M).execute("TRUNCATE parent CASCADE")
        assert world.value(M, "SELECT count(*) FROM person") == 9
        await in_step(world)
        await ready(store, "people")
