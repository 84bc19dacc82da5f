"""Copies of tables that name each other, and of rows of a megabyte."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strangler_proxy.core.manifest import Column, Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.batch import TableProgress, Wanted, run_batch
from strangler_proxy.sync.pace import Mode
from tests.integration.sync_world import MANIFEST, build
from tests.integration.test_sync_schemas import flowing

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED

TIED = """
CREATE TABLE author (id integer PRIMARY KEY, best integer, above integer);
CREATE TABLE book (id text PRIMARY KEY, author integer NOT NULL, number integer UNIQUE);
"""
TIES = """
ALTER TABLE author ADD FOREIGN KEY (best) REFERENCES book (number) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE author ADD FOREIGN KEY (above) REFERENCES author DEFERRABLE;
ALTER TABLE book ADD FOREIGN KEY (author) REFERENCES author ON DELETE CASCADE DEFERRABLE;
"""


async def test_tables_that_name_each_other_and_themselves(make_database: Callable[[str], str]) -> None:
    names = {"author": ("id", "best", "above"), "book": ("id", "author", "number")}
    moved = tuple(
        Table(monolith=name, extracted=name, key=("id",), columns=tuple(Column(monolith=c, extracted=c) for c in some))
        for name, some in names.items()
    )
    world = build(make_database, Manifest(flag="people", databases=MANIFEST.databases, tables=moved))
    for origin in Origin:
        world.app(origin).execute(TIED.encode())
    app, there = world.app(M), world.app(E)
    app.execute(TIES.encode())
    app.execute("INSERT INTO author SELECT g, NULL, CASE WHEN g < 40 THEN 40 - g END FROM generate_series(1, 40) AS g")
    app.execute("INSERT INTO book SELECT 'b' || g, g, g FROM generate_series(1, 40) AS g")
    app.execute("UPDATE author SET best = 41 - id")
    async with flowing(world) as ends:
        progress = {each.name: TableProgress(each.name) for each in ends.layout.tables}
        while not all(each.done for each in progress.values()):
            done = await run_batch(ends, progress, Wanted(mode=Mode.SNAPSHOT, limit=1000, rows=7))
            assert not done.failures
            app.execute("UPDATE author SET best = 41 - best WHERE id = 1 + (random() * 39)::integer")
        there.execute(TIES.encode())
        for statement in (
            "WITH a AS (INSERT INTO author VALUES (99, 99, 99)) INSERT INTO book VALUES ('b99', 99, 99)",
            "UPDATE author SET best = NULL; UPDATE book SET number = -number; UPDATE author SET best = -id",
            "UPDATE author SET above = 99 WHERE id > 20",
            "UPDATE author SET best = NULL, above = NULL; DELETE FROM author WHERE id IN (1, 99)",
        ):
            app.execute(statement.encode())
            done = await run_batch(ends, progress, Wanted(mode=Mode.LIVE, limit=0))
            assert not done.failures, [each.reason for each in done.failures]
            for name in names:
                query = f"SELECT string_agg(t::text, ';' ORDER BY id) FROM {name} t"
                assert world.value(M, query) == world.value(E, query)
    assert world.value(E, "SELECT count(*) FROM book") == 39
    world.close()


async def test_rows_of_a_megabyte(make_database: Callable[[str], str]) -> None:
    table = Table(
        monolith="page", extracted="page", key=("id",),
        columns=tuple(Column(monolith=c, extracted=c) for c in ("id", "body", "raw")),
    )  # fmt: skip
    world = build(make_database, Manifest(flag="people", databases=MANIFEST.databases, tables=(table,)))
    for origin in Origin:
        world.app(origin).execute(b"CREATE TABLE page (id uuid PRIMARY KEY, body text, raw bytea)")
    fill = "INSERT INTO page SELECT gen_random_uuid(), repeat('wide ', 200000), decode(repeat('00ff', 200000), 'hex')"
    world.app(M).execute(f"{fill} FROM generate_series(1, 20)".encode())
    async with flowing(world) as ends:
        progress = {"page": TableProgress("page")}
        await run_batch(ends, progress, Wanted(mode=Mode.SNAPSHOT, limit=1000, rows=4000))
        assert progress["page"].done
        world.app(M).execute(f"{fill} FROM generate_series(1, 40)".encode())
        done = await run_batch(ends, progress, Wanted(mode=Mode.LIVE, limit=0))
        assert (done.keys, done.failures) == (40, [])
    query = "SELECT count(*) || md5(string_agg(md5(p::text), '' ORDER BY id)) FROM page p"
    assert world.value(M, query) == world.value(E, query)
    world.close()
