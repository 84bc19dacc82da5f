"""One side's application, as a team would write it on `contrib`: it takes payments for every flag of a site.

`POST /FLAG/pay` with `{"key", "person"}`: the intent is committed, then the provider is asked with the same key, then
its charge is recorded, with an event in the same transaction. Whoever meets the fence between provider and record is
`resumable`: the new owner goes on from the intent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import uvicorn
from psycopg import Error
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from strangler_proxy.contrib import messaging
from strangler_proxy.contrib.record import resumable
from strangler_proxy.contrib.starlette.middleware import FenceMiddleware, RequestContextMiddleware
from strangler_proxy.contrib.starlette.pool import CapturingAsyncConnectionPool
from tests.prove.orphan import end_with_parent
from tests.prove.writers import NAMES, cents_of

PAYER_DAY = 4
"""The tally of payers: no other client uses it."""


class Till:
    """Payments of one flag at one side."""

    def __init__(self, side: str, flag: str, dsn: str, provider: httpx.AsyncClient, *, tells: bool) -> None:
        self._names, self._flag, self._provider, self._tells = NAMES[side], flag, provider, tells
        self.pool = CapturingAsyncConnectionPool(
            dsn, min_size=1, max_size=3, timeout=3.0, max_waiting=50, open=False,
            kwargs={"connect_timeout": 3, "options": "-c statement_timeout=5000"},
            check=CapturingAsyncConnectionPool.check_connection,
        )  # fmt: skip

    async def pay(self, request: Request) -> Response:
        """The same key gets the same answer, whoever was asked first."""
        asked = await request.json()
        key, person = str(asked["key"]), int(asked["person"])
        try:
            charge = await self._intent(key, person)
            if charge is None:
                charge = await self._charged(key)
        except (PoolTimeout, httpx.HTTPError) as error:
            raise HTTPException(503, type(error).__name__) from error
        except Error as error:
            if error.sqlstate == "MF001":
                raise
            raise HTTPException(503, f"{error.sqlstate} {error}"[:200]) from error
        return JSONResponse({"key": key, "charge": charge}, status_code=201)

    async def _intent(self, key: str, person: int) -> str | None:
        """Committed here; the charge that is recorded already."""
        n = self._names
        cents = cents_of(key)
        async with self.pool.connection() as link:
            new = await link.execute(
                f"INSERT INTO {n['note']} (id, {n['note_person']}, amount, currency, {n['body']}, {n['at']}) "
                "VALUES (%s, %s, %s::numeric / 100, 'EUR', '{}', clock_timestamp()) ON CONFLICT (id) DO NOTHING",
                (key, person, cents),
            )
            if new.rowcount:
                await link.execute(
                    "UPDATE tally SET hits = hits + CASE place WHEN 'till' THEN %(c)s ELSE -%(c)s END "
                    "WHERE place IN ('till', 'bank') AND day = %(d)s",
                    {"c": cents, "d": PAYER_DAY},
                )
            row = await (
                await link.execute(f"SELECT {n['body']}::jsonb ->> 'charge' FROM {n['note']} WHERE id = %s", (key,))
            ).fetchone()
        return row[0] if row else None

    async def _charged(self, key: str) -> str:
        """Provider, then record, with the event. A fence that is met here is gone on from by the new owner."""
        n = self._names
        uncharged = f"{n['body']}::jsonb ->> 'charge' IS NULL"
        with resumable():
            answer = await self._provider.post(
                "/v1/charges",
                json={
                    "amount": f"{cents_of(key) / 100:.2f}",
                    "currency": "EUR",
                    "source": "tok_visa",
                    "reference": f"{self._flag}:{key}",
                },
                headers={"Idempotency-Key": f"{self._flag}:{key}"},
            )
            charge = str(answer.raise_for_status().json()["id"])
            async with self.pool.connection() as link:
                done = await link.execute(
                    f"UPDATE {n['note']} SET {n['body']} = %s WHERE id = %s AND {uncharged}",
                    (json.dumps({"charge": charge}), key),
                )
                if done.rowcount and self._tells:
                    await messaging.enqueue_async(link, "payment.made", {"key": key})
        return charge


def create_app(side: str, config: Mapping[str, Any]) -> Starlette:
    """All flags, each with the fence of its own database."""
    provider = httpx.AsyncClient(
        base_url=config["provider"],
        headers={"Authorization": f"Bearer {config['token']}"},
        timeout=httpx.Timeout(4.0, connect=1.0),
        trust_env=False,
    )
    tills = {
        lane["flag"]: Till(side, lane["flag"], lane["urls"][side], provider, tells=lane["number"] == 0)
        for lane in config["lanes"]
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(provider)
            for till in tills.values():
                await till.pool.open(wait=False)
                stack.push_async_callback(till.pool.close, 1.0)
            yield

    mounts = [
        Mount(
            f"/{flag}",
            routes=[Route("/pay", till.pay, methods=["POST"])],
            middleware=[Middleware(FenceMiddleware, pool=till.pool, origin=side)],
        )
        for flag, till in tills.items()
    ]
    return Starlette(
        routes=mounts, middleware=[Middleware(RequestContextMiddleware, service=f"shop-{side}")], lifespan=lifespan
    )


if __name__ == "__main__":
    end_with_parent()
    with open(sys.argv[2]) as file:
        app = create_app(sys.argv[1], json.load(file))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="warning", access_log=False)
