"""A Starlette application that writes in many ways, on a database whose fence is up; what capture is tested on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.messaging import enqueue_async, schema_sql
from strangler_proxy.contrib.starlette.middleware import FenceMiddleware, RequestContextMiddleware
from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from strangler_proxy.contrib.starlette.shadow import capture_effects
from strangler_proxy.sync.statements import statement
from tests.integration.shadow_rig import KEYS, Told, ask, sums
from tests.servers import free_port

TABLES = """
CREATE TABLE parcel (id bigserial PRIMARY KEY, name text NOT NULL, weight numeric(8, 2) NOT NULL DEFAULT 0);
CREATE TABLE label (
    id bigserial PRIMARY KEY,
    parcel_id bigint NOT NULL REFERENCES parcel DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE beside (id bigserial PRIMARY KEY, text text NOT NULL);
CREATE TRIGGER strangler_fence BEFORE INSERT OR UPDATE OR DELETE ON parcel
    FOR EACH STATEMENT EXECUTE FUNCTION strangler.fence('parcels');
ALTER TABLE parcel ENABLE ALWAYS TRIGGER strangler_fence;
INSERT INTO strangler.ownership VALUES ('parcels', 'extracted', 'monolith', 4, false);
SELECT strangler.report_rows('parcel', 'parcel', '{"id": "id", "name": "name", "weight": "weight"}', '{id}');
"""
INSERT = "INSERT INTO parcel (name, weight) VALUES ('p', 1.50) RETURNING id"


class Site:
    """Ways of writing, each a route of its name; `left` are tasks that a request left behind."""

    def __init__(self, pool: CapturingAsyncConnectionPool, other_url: str) -> None:
        self.pool = pool
        self.other_url = other_url
        self.left: list[asyncio.Task[Any]] = []
        self.outcomes: list[str] = []
        self.go = asyncio.Event()

    async def writes(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            (id_,) = await (await connection.execute(INSERT)).fetchone()
            await connection.execute("INSERT INTO beside (text) VALUES ('b')")
        async with self.pool.connection() as connection:  # sees what it "committed"
            await connection.execute("UPDATE parcel SET weight = 2 WHERE id = %s", [id_])
            await enqueue_async(connection, "parcel.made", {"weight": "2"})
        async with self.pool.connection() as connection:
            (count,) = await (await connection.execute("SELECT count(*) FROM parcel")).fetchone()
        return JSONResponse({"count": count}, status_code=201)

    async def every_way(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute("WITH made AS (INSERT INTO parcel (name) VALUES ('cte') RETURNING 1) TABLE made")
            async with connection.cursor() as cursor:
                await cursor.executemany("INSERT INTO parcel (name) VALUES (%s)", [["m1"], ["m2"]])
                async with cursor.copy("COPY parcel (name) FROM STDIN") as copy:
                    await copy.write_row(["copied"])
            await connection.execute("DELETE FROM parcel WHERE name = 'm1'")
            await connection.execute("DO $$ BEGIN INSERT INTO parcel (name) VALUES ('done'); END $$")
        return JSONResponse({})

    async def commits(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute(INSERT)
            await connection.commit()
            await connection.execute("INSERT INTO parcel (name) VALUES ('never')")
            await connection.rollback()
            async with connection.transaction():
                await connection.execute("INSERT INTO parcel (name) VALUES ('in a block')")
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO parcel (name) VALUES ('lost')")
                    raise ZeroDivisionError
            names = [row[0] for row in await (await connection.execute("SELECT name FROM parcel")).fetchall()]
        return JSONResponse({"names": sorted(names)})

    async def commits_by_sql(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute(INSERT)
            await connection.execute(request.query_params["sql"])
        return JSONResponse({})

    async def commits_below(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute(INSERT)
            result = connection.pgconn.exec_(b"COMMIT")
            said = result.error_message.decode()
            with contextlib.suppress(psycopg.Error):
                await connection.execute("INSERT INTO beside (text) VALUES ('after')")
        return JSONResponse({"said": said})

    async def violates(self, request: Request) -> Response:
        try:
            async with self.pool.connection() as connection:
                await connection.execute("INSERT INTO label (parcel_id) VALUES (-1)")
        except psycopg.errors.ForeignKeyViolation:
            return JSONResponse({}, status_code=409)
        return JSONResponse({})

    async def fails(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute(INSERT)
        raise ZeroDivisionError("a fault of the view's own")

    async def behind(self, request: Request) -> Response:
        async def later() -> None:
            async with self.pool.connection() as connection:
                await connection.execute("INSERT INTO parcel (name) VALUES ('behind the answer')")

        return JSONResponse({}, background=BackgroundTask(later))

    async def streams(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"begun "
            async with self.pool.connection() as connection:
                await connection.execute(INSERT)
            yield b"made"

        return StreamingResponse(body())

    async def leaves_a_task(self, request: Request) -> Response:
        async def later(connection: Any = None) -> None:
            await self.go.wait()
            try:
                if connection is not None:
                    await connection.execute("INSERT INTO beside (text) VALUES ('left')")
                    await connection.commit()
                else:
                    async with self.pool.connection() as own:
                        await own.execute("INSERT INTO beside (text) VALUES ('left')")
                self.outcomes.append("done")
            except Exception as error:  # noqa: BLE001  (the test looks at it)
                self.outcomes.append(type(error).__name__)

        async with self.pool.connection() as connection:
            self.left += [asyncio.create_task(later()), asyncio.create_task(later(connection))]
        return JSONResponse({})

    async def elsewhere(self, request: Request) -> Response:
        """A connection that is not from the pool."""
        async with await psycopg.AsyncConnection.connect(self.other_url, autocommit=True) as connection:
            await connection.execute("INSERT INTO beside (text) VALUES ('elsewhere')")
        return JSONResponse({})

    async def waits(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute(INSERT)
            await self.go.wait()
        return JSONResponse({})

    async def locks(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            await connection.execute("SELECT pg_advisory_lock(77)")
        return JSONResponse({})

    async def together(self, request: Request) -> Response:
        async def one(number: int) -> None:
            async with self.pool.connection() as connection:
                await connection.execute("INSERT INTO parcel (name) VALUES (%s)", [f"n{number}"])

        await asyncio.gather(*[one(number) for number in range(5)])
        async with self.pool.connection(), self.pool.connection() as inner:
            await inner.execute("INSERT INTO parcel (name) VALUES ('nested')")
        return JSONResponse({})

    async def reads(self, request: Request) -> Response:
        async with self.pool.connection() as connection:
            (count,) = await (await connection.execute("SELECT count(*) FROM parcel")).fetchone()
        return JSONResponse({"count": count})

    def application(self) -> Starlette:
        views = [getattr(self, name) for name in dir(self) if name in _VIEWS]

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self.pool:
                yield

        app = Starlette(
            routes=[Route(f"/{view.__name__}", view, methods=["GET", "POST"]) for view in views],
            middleware=[
                Middleware(RequestContextMiddleware, service="parcels"),
                Middleware(FenceMiddleware, pool=lambda: self.pool, origin="extracted"),
            ],
            lifespan=lifespan,
        )
        capture_effects(app, keys=KEYS, limit_s=10.0)
        return app


_VIEWS = frozenset(name for name, member in vars(Site).items() if asyncio.iscoroutinefunction(member))


def prepared(database: str) -> str:
    """The tables, the outbox, the toolkit's schema; the monolith owns the parcels."""
    with psycopg.connect(database, autocommit=True) as connection:
        for text in (statement("schema", "schema"), shadow_rows.schema_sql().encode(), schema_sql().encode()):
            connection.execute(text)
        connection.execute(TABLES.encode())
    return database


@asynccontextmanager
async def serving(site: Site) -> AsyncGenerator[httpx.AsyncClient]:
    """The site on a real server, and a client of it."""
    port = free_port()
    config = uvicorn.Config(site.application(), port=port, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn offers no event)
        await asyncio.sleep(0.02)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
        yield client
    site.go.set()
    server.should_exit = True
    await running
    for task in site.left:
        task.cancel()
    await asyncio.gather(*site.left, return_exceptions=True)


async def mirrored(http: httpx.AsyncClient, site: Site, path: str, **more: Any) -> Told:
    """A mirrored request; the database is the same afterwards, and the pool is whole."""
    before = sums(site.other_url)
    result = await ask(http, "mirror", path, **more)
    assert sums(site.other_url) == before
    free = site.pool.get_stats()
    assert free["pool_available"] == free["pool_size"], free
    return result


def unfenced(site: Site) -> None:
    """This side owns the parcels."""
    with psycopg.connect(site.other_url) as connection:
        connection.execute("ALTER TABLE parcel DISABLE TRIGGER strangler_fence")
        connection.execute("UPDATE strangler.ownership SET owner = 'extracted', open = true")
