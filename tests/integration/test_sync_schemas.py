"""Schemas, rows and changes made by chance: after the first copy and live batches both sides hold the same.

Equal is what PostgreSQL prints of whole rows, asked by this test; the toolkit's own sums have to agree. `SEED=1` makes
others than the usual ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from psycopg import sql

from strangler_proxy.core.manifest import Column, Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.batch import Ends, TableProgress, Wanted, run_batch
from strangler_proxy.sync.ends import both_ends
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import close, connect
from strangler_proxy.sync.pace import Mode
from strangler_proxy.sync.rows import rows_of
from tests.integration.sync_world import MANIFEST, World, build
from tests.servers import EmbeddedPostgres, create_database, drop_database

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

M, E = Origin.MONOLITH, Origin.EXTRACTED
TYPES_SQL = """
CREATE SCHEMA "Odd ""schema"" here";
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION hstore SCHEMA public;
CREATE TYPE "Odd ""schema"" here"."Mood ok" AS ENUM ('sad', 'so so', 'it''s');
CREATE TYPE pair_of AS (a numeric, b text);
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE DOMAIN code AS varchar(9) CHECK (VALUE <> 'bad');
"""
KEYS: dict[str, Sequence[str]] = {
    "smallint": ("-32768", "-1", "0", "7", "32767"),
    "integer": ("-5", "0", "3", "10", "2147483647"),
    "bigint": ("-9223372036854775808", "1", "2", "10", "9223372036854775807"),
    "text": ("", "a", "B", "ä", "a b", "ab", "a\tb", "\\N", "%s", "{1}", "Z"),
    'text COLLATE "C"': ("", "a", "B", "ä", "_", "\\"),
    "text COLLATE pg_c_utf8": ("x", "X", "é", "e", "10", "9"),
    "varchar(9)": ("a", "A", "é", "10", "9"),
    "char(4)": ("a", "ab", "B", "abcd"),
    "code": ("a", "B", "ab"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-0000-4000-8000-000000000000",
             "80000000-0000-4000-8000-000000000000", "0f000000-0000-4000-8000-000000000001"),
    "bigint GENERATED ALWAYS AS IDENTITY": ("1", "2", "3", "40"),
}  # fmt: skip
VALUES: dict[str, Sequence[str]] = {
    "numeric": ("1.0", "1.00", "1", "NaN", "-0.000", "99999999999999999999.123456789", "1e-30"),
    "numeric(12,2)": ("1.50", "-3", "9999999999.99"),
    "positive": ("1.0", "1.00", "2"),
    "jsonb": ('{"a": 1.0}', '{"a": 1.00}', '{"b": [null, "ü"]}', "null", '"x"'),
    "json": ('{"a": 1, "a": 2}', '{"a":1,"a":2}', '"\\u0000"', "[ ]"),
    "text": ("", "a", "A", "a ", "\\N", "\t\n\r\\", "né ✓ 𝄞", "x" * 3000),
    "citext": ("a", "A", "ä"),
    "varchar(9)": ("", "a", "a  "),
    "char(5)": ("a", "a  ", "abcde"),
    '"char"': ("a", "b"),
    "name": ("a", "B"),
    "text[]": ("{}", '{a,NULL,"NULL",""}', "{{a,b},{c,d}}", "[2:3]={a,b}"),
    "numeric[]": ("{1.0}", "{1.00}", "{NULL}"),
    '"Odd ""schema"" here"."Mood ok"': ("sad", "so so", "it's"),
    '"Odd ""schema"" here"."Mood ok"[]': ("{sad}", '{"so so",sad}'),
    "pair_of": ("(1.0,a)", "(1.00,a)", '(,"b c")'),
    "hstore": ("a=>1", '"a b"=>NULL', ""),
    "inet": ("10.0.0.1", "10.0.0.1/24", "::1"),
    "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    "interval": ("1 day", "24 hours", "1 mon -2 days 3.5 secs", "-1 years"),
    "int4range": ("[1,5)", "empty", "(,3]"),
    "numrange": ("[1.0,2]", "[1.00,2]"),
    "tstzrange": ("[2026-01-01 00:00+02,)", "empty"),
    "int4multirange": ("{[1,3),[5,7)}", "{}"),
    "bytea": ("\\x", "\\x00ff5c0a", "\\x00ff5c0b"),
    "point": ("(1,2)", "(1,3)"),
    "box": ("(2,2),(0,0)", "(4,1),(0,0)"),
    "bit(3)": ("101", "010"),
    "varbit": ("1", "10"),
    "money": ("1.50", "-2"),
    "tsvector": ("'a':1", "'b'"),
    "float8": ("0", "-0", "0.1", "1e300", "NaN", "Infinity"),
    "float4": ("0.1", "3.4e38"),
    "timestamptz": ("2026-01-01 00:00:00.000001+02", "infinity", "0044-03-15 BC"),
    "timestamp": ("2026-01-01 00:00:00", "-infinity"),
    "timestamptz(0)": ("2026-01-01 00:00:00.6+00",),
    "date": ("2026-02-28", "infinity"),
    "time": ("23:59:59.999999", "24:00"),
    "timetz": ("00:00+00", "01:00+01"),
    "boolean": ("t", "f"),
    "oid": ("0", "4294967295"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-0000-4000-8000-000000000000"),
    "smallint": ("1", "2"),
}  # fmt: skip
NAMES = ("plain", "Mixed", "select", "with space", 'qu"ote', "ünï", "dot.in", "br{a}ce", "$x", "o", "n", "t",
         "u", "c0")  # fmt: skip


@dataclass(frozen=True)
class Made:
    """One table: key and other columns (name and type), and which of these are unique."""

    keys: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    unique: tuple[str, ...]
    schema: str

    @property
    def types(self) -> list[str]:
        """All types."""
        return [kind for _, kind in (*self.keys, *self.columns)]

    @property
    def names(self) -> list[str]:
        """All names."""
        return [name for name, _ in (*self.keys, *self.columns)]

    def create(self) -> sql.Composed:
        """The statement that makes it, with a column that it makes itself."""
        lines = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in (*self.keys, *self.columns)
        ]
        lines.append(sql.SQL("made bigint GENERATED ALWAYS AS (1 + 1) STORED"))
        lines.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(sql.Identifier(n) for n, _ in self.keys)))
        lines += [sql.SQL("UNIQUE ({})").format(sql.Identifier(name)) for name in self.unique]
        return sql.SQL("CREATE TABLE {} ({})").format(self.identifier, sql.SQL(", ").join(lines))

    @property
    def identifier(self) -> sql.Identifier:
        """Its name."""
        return sql.Identifier(self.schema, "The table")

    def manifest(self) -> Manifest:
        """All of it moves."""
        table = Table(
            monolith=f"{self.schema}.The table",
            extracted=f"{self.schema}.The table",
            key=tuple(name for name, _ in self.keys),
            columns=tuple(Column(monolith=name, extracted=name) for name in self.names),
        )
        return Manifest(flag="people", databases=MANIFEST.databases, tables=(table,))


@st.composite
def tables(draw: st.DrawFn) -> Made:
    """A table."""
    keys = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3))
    identity = [kind for kind in keys if "IDENTITY" in kind]
    keys = [kind for kind in keys if kind not in identity] + identity[:1]
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=0, max_size=6))
    names = draw(st.permutations(NAMES))
    columns = list(zip(names[len(keys) :], kinds, strict=False))
    simple = [name for name, kind in columns if kind in ("text", "uuid", "citext", "varchar(9)", "inet", "date")]
    return Made(
        keys=tuple(zip(names, keys, strict=False)),
        columns=tuple(columns),
        unique=tuple(simple[: draw(st.integers(0, 2))]),
        schema=draw(st.sampled_from(["public", 'Odd "schema" here'])),
    )


class Writer:
    """Changes to the source by chance; what its own constraints refuse is left."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]], made: Made, chance: random.Random) -> None:
        self.connection, self.made, self.chance = connection, made, chance

    def some(self, changes: int) -> None:
        """So many changes, in a transaction of one to four each."""
        while changes > 0:
            several = self.chance.randrange(1, 5)
            try:
                with self.connection.transaction():
                    for _ in range(several):
                        self.one()
            except (psycopg.errors.IntegrityError, psycopg.DataError):
                pass  # the whole of it is undone
            changes -= several

    def one(self) -> None:
        """Insert, update, another key, delete, or two unique values that change hands."""
        kind = self.chance.choices(("insert", "update", "key", "delete", "swap"), (6, 5, 1, 2, 1))[0]
        if kind == "insert":
            names = sql.SQL(", ").join(map(sql.Identifier, self.made.names))
            values = [self.value(kind) for kind in self.made.types]
            row = sql.SQL(", ").join(values)
            self.run(
                sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT DO NOTHING").format(
                    self.made.identifier, names, row
                )
            )
        elif kind == "delete":
            self.run(sql.SQL("DELETE FROM {} {}").format(self.made.identifier, self.where()))
        elif kind == "swap" and self.made.unique:
            self.swap(self.made.unique[0])
        else:
            among = self.made.columns if kind != "key" else [k for k in self.made.keys if "IDENTITY" not in k[1]]
            if among:
                name, kind = self.chance.choice(among)
                self.run(
                    sql.SQL("UPDATE {} SET {} = {} {}").format(
                        self.made.identifier, sql.Identifier(name), self.value(kind), self.where()
                    )
                )

    def swap(self, column: str) -> None:
        """The first two rows have each other's value."""
        rows = self.connection.execute(
            sql.SQL("SELECT ctid::text, {}::text FROM {} ORDER BY 1 LIMIT 2").format(
                sql.Identifier(column), self.made.identifier
            )
        ).fetchall()
        if len(rows) < 2:
            return
        cast = sql.SQL("::" + dict(self.made.columns)[column])
        (one, first), (two, second) = rows
        update = sql.SQL("UPDATE {} SET {} = {} WHERE ctid = {}")
        for ctid, value in ((one, None), (two, first)):
            self.run(
                update.format(
                    self.made.identifier, sql.Identifier(column), sql.Literal(value) + cast, sql.Literal(ctid)
                )
            )
        where = sql.SQL("UPDATE {0} SET {1} = {2} WHERE ctid = (SELECT ctid FROM {0} WHERE {1} IS NULL LIMIT 1)")
        self.run(where.format(self.made.identifier, sql.Identifier(column), sql.Literal(second) + cast))

    def where(self) -> sql.Composed:
        """One row, or all of them now and then."""
        if self.chance.random() < 0.05:
            return sql.Composed([])
        return sql.SQL("WHERE ctid = (SELECT ctid FROM {} OFFSET {} LIMIT 1)").format(
            self.made.identifier, sql.Literal(self.chance.randrange(6))
        )

    def value(self, kind: str) -> sql.Composable:
        """A literal."""
        if kind in KEYS and kind not in VALUES:
            return sql.Literal(self.chance.choice(KEYS[kind]))
        return sql.Literal(self.chance.choice([*VALUES[kind], None]))

    def run(self, query: sql.Composed) -> None:
        """Execute it."""
        self.connection.execute(query.as_bytes(self.connection))


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres) -> Iterator[World]:
    urls: list[str] = []

    def make(hint: str) -> str:
        urls.append(create_database(postgres, hint))
        return urls[-1]

    made = build(make, MANIFEST)
    for origin in Origin:
        with psycopg.connect(made.urls[origin], autocommit=True) as connection:
            connection.execute(TYPES_SQL.encode())
            for role in ("test_app_monolith", "test_app_extracted", "test_sync"):
                if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None:
                    connection.execute(f'GRANT ALL ON SCHEMA "Odd ""schema"" here" TO {role}'.encode())
    yield made
    made.close()
    for url in urls:
        drop_database(postgres, url)


@contextlib.asynccontextmanager
async def flowing(world: World) -> AsyncGenerator[Ends]:
    """Capture and fence installed, and what batches run on."""
    links = {origin: await connect(url, application="test") for origin, url in world.sync_urls().items()}
    try:
        await install(world.manifest, links)
    finally:
        await close(*links.values())
    async with both_ends(world.manifest, world.sync_urls(), "schemas") as both:
        await both.links[M].set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        yield Ends(layout=both.layout, origin=M, source=both.links[M], target=both.links[E])


async def copied(world: World, made: Made, chance: random.Random) -> None:
    """First copy with changes between its chunks, then changes and live batches; equal after each of these."""
    world.manifest = made.manifest()
    with psycopg.connect(world.app_url(M), autocommit=True) as connection:
        writer = Writer(connection, made, chance)
        async with flowing(world) as ends:
            moved = ends.layout.tables[0]
            progress = {moved.name: TableProgress(moved.name)}
            while not progress[moved.name].done:
                wanted = Wanted(mode=Mode.SNAPSHOT, limit=1000, rows=chance.randrange(1, 8))
                done = await run_batch(ends, progress, wanted)
                assert not done.failures or made.unique, [each.reason for each in done.failures]
                writer.some(chance.randrange(4))
            for _ in range(3):
                writer.some(chance.randrange(9))
                done = await run_batch(ends, progress, Wanted(mode=Mode.LIVE, limit=0, retry_stuck=True))
                assert not done.failures, [each.reason for each in done.failures]
                assert rows(world, made, M) == rows(world, made, E)
                links = ((M, ends.source), (E, ends.target))
                sums = [await rows_of(moved, side).checksum(link, None, None) for side, link in links]
                assert sums[0] == sums[1]


def rows(world: World, made: Made, origin: Origin) -> list[tuple[object, ...]]:
    """All values as PostgreSQL prints them."""
    with psycopg.connect(world.urls[origin], autocommit=True) as connection:
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in made.names)
        query = sql.SQL("SELECT {} FROM {}").format(texts, made.identifier)
        return sorted(connection.execute(query.as_bytes(connection)).fetchall(), key=repr)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "40")), deadline=None, derandomize="SEED" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], database=None,
    phases=[Phase.generate],
)  # fmt: skip
@given(made=tables(), chance=st.randoms(use_true_random=False), first=st.integers(0, 20))
def test_whatever_the_schema_both_sides_hold_the_same(
    world: World, made: Made, chance: random.Random, first: int
) -> None:
    for origin in Origin:
        with psycopg.connect(world.app_url(origin), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(made.identifier))
            connection.execute(made.create().as_bytes(connection))
        with psycopg.connect(world.urls[origin], autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS strangler CASCADE")
    with psycopg.connect(world.app_url(M), autocommit=True) as connection:
        Writer(connection, made, chance).some(first)
    asyncio.run(copied(world, made, chance))


if "SEED" in os.environ:
    seed(int(os.environ["SEED"]))(test_whatever_the_schema_both_sides_hold_the_same)
