"""The card processor's HTTP side (Starlette)."""

from __future__ import annotations

import asyncio
import hmac
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .desk import Desk, TooBusy
from .ledger import KeyReused, Ledger, Operation, UnknownCharge
from .money import to_cents
from .settings import ProcessorSettings
from .switches import Switches
from .webhooks import Courier

CURRENCIES = frozenset({"EUR", "GBP", "USD"})
NEVER_S = 120.0
"""How long a "never" lasts when the client does not hang up first."""


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def create_app(settings: ProcessorSettings) -> Starlette:
    """One application, one ledger file, one courier."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        desk = Desk(lambda: Ledger(settings.ledger))
        courier = Courier(desk, settings)
        app.state.desk, app.state.courier, app.state.token = desk, courier, settings.token
        delivery = asyncio.create_task(courier.run(), name="courier")
        try:
            yield
        finally:
            delivery.cancel()
            with suppress(asyncio.CancelledError):
                await delivery
            await desk.close()

    routes = [
        Route("/v1/charges", charge, methods=["POST"]),
        Route("/v1/charges/{charge_id}/refunds", refund, methods=["POST"]),
        Route("/v1/operations", operation, methods=["GET"]),
        Route("/v1/ledger", ledger_summary, methods=["GET"]),
        Route("/v1/switches", switches, methods=["GET", "PUT"]),
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    refusals = {
        Refused: _refused,
        KeyReused: _says(422, "this Idempotency-Key was used with other parameters"),
        UnknownCharge: _says(404, "no such charge"),
        TooBusy: _says(503, "too busy"),
    }
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=refusals)


async def charge(request: Request) -> Response:
    """`POST /v1/charges`."""
    switches_now = await _open(request)
    key, body = _key(request), await _body(request)
    amount, currency = _amount(body), _text(body, "currency", 3)
    source, reference = _text(body, "source", 64), _text(body, "reference", 255)
    if currency not in CURRENCIES:
        raise Refused(400, "currency: must be one of EUR, GBP, USD")
    decline = random.random() < switches_now.decline_rate
    await asyncio.sleep(switches_now.latency_ms / 1000)
    return await _answer(request, lambda ledger: ledger.charge(key, amount, currency, source, reference, decline))


async def refund(request: Request) -> Response:
    """`POST /v1/charges/ID/refunds`."""
    switches_now = await _open(request)
    key, body = _key(request), await _body(request)
    charge_id, amount, reference = request.path_params["charge_id"], _amount(body), _text(body, "reference", 255)
    await asyncio.sleep(switches_now.latency_ms / 1000)
    return await _answer(request, lambda ledger: ledger.refund(key, charge_id, amount, reference))


async def operation(request: Request) -> Response:
    """`GET /v1/operations?idempotency_key=K`."""
    switches_now = await _open(request)
    key = request.query_params.get("idempotency_key", "")
    await asyncio.sleep(switches_now.latency_ms / 1000)
    found = await _desk(request).run(lambda ledger: ledger.operation(key))
    if found is None:
        raise Refused(404, "no operation with this idempotency key")
    return JSONResponse(found)


async def ledger_summary(request: Request) -> Response:
    """`GET /v1/ledger`: answers while `down` too, it is for whoever checks the books."""
    _authenticate(request)
    return JSONResponse(await _desk(request).run(lambda ledger: ledger.summary()))


async def switches(request: Request) -> Response:
    """`GET` and `PUT /v1/switches`; a PUT replaces the named ones."""
    _authenticate(request)
    now = await _desk(request).run(lambda ledger: ledger.switches())
    if request.method == "PUT":
        try:
            now = now.changed(await _body(request))
        except ValueError as error:
            raise Refused(400, str(error)) from error
        await _desk(request).run(lambda ledger: ledger.set_switches(now))
        request.app.state.courier.wake()
    return JSONResponse(now.as_json())


async def alive(request: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    """The ledger can be read."""
    await asyncio.wait_for(_desk(request).run(lambda ledger: ledger.switches()), timeout=5)
    return PlainTextResponse("ready")


async def metrics(request: Request) -> Response:
    """Prometheus text."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _answer(request: Request, call: Callable[[Ledger], Operation]) -> Response:
    """Record, then answer; or, by the switch, record and never answer."""
    recorded = await _desk(request).run(call)
    request.app.state.courier.wake()
    now = await _desk(request).run(lambda ledger: ledger.switches())
    if recorded.new and random.random() < now.timeout_after_charge_rate:
        await _hang(request)
        return Response(status_code=504)
    headers = {} if recorded.new else {"Idempotent-Replay": "true"}
    return JSONResponse(recorded.body, status_code=201, headers=headers)


async def _hang(request: Request) -> None:
    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    with suppress(TimeoutError):
        await asyncio.wait_for(hung_up(), NEVER_S)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _authenticate(request: Request) -> None:
    expected = f"Bearer {request.app.state.token}".encode()
    if not hmac.compare_digest(request.headers.get("authorization", "").encode("latin-1"), expected):
        raise Refused(401, "send Authorization: Bearer with the processor's token")


async def _open(request: Request) -> Switches:
    _authenticate(request)
    now = await _desk(request).run(lambda ledger: ledger.switches())
    if now.down:
        raise Refused(503, "the card processor is down")
    return now


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 1 <= len(key) <= 255:
        raise Refused(400, "Idempotency-Key: 1 to 255 characters")
    return key


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body


def _amount(body: dict[str, Any]) -> int:
    cents = to_cents(body.get("amount"))
    if cents is None:
        raise Refused(400, 'amount: a string such as "12.50", above zero')
    return cents


def _text(body: dict[str, Any], name: str, longest: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise Refused(400, f"{name}: a string of 1 to {longest} characters")
    return value


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.message}, status_code=error.status)


def _says(status: int, message: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def say(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": message}, status_code=status)

    return say
