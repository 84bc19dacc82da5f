"""Row effects as PostgreSQL itself tells them, after `strangler sync` has prepared both sides, as the applications."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import close, connect
from tests.integration.shadow_rig import sums
from tests.integration.sync_world import World, build

NOTE = uuid.UUID(int=7)
WRITES = {
    Origin.MONOLITH: (
        "INSERT INTO person (id, email, name, last_seen) VALUES (7, 'ada@example.org', 'Ada', now())",
        f"INSERT INTO note (id, person_id, amount, body) VALUES ('{NOTE}', 7, 1.50, '{{\"a\": 1}}')",
        "UPDATE person SET last_seen = clock_timestamp() WHERE id = 7",
        "UPDATE person SET name = 'Ada L.', email = email WHERE id = 7",
        "DELETE FROM person WHERE id = 7",
    ),
    Origin.EXTRACTED: (
        "INSERT INTO member VALUES (7, 'ada@example.org', 'Ada')",
        f"INSERT INTO remark VALUES ('{NOTE}', 7, 1.5, 'EUR', '{{\"a\": 1}}', clock_timestamp())",
        "UPDATE member SET display_name = 'Ada L.' WHERE member_id = 7",
        f"DELETE FROM remark WHERE id = '{NOTE}'",
        "DELETE FROM member WHERE member_id = 7",
    ),
}


@pytest.fixture
async def world(make_database: Callable[[str], str]) -> AsyncIterator[World]:
    world = build(make_database)
    links = {origin: await connect(url, application="test") for origin, url in world.sync_urls().items()}
    try:
        await install(world.manifest, links)
    finally:
        await close(*links.values())
    yield world
    world.close()


@pytest.fixture(params=list(Origin), ids=lambda origin: origin.value)
def side(request: pytest.FixtureRequest, world: World) -> Iterator[tuple[Origin, psycopg.Connection[Any]]]:
    """A side in the middle of a mirrored request, as its application; the extracted one's fence is up."""
    with psycopg.connect(world.app_url(request.param)) as connection:
        connection.execute(shadow_rows.ARM)
        connection.execute(shadow_rows.ARM_SETTINGS)
        yield request.param, connection
        connection.rollback()


def read(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    row = connection.execute(shadow_rows.READ_ROWS).fetchone()
    assert row is not None
    return [effect["detail"] for effect in shadow_rows.effects_of(row[0])]


def test_both_sides_tell_the_same_rows_under_the_extracted_sides_names(
    side: tuple[Origin, psycopg.Connection[Any]],
) -> None:
    origin, connection = side
    for statement in WRITES[origin]:
        connection.execute(statement.encode())
    told = read(connection)
    content = told[1]["values"].pop("content")
    assert content in ({"a": 1}, '{"a": 1}'), "jsonb on one side, text on the other"
    if origin is Origin.MONOLITH:
        connection.execute(shadow_rows.CHECK_DEFERRED)
    key, note = {"member_id": 7}, {"id": str(NOTE)}
    remark = {**note, "member_id": 7, "amount": "1.5", "currency": "EUR", "at": "(now)"}
    deleted: list[dict[str, Any]] = [
        {"table": "remark", "operation": "delete", "key": note, "values": {}},
        {"table": "member", "operation": "delete", "key": key, "values": {}},
    ]
    inserted = {**key, "address": "ada@example.org", "display_name": "Ada"}
    assert told[:3] == [
        {"table": "member", "operation": "insert", "key": key, "values": inserted},
        {"table": "remark", "operation": "insert", "key": note, "values": remark},
        {"table": "member", "operation": "update", "key": key, "values": {"display_name": "Ada L."}},
    ]
    assert sorted(told[3:], key=lambda row: row["table"]) == sorted(deleted, key=lambda row: row["table"])
    assert read(connection) == [], "told once"


def test_a_rollback_to_a_savepoint_takes_back_what_was_told(side: tuple[Origin, psycopg.Connection[Any]]) -> None:
    _, connection = side
    with connection.transaction():
        connection.execute("INSERT INTO tally (place, day, hits) VALUES ('kept', 1, 1)")
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO tally (place, day, hits) VALUES ('lost', 1, 1)")
    assert [row["key"] for row in read(connection)] == [{"place": "kept", "day": 1}]


def test_more_rows_than_an_answer_can_tell_are_said_to_be_too_many(
    side: tuple[Origin, psycopg.Connection[Any]],
) -> None:
    _, connection = side
    connection.execute(
        "INSERT INTO tally (place, day, hits) SELECT repeat('x', 30), g, 0 FROM generate_series(1, 5000) g"
    )
    with pytest.raises(shadow_rows.RowsTooLarge):
        read(connection)
    connection.execute("INSERT INTO tally (place, day, hits) VALUES ('after', 1, 1)")
    assert len(read(connection)) == 1


def test_without_a_mark_nothing_is_told(world: World) -> None:
    app = world.app(Origin.MONOLITH, autocommit=False)
    app.execute("INSERT INTO tally (place, day, hits) VALUES ('a', 1, 1)")
    assert read(app) == []
    app.rollback()


def recorded(world: World, *statements: str) -> str:
    """What a recorded request at the monolith says for whoever has to put it back; it is committed."""
    app = world.app(Origin.MONOLITH, autocommit=False)
    app.execute(shadow_rows.RECORD_SETTINGS)
    for statement in statements:
        app.execute(statement.encode())
    row = app.execute(shadow_rows.READ_ROWS).fetchone()
    assert row is not None
    app.commit()
    return json.dumps([effect["undo"] for effect in shadow_rows.effects_of(row[0])])


def test_rows_are_put_back_on_the_other_side_whether_they_have_arrived_or_not(world: World) -> None:
    before = (
        "INSERT INTO member VALUES (1, 'old@example.org', 'Old'), (2, 'gone@example.org', 'Gone')",
        "INSERT INTO tally VALUES ('here', 1, 5)",
    )
    with psycopg.connect(world.urls[Origin.MONOLITH]) as monolith:
        monolith.execute("INSERT INTO person (id, email, name) VALUES (1, 'old@example.org', 'Old')")
        monolith.execute("INSERT INTO person (id, email, name) VALUES (2, 'gone@example.org', 'Gone')")
        monolith.execute("INSERT INTO tally VALUES ('here', 1, 5)")
    undo = recorded(
        world,
        "UPDATE person SET name = 'New', email = 'new@example.org' WHERE id = 1",
        "DELETE FROM person WHERE id = 2",
        "INSERT INTO person (id, email) VALUES (3, 'gone@example.org')",
        "UPDATE person SET name = 'Three' WHERE id = 3",
        "UPDATE tally SET hits = hits + 1",
    )
    arrived = (
        "UPDATE member SET display_name = 'New', address = 'new@example.org' WHERE member_id = 1",
        "DELETE FROM member WHERE member_id = 2",
        "INSERT INTO member VALUES (3, 'gone@example.org', 'Three')",
        "UPDATE tally SET hits = 6",
    )
    with psycopg.connect(world.urls[Origin.EXTRACTED], autocommit=True) as extracted:
        extracted.execute("ALTER TABLE member DISABLE TRIGGER ALL")
        extracted.execute("ALTER TABLE tally DISABLE TRIGGER ALL")
        for statement in before:
            extracted.execute(statement.encode())
    for statements in ((), arrived):
        with psycopg.connect(world.urls[Origin.EXTRACTED], autocommit=True) as extracted:
            for statement in statements:
                extracted.execute(statement.encode())
        state = sums(world.urls[Origin.EXTRACTED])
        with psycopg.connect(world.app_url(Origin.EXTRACTED)) as app:
            app.execute(shadow_rows.ARM)
            app.execute(shadow_rows.ARM_SETTINGS)
            assert app.execute(shadow_rows.REWIND, [undo]).fetchone() == (0,)
            rows = app.execute("SELECT member_id, address, display_name FROM member ORDER BY 1").fetchall()
            assert rows == [(1, "old@example.org", "Old"), (2, "gone@example.org", "Gone")]
            assert app.execute("SELECT hits FROM tally").fetchone() == (5,)
            assert read(app) == [], "putting back is no effect"
            app.rollback()
        assert sums(world.urls[Origin.EXTRACTED]) == state


def test_rows_are_put_back_in_a_mirrored_transaction_only(world: World) -> None:
    app = world.app(Origin.EXTRACTED)
    with pytest.raises(psycopg.DatabaseError, match="mirrored"):
        app.execute(shadow_rows.REWIND, ["[]"])


def test_an_application_cannot_turn_the_guard_off(world: World) -> None:
    app = world.app(Origin.EXTRACTED)
    for statement in (
        "ALTER TABLE strangler.captured DISABLE TRIGGER ALL",
        "DROP TABLE strangler.captured",
        "UPDATE strangler.captured SET xact = '1'",
        "DELETE FROM strangler.captured",
        "CREATE OR REPLACE FUNCTION strangler.is_captured() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    ):
        with pytest.raises(psycopg.DatabaseError, match=r"permission denied|must be owner"):
            app.execute(statement.encode())
