"""Changes on a real control database: one after the other, never without an audit entry, and tampering shows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import closing

import psycopg
import pytest

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.errors import RevisionMoved, StoreUnavailable
from strangler_proxy.core.route import Cluster
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store, migrate, open_store
from tests.ports.store_samples import applied
from tests.servers import ROOT

MIGRATIONS = ROOT / "strangler_proxy" / "store" / "migrations"


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    migrate(database)
    store = open_store(database)
    await applied(store)
    yield store
    await store.close()


async def weigh(store: Store, weight: int, expected: int | None = None) -> int:
    return await store.switches.set_stage(
        "catalog", stage=Stage.CANARY, weight=weight, by="ada", reason=f"to {weight}", expected_revision=expected
    )


async def test_concurrent_changes_are_one_after_the_other(store: Store, database: str) -> None:
    other = open_store(database)
    revisions = await asyncio.gather(*(weigh((store, other)[n % 2], 100 + n) for n in range(20)))
    await other.close()
    assert sorted(revisions) == list(range(2, 22))
    entries = await store.records.history("catalog", 20)
    assert [entry.revision for entry in entries] == list(range(21, 1, -1))
    for newer, older in itertools.pairwise(entries):
        assert newer.before.get("weight", newer.after["weight"]) == older.after["weight"], "no change was lost"
    verdict = await store.records.verify_audit()
    assert (verdict.entries, verdict.broken_at) == (23, None)


async def test_of_two_who_saw_the_same_revision_one_wins(store: Store) -> None:
    results = await asyncio.gather(*(weigh(store, n, expected=1) for n in range(1, 9)), return_exceptions=True)
    assert [r for r in results if not isinstance(r, RevisionMoved)] == [2]
    assert await store.tables.revision() == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE strangler.flag SET stage = 'canary'",
        "UPDATE strangler.flag SET weight = 1 WHERE key = 'catalog'",
        "DELETE FROM strangler.route WHERE name = 'ledger'",
        "INSERT INTO strangler.cluster VALUES ('ledger', 'x', 9, '{127.0.0.1:1}')",
        "UPDATE strangler.capability SET file_text = ''",
        "UPDATE strangler.state SET revision = 99",
        "UPDATE strangler.audit SET reason = 'because'",
        "DELETE FROM strangler.audit",
        "TRUNCATE strangler.audit",
    ],
)
async def test_the_database_refuses_a_change_without_an_entry_and_any_change_of_entries(
    store: Store, database: str, statement: str
) -> None:
    connection = psycopg.connect(database, autocommit=True)
    with closing(connection), pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute(statement)
    table = await store.tables.load()
    assert (table.revision, table.flags["catalog"].stage, len(table.routes)) == (1, Stage.MONOLITH, 3)


@pytest.mark.parametrize(
    ("tampering", "broken_at", "says"),
    [
        ("UPDATE strangler.audit SET reason = 'nothing happened' WHERE id = 4", 4, "changed after it was written"),
        ("""UPDATE strangler.audit SET after = '{"weight": 1}' WHERE id = 5""", 5, "changed after"),
        ("DELETE FROM strangler.audit WHERE id = 4", 4, "entry 4 is missing"),
        ("DELETE FROM strangler.audit WHERE id = 1", 1, "entry 1 is missing"),
        ("DELETE FROM strangler.audit WHERE id > 5", 6, "entries 6 to 7 are missing"),
        ("DELETE FROM strangler.audit", 1, "entries 1 to 7 are missing"),
        ("UPDATE strangler.audit SET id = CASE id WHEN 5 THEN -5 ELSE id END", 5, "entry 5 is missing"),
        (
            "UPDATE strangler.audit SET id = -4 WHERE id = 4; UPDATE strangler.audit SET id = 4 WHERE id = 5;"
            "UPDATE strangler.audit SET id = 5 WHERE id = -4",
            4,
            "does not follow",
        ),
    ],
)
async def test_tampering_with_the_trail_is_found(
    store: Store, database: str, tampering: str, broken_at: int, says: str
) -> None:
    for weight in (10, 20, 30, 40):
        await weigh(store, weight)
    assert (await store.records.verify_audit()).broken_at is None
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(tampering)
    verdict = await store.records.verify_audit()
    assert verdict.broken_at == broken_at
    assert says in verdict.problem


async def test_a_database_without_schema_says_how_to_make_it(database: str) -> None:
    store = open_store(database)
    with pytest.raises(StoreUnavailable, match="no schema yet") as refused:
        await store.tables.load()
    assert refused.value.next_command == "strangler control --migrate-only"
    await store.close()


async def test_migrating_twice_and_at_once_applies_each_migration_once(database: str) -> None:
    done = await asyncio.gather(*(asyncio.to_thread(migrate, database) for _ in range(4)))
    (all_of_them,) = (each for each in done if each)
    assert all_of_them == sorted(each.name for each in MIGRATIONS.glob("*.sql"))


async def test_rows_of_the_schema_before_are_read_with_the_usual_policies(database: str) -> None:
    """A release that does not know policies writes neither column."""
    migrate(database)
    store = open_store(database)
    await applied(store)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("SET session_replication_role = replica")  # the audit triggers ask for an entry
        await connection.execute("UPDATE strangler.cluster SET policy = DEFAULT")
        await connection.execute("UPDATE strangler.route SET policy = DEFAULT")
        await connection.execute(
            "INSERT INTO strangler.proxy (proxy_id, revision, started_at, seen_at) VALUES ('old', 1, now(), now())"
        )
    table = await store.tables.load()
    assert table.clusters["catalog"] == Cluster(name="catalog", endpoints=table.clusters["catalog"].endpoints)
    assert {route.breaker for route in table.routes} == {BreakerPolicy()}
    assert [dict(proxy.upstreams) for proxy in await store.flags.live_proxies()] == [{}]
    await store.close()
