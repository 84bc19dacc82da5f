"""Effect capture in a Starlette application: whatever a mirrored request does, nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from tests.integration.capture_site import Site, mirrored, prepared, serving, unfenced
from tests.integration.shadow_rig import Told, ask, sums


@pytest.fixture
def made(database: str) -> str:
    return prepared(database)


@pytest.fixture
def site(made: str) -> Site:
    return Site(CapturingAsyncConnectionPool(made, min_size=1, max_size=4, timeout=5, open=False), made)


@pytest.fixture
async def http(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(site) as client:
        yield client


async def test_a_side_that_is_not_the_owner_runs_a_write_and_leaves_nothing(
    http: httpx.AsyncClient, site: Site
) -> None:
    result = await mirrored(http, site, "/writes")
    assert (result.status, result.answer.json()) == (201, {"count": 1})
    assert [(row["operation"], row["values"]) for row in result.of("row")] == [
        ("insert", {"id": 1, "name": "p", "weight": "1.5"}),
        ("update", {"weight": "2"}),
    ]
    assert result.of("message") == [{"event": "parcel.made", "data": {"weight": "2"}}]
    fenced = await http.post("/writes")
    assert fenced.status_code == 409, "without a mark the fence stands"


async def test_what_gives_up_for_a_lock_proves_nothing(http: httpx.AsyncClient, site: Site) -> None:
    async with await psycopg.AsyncConnection.connect(site.other_url) as another:
        await another.execute("LOCK TABLE parcel IN SHARE MODE")
        result = await mirrored(http, site, "/writes")
    assert (result.status, result.effects) == (500, None)
    assert (await mirrored(http, site, "/writes")).effects is not None


async def test_the_same_code_tells_the_same_effects_in_both_roles(http: httpx.AsyncClient, site: Site) -> None:
    unfenced(site)
    for path in ("/writes", "/every_way", "/commits", "/together"):
        with psycopg.connect(site.other_url) as connection:
            connection.execute("TRUNCATE parcel, label RESTART IDENTITY")
        mirror = await mirrored(http, site, path)
        with psycopg.connect(site.other_url) as connection:
            connection.execute("ALTER SEQUENCE parcel_id_seq RESTART")
        before = sums(site.other_url)
        record = await ask(http, "record", path)
        assert sums(site.other_url) != before, "a recorded request is performed"
        assert (mirror.status, mirror.answer.text) == (record.status, record.answer.text)
        if path == "/together":  # five at once: in any order
            assert len(mirror.of("row")) == len(record.of("row")) == 6
        else:
            assert mirror.effects == record.effects
            assert mirror.effects


async def test_rows_that_the_stream_has_brought_already_are_put_back_first(http: httpx.AsyncClient, site: Site) -> None:
    unfenced(site)
    record = await ask(http, "record", "/writes")
    assert record.answer.json() == {"count": 1}
    mirror = await mirrored(http, site, "/writes", recorded=record.values)
    assert mirror.answer.json() == {"count": 1}, "the parcel of the recorded request is not there"
    assert [row["operation"] for row in mirror.of("row")] == ["insert", "update"]


async def test_all_ways_of_writing_are_told(http: httpx.AsyncClient, site: Site) -> None:
    result = await mirrored(http, site, "/every_way")
    assert [(row["operation"], row["values"].get("name")) for row in result.of("row")] == [
        ("insert", "cte"),
        ("insert", "m1"),
        ("insert", "m2"),
        ("insert", "copied"),
        ("delete", None),
        ("insert", "done"),
    ]


async def test_commits_and_rollbacks_of_the_code_are_as_always_to_it(http: httpx.AsyncClient, site: Site) -> None:
    result = await mirrored(http, site, "/commits")
    assert result.answer.json() == {"names": ["in a block", "p"]}
    assert [row["values"]["name"] for row in result.of("row")] == ["p", "in a block"]


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT", "END", "ROLLBACK", " rollback work", "ABORT", "PREPARE TRANSACTION 'x'",
        "SELECT 1; COMMIT; INSERT INTO beside (text) VALUES ('escaped')",
        "ROLLBACK; INSERT INTO beside (text) VALUES ('escaped')",
        "SELECT E'\\''; ROLLBACK; INSERT INTO beside (text) VALUES ('escaped') --'",
        "/* x */ COMMIT", "SET CONSTRAINTS ALL IMMEDIATE",
        "SET CONSTRAINTS strangler.strangler_never_commits IMMEDIATE",
        "DO $$ BEGIN COMMIT; END $$", "TRUNCATE strangler.captured",
    ],
)  # fmt: skip
async def test_sql_that_would_end_the_transaction_is_an_error(http: httpx.AsyncClient, site: Site, sql: str) -> None:
    result = await by_sql(http, site, sql)
    assert result.status == 500
    assert result.effects is not None, "it left nothing, and that can be proved"


async def by_sql(http: httpx.AsyncClient, site: Site, text: str) -> Told:
    return await mirrored(http, site, str(httpx.URL("/commits_by_sql", params={"sql": text})))


@pytest.mark.parametrize(
    "sql",
    [
        "SAVEPOINT a", "ROLLBACK TO SAVEPOINT strangler_point", "SELECT 'COMMIT; ROLLBACK'", "BEGIN",
        "DELETE FROM strangler.captured",
    ],
)  # fmt: skip
async def test_sql_that_ends_nothing_passes(http: httpx.AsyncClient, site: Site, sql: str) -> None:
    assert (await by_sql(http, site, sql)).status == 200


async def test_a_commit_below_the_driver_meets_the_databases_own_refusal(http: httpx.AsyncClient, site: Site) -> None:
    result = await mirrored(http, site, "/commits_below")
    assert "cannot be committed" in result.answer.json()["said"]
    assert result.effects is None, "the transaction was lost, so nothing is proved"


async def test_deferred_constraints_are_told_at_the_commit(http: httpx.AsyncClient, site: Site) -> None:
    assert (await mirrored(http, site, "/violates")).status == 409


async def test_a_fault_is_answered_as_always_and_rolled_back(http: httpx.AsyncClient, site: Site) -> None:
    result = await mirrored(http, site, "/fails")
    assert result.status == 500
    assert len(result.of("row")) == 1


async def until_there(site: Site, name: str) -> None:
    async with asyncio.timeout(10):
        while True:
            with psycopg.connect(site.other_url) as connection:
                if connection.execute("SELECT 1 FROM parcel WHERE name = %s", [name]).fetchone():
                    return
            await asyncio.sleep(0.05)


async def test_what_happens_after_the_first_byte_is_rolled_back_and_told_on_neither_side(
    http: httpx.AsyncClient, site: Site
) -> None:
    unfenced(site)
    for path, text in (("/behind", "{}"), ("/streams", "begun made")):
        mirror = await mirrored(http, site, path)
        record = await ask(http, "record", path)
        assert mirror.answer.text == record.answer.text == text
        assert mirror.effects == record.effects == []
        await until_there(site, "behind the answer" if path == "/behind" else "p")


async def test_tasks_that_are_left_behind_can_do_nothing_any_more(http: httpx.AsyncClient, site: Site) -> None:
    before = sums(site.other_url)
    assert (await ask(http, "mirror", "/leaves_a_task")).status == 200
    site.go.set()
    await asyncio.gather(*site.left)
    assert site.outcomes == ["NotCaptured", "NotCaptured"]
    assert sums(site.other_url) == before


async def test_a_connection_of_ones_own_is_refused(http: httpx.AsyncClient, site: Site) -> None:
    result = await mirrored(http, site, "/elsewhere")
    assert result.status == 500


async def test_a_run_that_takes_too_long_is_cut_off_and_rolled_back(made: str) -> None:
    pool = CapturingAsyncConnectionPool(made, min_size=1, max_size=2, open=False)
    site = Site(pool, made)
    app = site.application()
    stack = app.build_middleware_stack
    app.build_middleware_stack = lambda: _short(stack())  # type: ignore[method-assign]
    before = sums(made)
    async with pool, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        result = await ask(client, "mirror", "/waits")
        assert (result.status, result.effects) == (503, [])
        assert sums(made) == before
        async with pool.connection() as connection:
            assert connection.strangler_sandbox is None


def _short(middleware: Any) -> Any:
    middleware.limit_s = 0.3
    return middleware


async def test_a_cancelled_request_is_rolled_back(made: str) -> None:
    pool = CapturingAsyncConnectionPool(made, min_size=1, max_size=1, open=False)
    site = Site(pool, made)
    before = sums(made)
    async with (
        pool,
        httpx.AsyncClient(transport=httpx.ASGITransport(site.application()), base_url="http://t") as client,
    ):
        asking = asyncio.create_task(ask(client, "mirror", "/waits"))
        await asyncio.sleep(0.5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert sums(made) == before
        async with pool.connection(timeout=5) as connection:
            assert await (await connection.execute("SELECT count(*) FROM parcel")).fetchone() == (0,)


async def test_locks_of_the_session_do_not_outlive_the_request(http: httpx.AsyncClient, site: Site) -> None:
    assert (await mirrored(http, site, "/locks")).status == 200
    with psycopg.connect(site.other_url) as connection:
        assert connection.execute("SELECT pg_try_advisory_lock(77)").fetchone() == (True,)


async def test_many_at_once_keep_to_themselves(http: httpx.AsyncClient, site: Site) -> None:
    before = sums(site.other_url)
    results = await asyncio.gather(*[ask(http, "mirror", "/writes") for _ in range(20)])
    assert {(result.status, result.answer.text) for result in results} == {(201, '{"count":1}')}
    assert {len(result.of("row")) for result in results} == {2}
    assert sums(site.other_url) == before


async def test_reads_in_the_role_mirror_prove_the_capability(http: httpx.AsyncClient, site: Site) -> None:
    result = await mirrored(http, site, "/reads", method="GET")
    assert (result.status, result.effects) == (200, [])
