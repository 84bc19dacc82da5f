"""The paths below `/api/payments/`: which method does what. Rules are in `cashier`, common manners in `exchange`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from extracted.payments import fields, tokens, webhooks
from extracted.payments.cashier import Cashier
from extracted.payments.exchange import (
    Resource,
    bearer_token,
    empty_response,
    idempotency_key,
    json_response,
    parse_body,
    read_body,
    reply_response,
    resumes,
)
from extracted.payments.idempotency import Ask, fingerprint
from extracted.payments.intent import intent_document
from extracted.payments.keyring import KeyRing
from extracted.payments.money import format_amount
from extracted.payments.openapi import document
from extracted.payments.problem import Code, Problem
from extracted.payments.store import Store

PREFIX = "/api/payments"
DOCUMENT_PATH = f"{PREFIX}/openapi.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes work with."""

    cashier: Cashier
    store: Store
    keyring: KeyRing
    webhook_secret: str


def api_routes() -> list[Route]:
    """The routes of the API, and its OpenAPI document."""
    resources = {
        "/intents": Resource({"GET": list_intents, "POST": create_intent}),
        "/intents/{intent_id}": Resource({"GET": read_intent}),
        "/intents/{intent_id}/capture": Resource({"POST": capture_intent}),
        "/intents/{intent_id}/refunds": Resource({"POST": refund_intent}),
        "/webhooks/card-processor": Resource({"POST": receive_webhook}),
        "/settlements": Resource({"POST": settle}),
    }
    routes = [Route(f"{PREFIX}{path}", resource) for path, resource in resources.items()]
    return [*routes, Route(DOCUMENT_PATH, Resource({"GET": read_document}))]


async def create_intent(request: Request) -> Response:
    """201 with the new intent."""
    token = _token(request)
    key, body = idempotency_key(request), await read_body(request)

    def parse() -> fields.NewIntent:
        new = fields.parse_intent(parse_body(request, body))
        if new.order_id is not None and tokens.ORDERS not in token.scopes:
            raise Problem(Code.FORBIDDEN)
        return new

    reply = await _parts(request).cashier.create(_ask(request, token, key, "payments.create", body), parse)
    made = not reply.replayed and reply.answer.status == 201
    location = {"Location": f"{PREFIX}/intents/{json.loads(reply.answer.text)['id']}"} if made else {}
    return reply_response(reply, location)


async def capture_intent(request: Request) -> Response:
    """200 with the captured intent, or 402."""
    token = _token(request)
    intent_id = fields.parse_uuid(request.path_params["intent_id"])
    key, body = idempotency_key(request), await read_body(request)
    ask = _ask(request, token, key, f"payments.capture:{intent_id}", body)
    parse = _optional(request, body, lambda found: found)
    return reply_response(await _parts(request).cashier.capture(ask, intent_id, parse))


async def refund_intent(request: Request) -> Response:
    """201 with the refund."""
    token = _token(request)
    intent_id = fields.parse_uuid(request.path_params["intent_id"])
    key, body = idempotency_key(request), await read_body(request)
    ask = _ask(request, token, key, f"payments.refund:{intent_id}", body)
    reply = await _parts(request).cashier.refund(ask, intent_id, lambda: fields.parse_refund(parse_body(request, body)))
    return reply_response(reply)


async def read_intent(request: Request) -> Response:
    """200 with the intent."""
    token = _token(request)
    intent_id = fields.parse_uuid(request.path_params["intent_id"])
    return json_response(intent_document(await _parts(request).cashier.read(token.user_id, intent_id)))


async def list_intents(request: Request) -> Response:
    """200 with a page of the user's intents."""
    token = _token(request)
    limit, after = fields.parse_page(request.query_params)
    found, last = await _parts(request).cashier.page(token.user_id, limit=limit, after=after)
    cursor = None if last is None else fields.format_cursor(last.created_at, last.id)
    return json_response({"results": [intent_document(intent) for intent in found], "next": cursor})


async def receive_webhook(request: Request) -> Response:
    """204, whether it is new or not."""
    parts = _parts(request)
    body = await read_body(request)
    signature = request.headers.get(webhooks.SIGNATURE_HEADER, "")
    webhooks.check_signature(signature, body, secret=parts.webhook_secret, now_s=time.time())
    parse_body(request, body)
    await webhooks.receive(parts.store, webhooks.parse_event(body))
    return empty_response()


async def settle(request: Request) -> Response:
    """200 with the settlements of the day."""
    token = _token(request)
    day = fields.parse_date(parse_body(request, await read_body(request)))
    if tokens.SETTLEMENT not in token.scopes:
        raise Problem(Code.FORBIDDEN)
    async with _parts(request).store.transaction() as books:
        settlements = await books.settle(day)
        await books.require_owner()
    return json_response(
        {
            "date": day,
            "settlements": [
                {
                    "currency": made.currency,
                    "captured_total": format_amount(made.captured_total),
                    "refunded_total": format_amount(made.refunded_total),
                    "payments": made.payments,
                }
                for made in settlements
            ],
        }
    )


async def read_document(request: Request) -> Response:
    """The OpenAPI document."""
    return json_response(document())


def _token(request: Request) -> tokens.AccessToken:
    text = bearer_token(request)
    try:
        return tokens.judge(text, find_key=_parts(request).keyring.find, now_s=time.time())
    except tokens.InvalidToken:
        raise Problem(Code.INVALID_TOKEN) from None


def _ask(request: Request, token: tokens.AccessToken, key: str, route: str, body: bytes) -> Ask:
    return Ask(
        customer_id=token.user_id,
        key=key,
        fingerprint=fingerprint(request.method, route, body),
        resume=resumes(request),
    )


def _optional(request: Request, body: bytes, read: Callable[[dict[str, object]], T]) -> Callable[[], T]:
    """A reader of a body that may be empty."""
    return lambda: read(parse_body(request, body) if body else {})


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts
