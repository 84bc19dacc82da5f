"""Capture: every way of writing leaves dirty keys, and nothing else does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import close, connect
from tests.integration.sync_world import World, build


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    yield made
    made.close()


async def prepare(world: World) -> None:
    links = {origin: await connect(url, application="test") for origin, url in world.sync_urls().items()}
    try:
        await install(world.manifest, links)
    finally:
        await close(*links.values())


def taken(world: World, origin: Origin = Origin.MONOLITH) -> set[tuple[str, tuple[str, ...]]]:
    """Dirty keys since the last call."""
    with psycopg.connect(world.urls[origin], autocommit=True) as connection:
        rows = connection.execute("DELETE FROM strangler.dirty RETURNING tbl, pk").fetchall()
    return {(table, tuple(key)) for table, key in rows}


def people(*keys: int) -> set[tuple[str, tuple[str, ...]]]:
    return {("person", (str(key),)) for key in keys}


async def test_every_way_of_writing_notes_its_keys(world: World) -> None:
    await prepare(world)
    app = world.app(Origin.MONOLITH)
    app.execute("INSERT INTO person (id, email) SELECT g, 'p' || g FROM generate_series(1, 50) AS g")
    assert taken(world) == people(*range(1, 51)), "bulk insert"
    app.execute("UPDATE person SET name = 'x' WHERE id <= 20")
    assert taken(world) == people(*range(1, 21)), "bulk update"
    with app.cursor().copy("COPY person (id, email) FROM STDIN") as copy:
        copy.write_row((60, "copied"))
    assert taken(world) == people(60), "COPY"
    app.execute(
        "INSERT INTO person (id, email) VALUES (60, 'y'), (61, 'z') ON CONFLICT (id) DO UPDATE SET email = 'new'"
    )
    assert taken(world) == people(60, 61), "upsert"
    note = uuid.uuid4()
    app.execute("INSERT INTO note (id, person_id) VALUES (%s, 7)", (note,))
    taken(world)
    app.execute("DELETE FROM person WHERE id = 7")
    assert taken(world) == people(7) | {("note", (str(note),))}, "cascade"
    app.execute("UPDATE person SET id = 700 WHERE id = 8")
    assert taken(world) == people(8, 700), "a key that changes"
    app.execute("INSERT INTO tally VALUES ('a,\"b', 1)")
    assert taken(world) == {("tally", ('a,"b', "1"))}, "composite key"


async def test_a_write_that_leaves_moved_columns_alone_is_not_captured(world: World) -> None:
    await prepare(world)
    app = world.app(Origin.MONOLITH)
    app.execute("INSERT INTO person (id, email) VALUES (1, 'a'), (2, 'b')")
    taken(world)
    app.execute("UPDATE person SET last_seen = now()")
    app.execute("UPDATE person SET email = email, name = name")
    assert taken(world) == set()
    app.execute("UPDATE person SET last_seen = now(), name = CASE id WHEN 2 THEN 'b' ELSE name END")
    assert taken(world) == people(2)


async def test_keys_of_a_rolled_back_write_are_not_noted(world: World) -> None:
    await prepare(world)
    app = world.app(Origin.MONOLITH, autocommit=False)
    app.execute("INSERT INTO person (id, email) VALUES (1, 'a')")
    app.rollback()
    assert taken(world) == set()


async def test_truncate_is_refused(world: World) -> None:
    await prepare(world)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="TRUNCATE"):
        world.app(Origin.MONOLITH).execute("TRUNCATE tally")


async def test_an_application_cannot_turn_capture_off_with_the_marker(world: World) -> None:
    await prepare(world)
    app = world.app(Origin.MONOLITH)
    app.execute("SET strangler.applier = 'people'")
    app.execute("SET search_path = pg_temp, public")
    app.execute("INSERT INTO person (id, email) VALUES (1, 'a')")
    assert taken(world) == people(1)


async def test_installing_twice_changes_nothing_and_keeps_the_grant(world: World) -> None:
    await prepare(world)

    def triggers() -> list[Any]:
        with psycopg.connect(world.urls[Origin.MONOLITH]) as connection:
            query = "SELECT oid, tgname, tgenabled FROM pg_trigger WHERE tgname LIKE 'strangler%' ORDER BY oid"
            return connection.execute(query).fetchall()

    before = triggers()
    with psycopg.connect(world.urls[Origin.MONOLITH]) as connection:
        connection.execute("UPDATE strangler.ownership SET epoch = 9")
    await prepare(world)
    assert triggers() == before
    assert len(before) == 3 * 6 + 1 + 1, "of three tables, the partial one more, the guard of mirrored requests"
    assert world.value(Origin.MONOLITH, "SELECT epoch FROM strangler.ownership") == 9


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO member (address, display_name) VALUES ('x', '')",
        "UPDATE member SET display_name = 'x'",
        "DELETE FROM member",
        "TRUNCATE member",
        "UPDATE tally SET hits = 1 WHERE false",
        "SET session_replication_role = replica; DELETE FROM member",
    ],
)
async def test_the_side_that_is_not_the_owner_refuses_every_write(world: World, write: str) -> None:
    await prepare(world)
    url = world.urls[Origin.EXTRACTED] if "replica" in write else world.app_url(Origin.EXTRACTED)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET strangler.applier = 'people'")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(write.encode())
    assert refused.value.sqlstate == "MF001"
    assert "strangler fence: writes to" in str(refused.value)
    assert '"flag" : "people"' in (refused.value.diag.message_detail or "")
