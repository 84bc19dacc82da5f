"""The service as an ASGI application: its parts are made here and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from extracted.auth.exchange import answer_failure, answer_http_exception
from extracted.auth.hashing import HashingPool
from extracted.auth.identity import Identity
from extracted.auth.keyring import KeyRing, load_signing_key
from extracted.auth.routes import api_routes
from extracted.auth.settings import ServeSettings
from extracted.auth.store import Pool, Store
from strangler_proxy.contrib.starlette.health import routes as health_routes
from strangler_proxy.contrib.starlette.middleware import FenceMiddleware, RequestContextMiddleware
from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from strangler_proxy.contrib.starlette.shadow import capture_effects

SERVICE = "auth"
ORIGIN = "extracted"

_POOL_WAIT_S = 3.0
_POOL_QUEUE = 200
_CONNECTION: dict[str, Any] = {
    "application_name": SERVICE,
    "connect_timeout": 3,
    "options": "-c statement_timeout=5000 -c idle_in_transaction_session_timeout=10000 -c timezone=UTC",
    "tcp_user_timeout": 5000,
}


def create_app(settings: ServeSettings) -> Starlette:
    """One application. Raises `BadSigningKey`; the database may be away, it is reached when it is needed."""
    signing_key = load_signing_key(settings.signing_key_file)
    keyring = KeyRing(settings.public_keys_dir, own=signing_key)
    pool = _make_pool(settings)
    store = Store(pool)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        hashing = HashingPool(
            threads=settings.hashing_threads, waiting=settings.hashing_waiting, iterations=settings.pbkdf2_iterations
        )
        app.state.identity = Identity(store=store, hashing=hashing, signing_key=signing_key, keyring=keyring)
        await pool.open(wait=False)
        try:
            yield
        finally:
            await pool.close(timeout=3.0)
            hashing.close()

    app = Starlette(
        routes=[*api_routes(), *health_routes(store.ready, service=SERVICE)],
        middleware=[
            Middleware(RequestContextMiddleware, service=SERVICE),
            Middleware(FenceMiddleware, pool=pool, origin=ORIGIN),
        ],
        exception_handlers={HTTPException: answer_http_exception, Exception: answer_failure},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    capture_effects(app)
    return app


def _make_pool(settings: ServeSettings) -> Pool:
    return CapturingAsyncConnectionPool(
        settings.database_url,
        kwargs=_CONNECTION,
        min_size=1,
        max_size=settings.database_pool_size,
        timeout=_POOL_WAIT_S,
        max_waiting=_POOL_QUEUE,
        max_lifetime=1800.0,
        check=CapturingAsyncConnectionPool.check_connection,
        open=False,
        name=SERVICE,
    )
