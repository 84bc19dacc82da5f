"""The service as an ASGI application: its parts are made here and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from extracted.payments.card_processor import CardProcessor
from extracted.payments.cashier import Cashier
from extracted.payments.exchange import answer_failure, answer_http_exception
from extracted.payments.keyring import KeyRing
from extracted.payments.routes import Parts, api_routes
from extracted.payments.settings import ChargingSettings, ServeSettings
from extracted.payments.store import Pool, Store
from strangler_proxy.contrib.starlette.health import routes as health_routes
from strangler_proxy.contrib.starlette.middleware import FenceMiddleware, RequestContextMiddleware
from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from strangler_proxy.contrib.starlette.shadow import capture_effects

SERVICE = "payments"
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
    """One application. The database and the card processor may be away: they are reached when they are needed."""
    keyring = KeyRing(settings.public_keys_dir)
    pool = make_pool(settings)
    store = Store(pool)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with make_processor(settings) as processor:
            app.state.parts = Parts(
                cashier=Cashier(store=store, processor=processor),
                store=store,
                keyring=keyring,
                webhook_secret=settings.processor_webhook_secret,
            )
            await pool.open(wait=False)
            try:
                yield
            finally:
                await pool.close(timeout=3.0)

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


def make_pool(settings: ChargingSettings) -> Pool:
    """A pool that is not open yet."""
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


def make_processor(settings: ChargingSettings) -> CardProcessor:
    """The card processor's client; close it by `async with`."""
    return CardProcessor(
        url=settings.processor_url, token=settings.processor_token, timeout_s=settings.processor_timeout_s
    )
