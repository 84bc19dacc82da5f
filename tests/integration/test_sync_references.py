"""Soft references act when the row that they name is deleted: refuse, tombstone, event."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import psycopg
import pytest

from strangler_proxy.contrib.messaging import schema_sql
from strangler_proxy.core.manifest import OnDelete, SoftReference
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Origin
from tests.integration.sync_clients import prepare
from tests.integration.sync_rig import ask, cut_over, declared, rig, start
from tests.integration.sync_world import MANIFEST, World, build, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED
GONE = "SELECT array_agg(ROW(tbl, col, value)::text ORDER BY value) FROM strangler.gone"
KEY = "ALTER TABLE tally ADD CONSTRAINT named_city FOREIGN KEY (place) REFERENCES city (code)"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'city'::regclass AND tgname LIKE 'reference%'"
REFUSED = psycopg.errors.ForeignKeyViolation


def declare(world: World, rule: OnDelete | None, references: str = "city.code", column: str = "place") -> World:
    """Have `tally` name a city (None: name nothing)."""
    named = () if rule is None else (SoftReference(column=column, references=references, on_delete=rule),)
    person, note, tally = MANIFEST.tables
    tables = (person, note, dataclasses.replace(tally, soft_references=named))
    world.manifest = dataclasses.replace(MANIFEST, tables=tables)
    return world


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    prepare(made)
    app = made.app(M)
    app.execute("CREATE TABLE city (code text PRIMARY KEY, number integer)")
    app.execute("INSERT INTO city VALUES ('sum', 1), ('bonn', 2), ('kiel', 3), ('none', NULL)")
    yield made
    made.close()


def delete(world: World, code: str) -> None:
    world.app(M).execute("DELETE FROM city WHERE code = %s", (code,))


def left(world: World) -> set[str]:
    return {row[0] for row in world.app(M).execute("SELECT code FROM city").fetchall()}


def notes(done: Operation) -> list[str]:
    return [step["detail"] for step in done.steps if step["name"] == "reference"]


async def test_a_row_that_others_name_cannot_be_deleted(world: World) -> None:
    async with rig(declare(world, OnDelete.REFUSE)) as store:
        done = await ask(store, "sync_start", "people")
        assert notes(done) == ["tally.place: deleting is refused while a row names it"]
        with pytest.raises(REFUSED, match=r"rows of city are still named by tally\.place"):
            delete(world, "sum")
        with (
            psycopg.connect(world.urls[M], autocommit=True, options="-c session_replication_role=replica") as owner,
            pytest.raises(REFUSED),
        ):
            owner.execute("DELETE FROM city")  # as rows are applied, too
        delete(world, "bonn")
        assert left(world) == {"sum", "kiel", "none"}
        world.app(M).execute("ALTER TABLE tally RENAME place TO spot")
        delete(world, "sum")  # a migration is under way: the application's deletes go on


async def test_what_is_deleted_is_known_on_both_sides(world: World) -> None:
    async with rig(declare(world, OnDelete.TOMBSTONE)) as store:
        await start(store, world)
        world.app(M).execute("DELETE FROM city WHERE code IN ('sum', 'none')")
        said = ["(city,code,none)", "(city,code,sum)"]
        await until(lambda: world.value(E, GONE) == said)
        done = await cut_over(store, world, E)
        assert done.status == "done", done.detail
        delete(world, "bonn")
        await until(lambda: world.value(E, GONE) == ["(city,code,bonn)", *said])
        await until(lambda: world.value(M, "SELECT bool_and(carried) FROM strangler.gone"))
        assert world.app(E).execute("SELECT count(*) FROM strangler.gone").fetchone() == (3,)


async def test_a_deletion_is_told_as_an_event_in_its_own_transaction(world: World) -> None:
    async with rig(declare(world, OnDelete.EVENT)) as store:
        done = await ask(store, "sync_start", "people")
        assert done.status == "failed"
        assert done.detail.startswith('soft reference tally.place to city.code: on_delete = "event" needs the outbox')
        assert world.value(M, TRIGGERS) == 0
        world.app(M).execute(schema_sql().encode())
        await start(store, world)
        app = world.app(M)
        with app.transaction(force_rollback=True):
            app.execute("DELETE FROM city WHERE code = 'kiel'")
        delete(world, "sum")
        sent = app.execute("SELECT event, data FROM outbox_message").fetchall()
        assert sent == [("city.deleted", {"table": "city", "column": "code", "value": "sum"})]
        assert world.value(M, GONE) == ["(city,code,sum)"]


async def test_a_foreign_key_refuses_by_itself_and_is_told_of(world: World) -> None:
    world.app(M).execute(KEY)
    async with rig(declare(world, OnDelete.REFUSE)) as store:
        done = await ask(store, "sync_start", "people")
        assert notes(done) == ["tally.place: deleting is refused by foreign key named_city"]
        assert world.value(M, TRIGGERS) == 0
        await declared(store, declare(world, OnDelete.EVENT))
        done = await ask(store, "sync_start", "people")
        assert notes(done) == [
            "tally.place: deleting is refused by foreign key named_city, so there is no event: drop it, and "
            "`strangler sync start people` again"
        ]
        with pytest.raises(REFUSED, match="named_city"):
            delete(world, "sum")
        assert world.value(M, GONE) is None


async def test_another_rule_takes_the_place_of_the_former_and_none_leaves_nothing(world: World) -> None:
    async with rig(declare(world, OnDelete.REFUSE)) as store:
        await ask(store, "sync_start", "people")
        await declared(store, declare(world, OnDelete.TOMBSTONE))
        await ask(store, "sync_start", "people")
        delete(world, "sum")
        assert world.value(M, GONE) == ["(city,code,sum)"]
        await declared(store, declare(world, None))
        done = await ask(store, "sync_start", "people")
        assert (done.status, notes(done)) == ("done", [])
        assert world.value(M, TRIGGERS) == 0
        assert world.value(M, "SELECT count(*) FROM pg_proc WHERE proname LIKE 'reference%'") == 0
        delete(world, "bonn")


async def test_a_privilege_that_is_missing_is_named(world: World) -> None:
    with psycopg.connect(world.urls[M], autocommit=True) as owner:
        owner.execute("CREATE TABLE town (code text PRIMARY KEY)")
        async with rig(declare(world, OnDelete.REFUSE, "town.code")) as store:
            done = await ask(store, "sync_start", "people")
            assert done.detail == (
                "soft reference tally.place to town.code: a trigger on town needs its owner's role: "
                "GRANT postgres TO test_sync"
            )
            owner.execute("ALTER TABLE town OWNER TO test_app_monolith")
            done = await ask(store, "sync_start", "people")
            assert done.status == "done", done.detail


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ("town.code", "there is no table 'town' in the monolith's database"),
        ("city.name", "table 'city' has no column 'name'"),
        ("city.number", "operator does not exist: text = integer"),
    ],
)
async def test_what_does_not_fit_is_told(world: World, references: str, said: str) -> None:
    async with rig(declare(world, OnDelete.TOMBSTONE, references)) as store:
        done = await ask(store, "sync_start", "people")
        assert done.status == "failed"
        assert done.detail == f"soft reference tally.place to {references}: {said}"
        assert not world.value(M, "SELECT to_regclass('strangler.ownership') IS NOT NULL")
