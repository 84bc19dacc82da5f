"""The Starlette part on a real server, pool and fence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strangler_proxy.contrib.record import resumable
from strangler_proxy.contrib.starlette import health
from strangler_proxy.contrib.starlette.connection import RecordingAsyncConnection
from strangler_proxy.contrib.starlette.middleware import FenceMiddleware, RequestContextMiddleware
from tests.integration.contrib_project.world import World
from tests.servers import free_port

WRITE = "INSERT INTO parcel (name) VALUES ('p')"
NOTE = "INSERT INTO note (text) VALUES ('n')"


def application(pool: AsyncConnectionPool[Any]) -> Starlette:
    async def plain(request: Request) -> Response:
        async with pool.connection() as connection:
            await connection.execute(NOTE)
            await connection.execute(WRITE)
        return JSONResponse({}, status_code=201)

    async def swallowed(request: Request) -> Response:
        with contextlib.suppress(psycopg.Error):
            async with pool.connection() as connection:
                await connection.execute(WRITE)
        with contextlib.suppress(psycopg.Error):
            async with pool.connection() as connection:
                await connection.execute(NOTE)
        return JSONResponse({})

    async def swallowed_in_transaction(request: Request) -> Response:
        async with pool.connection() as connection:
            await connection.execute(NOTE)
            with contextlib.suppress(psycopg.Error):
                async with connection.transaction():
                    await connection.execute(WRITE)
        return JSONResponse({})

    async def in_a_task(request: Request) -> Response:
        with contextlib.suppress(psycopg.Error):
            await asyncio.create_task(plain(request))
        return JSONResponse({})

    async def copied(request: Request) -> Response:
        with contextlib.suppress(psycopg.Error):
            async with (
                pool.connection() as connection,
                connection.cursor() as cursor,
                cursor.copy("COPY parcel (name) FROM STDIN") as copy,
            ):
                await copy.write_row(["p"])
        return JSONResponse({})

    async def committed_before(request: Request) -> Response:
        async with pool.connection() as connection:
            await connection.execute(NOTE)
        return await plain(request)

    async def intent_before(request: Request) -> Response:
        async with pool.connection() as connection:
            await connection.execute(NOTE)
        with resumable():
            return await plain(request)

    async def streamed(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            if "late" in request.query_params:
                yield b"begun"
            async with pool.connection() as connection:
                await connection.execute(WRITE)
            yield b"made"

        return StreamingResponse(body())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield

    async def ready() -> bool:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        return True

    views = [plain, swallowed, swallowed_in_transaction, in_a_task, copied, committed_before, intent_before, streamed]
    return Starlette(
        routes=[
            *[Route(f"/{view.__name__}/{{id}}", view, methods=["GET", "POST"]) for view in views],
            *health.routes(ready, service="parcels"),
        ],
        middleware=[
            Middleware(RequestContextMiddleware, service="parcels"),
            Middleware(FenceMiddleware, pool=lambda: pool, origin="extracted", read_timeout_s=0.5),
        ],
        lifespan=lifespan,
    )


@pytest.fixture
def world(database: str) -> World:
    world = World(database).make()
    world.record(owner="extracted", epoch=3, open=True, origin="extracted")
    return world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    pool = AsyncConnectionPool[Any](
        world.url, connection_class=RecordingAsyncConnection, min_size=1, max_size=4, open=False
    )
    port = free_port()
    config = uvicorn.Config(application(pool), port=port, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn offers no event)
        await asyncio.sleep(0.02)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
        yield client
    server.should_exit = True
    await serving


FENCED = "flag=parcels; epoch=4; owner=monolith; replay="


def close(world: World) -> None:
    world.close(owner="monolith", epoch=4, origin="extracted")


@pytest.mark.parametrize(
    ("path", "replay"),
    [
        ("/plain/1", "safe"),
        ("/swallowed/1", "safe"),
        ("/swallowed_in_transaction/1", "safe"),
        ("/in_a_task/1", "safe"),
        ("/copied/1", "safe"),
        ("/streamed/1", "safe"),
        ("/intent_before/1", "resume"),
    ],
)
async def test_a_request_that_meets_the_fence_is_answered_by_it(
    http: httpx.AsyncClient, world: World, path: str, replay: str
) -> None:
    assert (await http.post(path)).status_code in (200, 201)
    parcels, notes = len(world.parcels), len(world.notes)
    assert parcels == 1
    close(world)

    answer = await http.post(path)

    assert (answer.status_code, answer.headers.get("X-Strangler-Fence")) == (409, FENCED + replay)
    assert answer.json()["status"] == 409
    assert len(world.parcels) == parcels
    assert len(world.notes) == notes + (replay != "safe"), "what is committed must agree with what the proxy is told"


async def test_a_fence_after_a_commit_is_an_answer_that_nobody_replays(
    http: httpx.AsyncClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    close(world)
    with caplog.at_level(logging.ERROR, "strangler.fence"):
        answer = await http.post("/committed_before/1")
    assert (answer.status_code, answer.headers.get("X-Strangler-Fence")) == (500, None)
    assert answer.json()["code"] == "fenced-in-part"
    (line,) = [record for record in caplog.records if record.message == "fence.met_after_commit"]
    assert line.__dict__["commits"] == {world.url.rpartition("/")[2]: 1}
    assert (world.parcels, world.notes) == ([], ["n"])


async def test_a_fence_met_after_the_headers_breaks_the_answer_off(http: httpx.AsyncClient, world: World) -> None:
    close(world)
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/streamed/1?late")


async def test_without_a_record_or_with_another_origins_a_fenced_request_gets_503(
    http: httpx.AsyncClient, world: World
) -> None:
    world.close(owner="extracted", epoch=4, origin="monolith")
    assert (await http.post("/plain/1")).status_code == 503
    world.run("DELETE FROM strangler.ownership")
    answer = await http.post("/plain/1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


async def test_a_record_that_cannot_be_read_in_time_gives_503(http: httpx.AsyncClient, world: World) -> None:
    close(world)
    async with await psycopg.AsyncConnection.connect(world.url) as other:
        await other.execute("LOCK TABLE strangler.ownership")
        async with asyncio.timeout(3):
            assert (await http.post("/plain/1")).status_code == 503


async def test_each_request_is_one_line_with_the_routes_template(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "strangler.access"):
        answer = await http.post("/plain/77", headers={"X-Request-Id": "mine-1"})
        await http.get("/healthz")
    assert answer.headers["X-Request-Id"] == "mine-1"
    (line,) = [record for record in caplog.records if record.name == "strangler.access"]
    assert (line.__dict__["route"], line.__dict__["status"]) == ("/plain/{id}", 201)
    assert 'route="/plain/{id}"' in (await http.get("/metrics")).text


async def test_health_says_whether_the_service_is_ready(http: httpx.AsyncClient) -> None:
    assert json.loads((await http.get("/healthz")).text) == {"status": "ok", "service": "parcels"}
    assert (await http.get("/readyz")).status_code == 200


async def test_readiness_is_503_when_the_check_fails_or_says_no() -> None:
    async def no() -> bool:
        return False

    async def broken() -> bool:
        raise OSError("away")

    for ready in (no, broken):
        app = Starlette(routes=health.routes(ready, service="parcels"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/readyz")).status_code == 503
