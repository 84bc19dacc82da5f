"""A database that a former release has prepared is brought up to date by installing again, with what it had noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import close, connect
from tests.integration.sync_world import World, build

pytestmark = pytest.mark.long

M = Origin.MONOLITH

FORMER = """
ALTER TABLE strangler.dirty DROP CONSTRAINT dirty_pkey, ADD PRIMARY KEY (id);
CREATE INDEX dirty_flag ON strangler.dirty (flag, id);
CREATE FUNCTION strangler.{function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO strangler.dirty (flag, tbl, pk)
    SELECT 'people', 'tally', ARRAY[n.place, n.day::text] FROM new_rows AS n;
    PERFORM pg_notify('strangler_dirty', 'people');
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER strangler_capture_insert AFTER INSERT ON tally
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION strangler.{function}();
COMMENT ON TRIGGER strangler_capture_insert ON tally IS 'strangler 0123456789abcdef';
"""

MINE = """
CREATE FUNCTION caught() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'called as %', current_user; END$$;
CREATE FUNCTION equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.caught()';
CREATE FUNCTION equal(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT public.caught()';
CREATE FUNCTION current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT public.caught()::text';
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = equal);
CREATE OPERATOR = (LEFTARG = name, RIGHTARG = name, FUNCTION = equal);
CREATE DOMAIN public.text AS integer;
CREATE TEMPORARY TABLE new_rows (place text, day integer);
SET search_path = public, pg_catalog;
SET strangler.applier = 'people';
"""


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


def made_by_a_former_release(world: World) -> str:
    """What it had made of one table; the name of its function."""
    with psycopg.connect(world.sync_urls()[M], autocommit=True) as link:
        row = link.execute(
            "SELECT replace(proname, 'capture_insert_', 'capture_') FROM pg_proc "
            "WHERE proname LIKE 'capture_insert_tally%'"
        ).fetchone()
        assert row is not None
        link.execute(FORMER.format(function=row[0]).encode())
        return str(row[0])


def looked_up(world: World, query: str) -> list[Any]:
    with psycopg.connect(world.urls[M], autocommit=True) as link:
        return [row[0] for row in link.execute(query.encode())]


async def test_what_a_former_release_noted_is_kept_and_its_triggers_are_replaced(world: World) -> None:
    await prepare(world)
    function = made_by_a_former_release(world)
    app = world.app(M)
    app.execute("INSERT INTO tally VALUES ('before', 1)")
    await prepare(world)
    app.execute("INSERT INTO tally VALUES ('after', 2)")
    noted = looked_up(world, "SELECT pk FROM strangler.dirty ORDER BY id")
    assert noted == [["before", "1"], ["after", "2"]]
    assert looked_up(world, "SELECT indexdef FROM pg_indexes WHERE tablename = 'dirty'") == [
        "CREATE UNIQUE INDEX dirty_pkey ON strangler.dirty USING btree (flag, id)"
    ]
    functions = looked_up(world, "SELECT proname FROM pg_proc WHERE proname LIKE 'capture%tally%' ORDER BY 1")
    assert function not in functions
    assert len(functions) == 3
    assert looked_up(
        world, "SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%pg_notify%' AND proname LIKE 'capture%'"
    ) == [0]


async def test_a_function_in_the_search_path_of_a_writer_is_not_called(world: World) -> None:
    """Capture runs as the toolkit's role: what a writer puts before `pg_catalog` must not."""
    await prepare(world)
    app = world.app(M)
    app.execute(MINE)
    app.execute("INSERT INTO tally (place, day) VALUES ('a', 1)")
    app.execute("DELETE FROM tally")
    assert looked_up(world, "SELECT pk FROM strangler.dirty ORDER BY id") == [["a", "1"], ["a", "1"]]


async def test_an_update_notes_the_keys_of_before_and_after_and_each_once(world: World) -> None:
    await prepare(world)
    app = world.app(M)
    app.execute("INSERT INTO tally VALUES ('a', 1), ('b', 1), ('c', 1)")
    app.execute("INSERT INTO person (id, email) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    looked_up(world, "DELETE FROM strangler.dirty RETURNING id")
    app.execute("UPDATE tally SET place = place || 'x' WHERE place < 'c'")
    app.execute("UPDATE tally SET hits = 1 WHERE place = 'c'")
    app.execute("UPDATE person SET id = id + 1 WHERE id = 3")
    app.execute("UPDATE person SET name = 'x' WHERE id < 3")
    noted = looked_up(world, "SELECT tbl || ' ' || array_to_string(pk, ' ') FROM strangler.dirty ORDER BY 1")
    tallies = [f"tally {place} 1" for place in ("a", "ax", "b", "bx", "c")]
    assert noted == [*(f"person {key}" for key in (1, 2, 3, 4)), *tallies]
