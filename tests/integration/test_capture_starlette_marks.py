"""Which marked requests are captured, which refused, and what the database itself refuses."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from strangler_proxy.contrib import shadow_drivers, shadow_rows
from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from tests.integration.capture_site import INSERT, Site, prepared, serving, unfenced
from tests.integration.shadow_rig import ask, marks, sums, told


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


@pytest.mark.parametrize("how", ["forged", "expired", "replayed", "body", "recorded", "twice"])
async def test_a_mirror_mark_that_does_not_hold_runs_nothing(http: httpx.AsyncClient, site: Site, how: str) -> None:
    unfenced(site)
    before = sums(site.other_url)
    fields = marks("mirror", b"x", at=time.time() - 61) if how == "expired" else marks("mirror", b"x")
    if how == "forged":
        fields = [(fields[0][0], fields[0][1][:-1] + ("0" if fields[0][1][-1] != "0" else "1"))]
    if how == "replayed":
        assert (await http.post("/writes", content=b"x", headers=fields)).status_code == 201
    if how == "recorded":
        fields.append(("X-Strangler-Recorded", "1/1; AAAA"))
    if how == "twice":
        fields.append(fields[0])
    answer = await http.post("/writes", content=b"y" if how == "body" else b"x", headers=fields)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert told(answer, fields).effects is None
    assert sums(site.other_url) == before


async def test_a_record_mark_that_does_not_hold_is_served_as_any_request(http: httpx.AsyncClient, site: Site) -> None:
    unfenced(site)
    fields = marks("record", b"", at=time.time() - 100)
    answer = await http.post("/writes", headers=fields)
    assert answer.status_code == 201
    assert told(answer, fields).effects is None


async def test_without_a_secret_a_mirrored_write_is_refused_and_a_read_served_without_proof(made: str) -> None:
    site = Site(CapturingAsyncConnectionPool(made, min_size=1, max_size=2, open=False), made)
    app = site.application()
    stack = app.build_middleware_stack
    app.build_middleware_stack = lambda: _keyless(stack())  # type: ignore[method-assign]
    async with site.pool, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await ask(client, "mirror", "/writes")).status == 403
        read = await ask(client, "mirror", "/reads", method="GET")
        assert (read.status, read.effects) == (200, None)


def _keyless(middleware: Any) -> Any:
    middleware.keys = None
    return middleware


async def test_a_database_without_the_guard_refuses_and_proves_nothing(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE parcel (id bigserial PRIMARY KEY, name text, weight numeric)")
    site = Site(CapturingAsyncConnectionPool(database, min_size=1, max_size=2, open=False), database)
    transport = httpx.ASGITransport(site.application(), raise_app_exceptions=False)
    async with site.pool, httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        result = await ask(client, "mirror", "/writes")
        assert (result.status, result.effects) == (500, None)
        assert (await ask(client, "record", "/reads", method="GET")).effects == []


async def test_a_role_that_only_reads_needs_no_guard(made: str) -> None:
    read_only = make_conninfo(made, options="-c default_transaction_read_only=on")
    site = Site(CapturingAsyncConnectionPool(read_only, min_size=1, max_size=2, open=False), made)
    transport = httpx.ASGITransport(site.application(), raise_app_exceptions=False)
    async with site.pool, httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        read = await ask(client, "mirror", "/reads", method="GET")
        assert (read.status, read.effects) == (200, [])
        write = await ask(client, "mirror", "/writes")
        assert (write.status, write.effects) == (500, [])


async def test_the_guard_refuses_every_commit_and_opens_the_fence_to_nobody_else(made: str) -> None:
    with psycopg.connect(made) as holder, psycopg.connect(made, autocommit=True) as other:
        holder.execute(shadow_rows.ARM)
        holder.execute(INSERT)
        with pytest.raises(psycopg.DatabaseError, match="fence"):
            other.execute(INSERT)
        with pytest.raises(psycopg.DatabaseError, match="cannot be committed") as refused:
            holder.commit()
        assert refused.value.sqlstate == shadow_rows.GUARD_SQLSTATE
        assert other.execute("SELECT count(*) FROM parcel").fetchone() == (0,)
        with other.transaction():
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with pytest.raises(psycopg.DatabaseError, match="fence"), other.transaction():
                other.execute(INSERT)
            with other.transaction(force_rollback=True):
                other.execute(shadow_rows.ARM)
                other.execute(INSERT)
            with pytest.raises(psycopg.DatabaseError, match="fence"), other.transaction():
                other.execute(INSERT)
        other.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.DatabaseError, match="cannot be committed"):
            other.execute(shadow_rows.ARM)
        with other.transaction():
            other.execute("ALTER TABLE strangler.captured DISABLE TRIGGER ALL")
            other.execute("INSERT INTO strangler.captured (xact) VALUES ('3'::xid8)")
        other.execute("SET session_replication_role = origin")
        with pytest.raises(psycopg.DatabaseError, match="fence"):
            other.execute(INSERT)


@pytest.mark.parametrize("driver", shadow_drivers.UNSEEN)
async def test_a_process_with_a_driver_that_nobody_can_capture_proves_nothing(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    assert (await ask(http, "mirror", "/reads", method="GET")).effects == []
    monkeypatch.setitem(sys.modules, driver, ModuleType(driver))
    for role in ("mirror", "record"):
        read = await ask(http, role, "/reads", method="GET")
        assert (read.status, read.effects) == (200, None)
