"""The first copy by COPY: every value exact, whatever is in the target already, whatever it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Iterator

import psycopg
import psycopg.types.json
import pytest
from psycopg import sql

from strangler_proxy.core.manifest import Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.batch import Done, Ends, TableProgress, Wanted, run_batch
from strangler_proxy.sync.blocks import carry, values_of
from strangler_proxy.sync.ends import both_ends
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import close, connect
from strangler_proxy.sync.pace import Mode
from strangler_proxy.sync.rows import rows_of
from tests.integration.sync_rig import rig, start
from tests.integration.sync_world import MANIFEST, World, build, columns

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED
NAMES = (
    "id",
    "word",
    "padded",
    "short",
    "data",
    "doc",
    "raw",
    "amount",
    "many",
    "flag",
    "at",
    "span",
    "place",
    "price",
)
HERE = """
CREATE TABLE thing (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text, padded char(6), short varchar(8), data bytea,
    doc jsonb, raw json, amount numeric(20, 6), many text[], flag boolean, at timestamptz, span interval, place inet,
    price float8, doubled bigint GENERATED ALWAYS AS (id * 2) STORED
);
CREATE TABLE pair (place text, day integer, word text, PRIMARY KEY (place, day));
"""
THERE = """
CREATE TABLE item (
    price float8, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text, padded text, short varchar(8),
    data bytea, doc text, raw jsonb, amount numeric, many text[], flag text, at timestamptz, span interval, place text,
    extra text NOT NULL DEFAULT 'by default'
);
CREATE TABLE pair (place varchar(60), day bigint, word text, PRIMARY KEY (place, day));
"""
NASTY = (
    "",
    "\\N",
    "\\",
    "\\\\.",
    "\\.",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "\b\f\v",
    "né ✓ 𝄞",
    "NULL",
    "'\"{},%s",
    "x\\ty",
    " end ",
)
TABLES = (
    Table(monolith="thing", extracted="item", key=("id",), columns=columns(*NAMES)),
    Table(monolith="pair", extracted="pair", key=("place", "day"), columns=columns("place", "day", "word")),
)


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    manifest = Manifest(flag="people", databases=MANIFEST.databases, tables=TABLES)
    made = build(make_database, manifest)
    made.app(M).execute(HERE.encode())
    made.app(E).execute(THERE.encode())
    yield made
    made.close()


class Copy:
    """The first copy, batch by batch."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.progress = {moved.name: TableProgress(moved.name) for moved in ends.layout.tables}

    async def batch(self, rows: int) -> Done:
        """One batch with a chunk of so many rows."""
        return await run_batch(self.ends, self.progress, Wanted(mode=Mode.SNAPSHOT, limit=1000, rows=rows))

    async def all(self, rows: int) -> list[Done]:
        """Until every table is done."""
        done = []
        while not all(table.done for table in self.progress.values()):
            done.append(await self.batch(rows))
        return done

    async def same(self) -> bool:
        """Both sides hold equal values, by the sums that verification compares."""
        sums = [
            [await rows_of(moved, origin).checksum(link, None, None) for moved in self.ends.layout.tables]
            for origin, link in ((M, self.ends.source), (E, self.ends.target))
        ]
        return sums[0] == sums[1]


@contextlib.asynccontextmanager
async def copying(world: World) -> AsyncGenerator[Copy]:
    links = {origin: await connect(url, application="test") for origin, url in world.sync_urls().items()}
    try:
        await install(world.manifest, links)
    finally:
        await close(*links.values())
    async with both_ends(world.manifest, world.sync_urls(), "copy") as both:
        await both.links[M].set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        yield Copy(Ends(layout=both.layout, origin=M, source=both.links[M], target=both.links[E]))


def things(world: World, number: int = 20) -> None:
    world.app(M).execute(
        "INSERT INTO thing (word, amount) SELECT 'w' || g, g / 7.0 FROM generate_series(1, %s) AS g", (number,)
    )


@pytest.mark.parametrize("rows", [1, 5, 1000])
async def test_every_value_arrives_exactly(world: World, rows: int) -> None:
    app = world.app(M)
    for number, word in enumerate(NASTY):
        app.execute(
            "INSERT INTO thing (word, padded, short, data, doc, raw, amount, many, flag, at, span, place, price) "
            "VALUES (%s, 'ab', 'four  ', %s, %s, %s, %s, %s, %s, now(), '1 day 2:03', '10.0.0.1', %s)",
            (
                word,
                word.encode() + b"\\\n\t\0\xff",
                psycopg.types.json.Jsonb({"k": word}),
                psycopg.types.json.Json([word]),
                "1.500000" if number % 2 else "-99999999999999.999999",
                [word, None, "NULL", ""],
                bool(number % 2),
                0.1 + number,
            ),
        )
    app.execute("INSERT INTO thing (word) VALUES (NULL)")
    async with copying(world) as copy:
        done = await copy.all(rows)
        assert sum(each.rows for each in done) == len(NASTY) + 1
        assert await copy.same()
    with psycopg.connect(world.urls[E]) as there:
        found = there.execute(
            "SELECT word, padded, short, flag, place, extra, many, data FROM item ORDER BY id"
        ).fetchall()
    assert [row[0] for row in found] == [*NASTY, None]
    assert found[1][1:6] == ("ab", "four  ", "true", "10.0.0.1/32", "by default")
    assert [row[6] for row in found[:-1]] == [[word, None, "NULL", ""] for word in NASTY]
    assert [row[7] for row in found[:-1]] == [word.encode() + b"\\\n\t\0\xff" for word in NASTY]
    assert world.value(E, "SELECT count(*) FROM strangler.dirty") == 0, "its own rows are not captured"


@pytest.mark.parametrize("rows", [1, 2, 3])
async def test_a_chunk_may_end_at_any_key(world: World, rows: int) -> None:
    for word in NASTY:
        world.app(M).execute("INSERT INTO pair VALUES (%s, 1, 'x'), (%s, 2, NULL)", (word, word))
    async with copying(world) as copy:
        done = await copy.all(rows)
        assert sum(each.rows for each in done) == 2 * len(NASTY)
        assert len(done) >= 2 * len(NASTY) // rows
        assert await copy.same()


async def test_what_the_target_has_is_made_equal_and_the_rest_of_its_columns_kept(world: World) -> None:
    things(world)
    async with copying(world) as copy:
        await copy.all(7)
        with psycopg.connect(world.sync_urls()[E], autocommit=True) as tampering:
            tampering.execute("SET strangler.applier = 'people'")
            tampering.execute("UPDATE item SET extra = 'mine'")
            tampering.execute("UPDATE item SET word = 'other' WHERE id = 3")
            tampering.execute("DELETE FROM item WHERE id IN (5, 20)")
            tampering.execute("INSERT INTO item (id, word) OVERRIDING SYSTEM VALUE VALUES (-1, 'x'), (999, 'x')")
        before = world.value(E, "SELECT xmin::text FROM item WHERE id = 4")
        copy.progress = {name: TableProgress(name) for name in copy.progress}
        await copy.all(7)
        assert await copy.same()
    assert world.value(E, "SELECT xmin::text FROM item WHERE id = 4") == before, "equal rows are not written again"
    kept = "SELECT string_agg(id || extra, ',' ORDER BY id) FROM item WHERE id IN (3, 4, 5)"
    assert world.value(E, kept) == "3mine,4mine,5by default"


async def test_without_temporary_tables_rows_go_one_way_or_another(world: World) -> None:
    things(world)
    with psycopg.connect(world.urls[E], autocommit=True) as admin:
        database = world.urls[E].rpartition("/")[2]
        admin.execute(f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC'.encode())
        async with copying(world) as copy:
            with psycopg.connect(world.sync_urls()[E], autocommit=True) as tampering:
                tampering.execute("SET strangler.applier = 'people'")
                tampering.execute("INSERT INTO item (id, word) OVERRIDING SYSTEM VALUE VALUES (12, 'other')")
            await copy.all(7)
            assert await copy.same()


async def test_a_refused_row_is_stuck_alone(world: World) -> None:
    things(world)
    world.app(E).execute("ALTER TABLE item ADD CONSTRAINT not_nine CHECK (id <> 9)")
    async with copying(world) as copy:
        done = await copy.all(6)
        assert [failure.change.key for each in done for failure in each.failures] == [("9",)]
        assert world.value(E, "SELECT count(*) FROM item") == 19
        assert world.value(E, "SELECT string_agg(pk[1], ',') FROM strangler.stuck") == "9"
        world.app(E).execute("ALTER TABLE item DROP CONSTRAINT not_nine")
        await run_batch(copy.ends, copy.progress, Wanted(mode=Mode.LIVE, limit=10, retry_stuck=True))
        assert await copy.same()


async def test_writes_before_and_after_the_cursor_meanwhile_are_all_there(world: World) -> None:
    things(world, 40)
    app = world.app(M)
    async with copying(world) as copy:
        await copy.batch(10)
        app.execute("UPDATE thing SET word = 'changed' WHERE id IN (2, 15, 30)")
        app.execute("DELETE FROM thing WHERE id IN (3, 16, 31)")
        app.execute("INSERT INTO thing (word) VALUES ('new')")
        await copy.batch(10)
        assert world.value(E, "SELECT max(id) FROM item") == 21, "what comes after the cursor waits for its chunk"
        app.execute("UPDATE thing SET word = 'again' WHERE id IN (2, 15, 39)")
        await copy.all(10)
        assert await copy.same()
        assert world.value(M, "SELECT count(*) FROM strangler.dirty") == 0


async def test_a_value_that_changes_hands_between_chunk_and_key(world: World) -> None:
    world.app(E).execute("CREATE UNIQUE INDEX ON item (word)")
    things(world, 20)
    app = world.app(M)
    async with copying(world) as copy:
        await copy.all(10)
        copy.progress["thing"] = TableProgress("thing", after_key=("10",))
        app.execute("UPDATE thing SET word = 'gone' WHERE id = 15")
        app.execute("UPDATE thing SET word = 'w15' WHERE id = 5")
        done = await copy.all(10)
        assert not [failure for each in done for failure in each.failures]
        assert await copy.same()


async def test_connections_that_break_anywhere_in_the_first_copy(world: World) -> None:
    world.app(M).execute("INSERT INTO thing (word) SELECT repeat('x', 900) FROM generate_series(1, 60000)")
    chance, killed = random.Random(4), 0
    async with rig(world) as store:
        begun = asyncio.create_task(start(store, world))
        with psycopg.connect(world.urls[M], autocommit=True) as admin:
            while not begun.done():
                await asyncio.sleep(chance.uniform(0.01, 0.25))
                if killed < 8:
                    killed += admin.execute(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                        "WHERE application_name = 'strangler sync people' AND state <> 'idle' AND query LIKE 'COPY%'"
                    ).fetchone()[0]  # type: ignore[index]
        await begun
        assert killed > 0, "nothing was tried"
        assert world.value(E, "SELECT count(*), sum(length(word)) FROM item") == 60000
        assert world.value(M, "SELECT sum(hashtext(word)) FROM thing") == world.value(
            E, "SELECT sum(hashtext(word)) FROM item"
        )


async def test_an_error_of_either_side_is_told_and_leaves_the_source_usable(database: str) -> None:
    async with (
        await psycopg.AsyncConnection.connect(database, autocommit=True) as source,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as target,
    ):
        await target.execute("CREATE TABLE few (number integer CHECK (number < 90000))")
        few = sql.SQL("few (number)")
        with pytest.raises(psycopg.errors.DivisionByZero):
            await carry(source, sql.SQL("SELECT 1 / (50000 - g) FROM generate_series(1, 100000) AS g"), target, few)
        with pytest.raises(psycopg.errors.CheckViolation):
            await carry(source, sql.SQL("SELECT g FROM generate_series(1, 400000) AS g"), target, few)
        done = await carry(source, sql.SQL("SELECT g FROM generate_series(1, 80000) AS g"), target, few)
        assert (done.rows, done.last) == (80000, b"80000\n")
        assert (await (await target.execute("SELECT count(*) FROM few")).fetchone()) == (80000,)


async def test_the_last_key_is_read_as_the_server_wrote_it(database: str) -> None:
    chance = random.Random(11)
    alphabet = "\\\\\t\n\r\b\f\vNntx0.'\"{}é𝄞 a"
    async with await psycopg.AsyncConnection.connect(database) as link:
        for _ in range(300):
            words = ["".join(chance.choices(alphabet, k=chance.randrange(6))) for _ in range(3)]
            given = [None if chance.random() < 0.1 else word for word in words]
            async with link.cursor().copy("COPY (SELECT %s::text, %s::text, %s::text) TO STDOUT", given) as copy:
                line = bytes([byte async for block in copy for byte in block])
            assert values_of(line, (0, 1, 2)) == tuple(given)
