"""`sync_census`: who was seen at both sides, in code and past it, as a worker finds it in real databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store
from tests.integration.sync_rig import ask, rig, start
from tests.integration.sync_world import World, build, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    yield made
    made.close()


async def census(store: Store, **args: str) -> dict[str, Any]:
    """The operation, done; each side's document by its name."""
    done = await ask(store, "sync_census", "people", seconds=60, **args)
    assert done.status == "done", done.detail
    documents = [json.loads(step["detail"]) for step in done.steps if step["name"] == "census"]
    return {document["side"]: document for document in documents}


def session(world: World, origin: Origin, application: str) -> psycopg.Connection[Any]:
    """A session of the application's role, under a name of its own."""
    url = make_conninfo(world.app_url(origin), application_name=application)
    made = psycopg.connect(url, autocommit=True)
    world.connections.append(made)
    return made


def who(side: dict[str, Any], access: str, kind: str = "session") -> set[tuple[str, str]]:
    """(application, table) of places."""
    places = [each for each in side["places"] if (each["access"], each["kind"]) == (access, kind)]
    return {(each["application"], each["table"]) for each in places}


async def test_sessions_that_write_are_noted_by_name_however_they_write(world: World) -> None:
    async with rig(world) as store:
        first = await census(store, mode="log", triggers="yes")
        assert first["monolith"]["verdict"][0].startswith("monolith: nobody wrote these tables since ")
        with session(world, M, "psql") as psql, psql.cursor() as cursor:
            cursor.execute("INSERT INTO person (email) VALUES ('a')")
            with cursor.copy("COPY tally (place, day) FROM STDIN") as copy:
                copy.write_row(("here", 1))
        cron = session(world, M, "nightly")
        cron.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cron.execute("DELETE FROM person")
        cron.execute("COMMIT")
        quitter = session(world, M, "quitter")
        quitter.execute("BEGIN")
        quitter.execute("INSERT INTO person (email) VALUES ('never')")
        quitter.execute("ROLLBACK")
        found = (await census(store, side="monolith"))["monolith"]
    cascaded = ("nightly", "note")
    assert who(found, "write") == {("psql", "person"), ("psql", "tally"), ("nightly", "person"), cascaded}
    said = found["verdict"][0]
    assert said.startswith("monolith: 2 places wrote these tables since ")
    assert "session nightly as test_app_monolith" in said


async def test_a_session_is_noted_once_a_minute_and_nobody_waits_for_a_note(world: World) -> None:
    async with rig(world) as store:
        await census(store, mode="log", triggers="yes", side="monolith")
        one, two = session(world, M, "shared"), session(world, M, "shared")
        two.execute("SET statement_timeout = '4s'")
        one.execute("BEGIN")
        one.execute("INSERT INTO person (email) VALUES ('one')")
        two.execute("INSERT INTO person (email) VALUES ('two')")  # the note of the open transaction is in nobody's way
        for number in range(50):
            one.execute("INSERT INTO person (email) VALUES (%s)", (str(number),))
        one.execute("COMMIT")
        found = (await census(store, side="monolith"))["monolith"]
    (place,) = found["places"]
    assert 1 <= place["count"] <= 3, "by the minute, not by the statement"


async def test_the_applier_is_told_apart_and_the_verdict_says_so(world: World) -> None:
    async with rig(world) as store:
        await census(store, mode="log", triggers="yes")
        world.app(M).execute("INSERT INTO person (email) VALUES ('a'), ('b')")
        await start(store, world)
        await until(world.same)
        found = await census(store)
    assert who(found["extracted"], "write", "applier"), found["extracted"]["places"]
    assert not who(found["extracted"], "write")
    assert found["extracted"]["verdict"][0].startswith("extracted: nobody but the applier wrote these tables since ")
    assert found["monolith"]["stream_runs"]
    assert not any(each["unexplained"] for each in found["monolith"]["counters"])


async def test_sessions_that_read_are_met_by_looking_at_what_they_ran_last(world: World) -> None:
    async with rig(world) as store:
        await census(store, mode="log")
        report = session(world, E, "report")
        report.execute("SELECT * FROM member JOIN tally ON true").fetchall()
        report.execute("BEGIN")
        found = (await census(store, side="extracted"))["extracted"]
        assert not who(found, "read"), "BEGIN was the last that it ran"
        report.execute("SELECT * FROM member JOIN tally ON true").fetchall()
        found = (await census(store, side="extracted"))["extracted"]
    assert who(found, "read") == {("report", "member"), ("report", "tally")}
    assert "still read them: session report as test_app_extracted" in found["verdict"][0]


async def test_reads_that_nobody_was_seen_doing_are_told_as_unexplained(world: World) -> None:
    async with rig(world) as store:
        await census(store, mode="log", side="monolith")
        with psycopg.connect(world.app_url(M), autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM tally").fetchall()

        async def moved() -> str:
            found = (await census(store, side="monolith"))["monolith"]
            return next((line for line in found["verdict"] if "unexplained reads of tally" in line), "")

        said: str = await until(moved, 30)
    assert "and no place was seen" in said


async def test_off_takes_the_triggers_away_and_installing_leaves_them(world: World) -> None:
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgname = 'census_strangler'"
    async with rig(world) as store:
        await census(store, mode="log", triggers="yes")
        assert world.value(M, triggers) == world.value(E, triggers) == 3
        await start(store, world)
        assert world.value(M, triggers) == 3
        await census(store, mode="off")
        assert world.value(M, triggers) == world.value(E, triggers) == 0
        found = await census(store)
    assert "nobody counts here" in found["monolith"]["verdict"][0]


async def test_refusing_is_refused_while_nobody_counted_or_somebody_reads(world: World) -> None:
    refuse = {"mode": "refuse", "side": "extracted"}
    async with rig(world) as store:
        blind = await ask(store, "sync_census", "people", **refuse)
        assert (blind.status, "nobody has counted at extracted yet" in blind.detail) == ("refused", True)
        await census(store, mode="log")
        report(world, E, name="billing.close", place="billing/tasks.py:9")
        broken = await ask(store, "sync_census", "people", **refuse)
        assert broken.status == "refused"
        assert "task billing.close (billing/tasks.py:9) reads member" in broken.detail
        allowed = await census(store, **refuse, allow='["billing/*"]')
        assert allowed["extracted"]["mode"] == "refuse"
        await census(store, mode="log", allow="[]")
        confirmed = await census(store, **refuse, confirmed="yes")
        assert confirmed["extracted"]["mode"] == "refuse"


async def test_places_are_bounded_and_only_the_function_writes_them(world: World) -> None:
    async with rig(world) as store:
        await census(store, mode="log", side="extracted")
        for batch in range(3):
            report(world, E, *(place(f"task {batch}-{number}") for number in range(900)))
        found = (await census(store, side="extracted"))["extracted"]
    assert world.value(E, "SELECT count(*) FROM strangler.census") <= 2_002
    assert world.value(E, "SELECT count FROM strangler.census WHERE name = '(more than are kept)'") == 700
    assert (len(found["places"]), found["places_left_out"]) == (200, 1_801)
    for forbidden in (
        "INSERT INTO strangler.census_mode (flag, mode, tables) VALUES ('x', 'off', '{}')",
        "DELETE FROM strangler.census",
        "SELECT strangler.census_add('f','t','read','task','n','','a',1,0,now(),now())",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.app(E).execute(forbidden.encode())


def place(name: str, where: str = "billing/tasks.py:9") -> dict[str, Any]:
    """As a process tells it."""
    return {
        "flag": "people", "tbl": "member", "access": "read", "kind": "task", "name": name, "place": where, "count": 1,
        "refused": 0, "first_s": 0.0, "last_s": 0.0,
    }  # fmt: skip


def report(world: World, origin: Origin, *places: dict[str, Any], name: str = "", **one: str) -> None:
    """As `contrib.django` calls it, as the application's role."""
    told = list(places) or [place(name, one["place"])]
    document = {
        "service": "shop", "host": "h", "pid": 1, "program": "p", "age_s": 5.0, "lost": 0, "places": told,
    }  # fmt: skip
    world.app(origin).execute("SELECT strangler.census_note(%s::jsonb)", (json.dumps(document),))
