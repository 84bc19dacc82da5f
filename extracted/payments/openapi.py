"""The OpenAPI 3.1 document of the service: exactly its routes, each with every answer it can give."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from extracted.payments import fields
from extracted.payments.intent import IntentStatus, RefundStatus
from extracted.payments.problem import KINDS, Code

Document = dict[str, Any]

_AMOUNT: Document = {"type": "string", "pattern": r"^\d{1,6}(\.\d{1,2})?$", "description": "0.01 to 999999.99"}
_MONEY: Document = {"type": "string", "pattern": r"^\d+\.\d{2}$"}
_CURRENCY: Document = {"enum": list(fields.CURRENCIES)}
_CARD_TOKEN: Document = {"type": "string", "minLength": 1, "maxLength": fields.CARD_TOKEN_CHARACTERS}
_FREE_TEXT: Document = {"type": ["string", "null"], "maxLength": fields.TEXT_CHARACTERS}
_ORDER_ID: Document = {"type": ["integer", "null"], "minimum": 1, "description": "needs scope `orders`"}
_ID: Document = {"type": "string", "format": "uuid"}
_TIME: Document = {"type": "string", "format": "date-time"}
_DATE: Document = {"type": "string", "format": "date"}

_BODY = (Code.INVALID, Code.MALFORMED_BODY, Code.UNSUPPORTED_MEDIA_TYPE, Code.BODY_TOO_LARGE)
_TOKEN = (Code.NOT_AUTHENTICATED, Code.INVALID_TOKEN)
_KEY = (Code.IDEMPOTENCY_KEY_MISSING, Code.IDEMPOTENCY_KEY_REUSED, Code.IN_PROGRESS)
_SERVICE = (Code.UNAVAILABLE, Code.INTERNAL_ERROR)

_INTENT_ID: Document = {"name": "intent_id", "in": "path", "required": True, "schema": _ID}
_KEY_HEADER: Document = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_SIGNATURE: Document = {
    "name": "Processor-Signature",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "description": "`t=UNIX,v1=HEX`: HMAC-SHA256 of `UNIX.BODY`",
}


@cache
def document() -> Document:
    """The document; the same object each time, not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shop: payments",
            "version": "1",
            "description": "Intents, captures, refunds, settlements. The contract is docs/reference/http-api.md.",
        },
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _paths() -> Document:
    return {
        "/api/payments/intents": {
            "get": _operation(
                "listIntents",
                "The user's payments, newest first",
                parameters=(
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
                    _query("after", {"type": "string", "description": "`next` of the page before"}),
                ),
                answer=_ok("Page"),
                problems=(*_TOKEN, Code.INVALID),
                secured=True,
            ),
            "post": _operation(
                "createIntent",
                "Begin a payment",
                parameters=(_KEY_HEADER,),
                body=_object(
                    amount=_AMOUNT,
                    currency=_CURRENCY,
                    card_token=_CARD_TOKEN,
                    description=_FREE_TEXT,
                    order_id=_ORDER_ID,
                ),
                optional=("description", "order_id"),
                answer=_created("Intent"),
                problems=(*_TOKEN, *_KEY, *_BODY, Code.FORBIDDEN),
                secured=True,
            ),
        },
        "/api/payments/intents/{intent_id}": {
            "get": _operation(
                "readIntent",
                "One payment",
                parameters=(_INTENT_ID,),
                answer=_ok("Intent"),
                problems=(*_TOKEN, Code.NOT_FOUND),
                secured=True,
            )
        },
        "/api/payments/intents/{intent_id}/capture": {
            "post": _operation(
                "captureIntent",
                "Charge the card",
                parameters=(_INTENT_ID, _KEY_HEADER),
                body={"type": "object"},
                body_required=False,
                answer=_ok("Intent"),
                problems=(
                    *_TOKEN,
                    *_KEY,
                    Code.MALFORMED_BODY,
                    Code.UNSUPPORTED_MEDIA_TYPE,
                    Code.BODY_TOO_LARGE,
                    Code.NOT_FOUND,
                    Code.CARD_DECLINED,
                    Code.NOT_CAPTURABLE,
                    Code.PROCESSOR_UNAVAILABLE,
                ),
                secured=True,
            )
        },
        "/api/payments/intents/{intent_id}/refunds": {
            "post": _operation(
                "refundIntent",
                "Give a part of it back",
                parameters=(_INTENT_ID, _KEY_HEADER),
                body=_object(amount=_AMOUNT, reason=_FREE_TEXT),
                optional=("reason",),
                answer=_ok("Refund", HTTPStatus.CREATED),
                problems=(
                    *_TOKEN,
                    *_KEY,
                    *_BODY,
                    Code.NOT_FOUND,
                    Code.NOT_REFUNDABLE,
                    Code.REFUND_TOO_LARGE,
                    Code.PROCESSOR_UNAVAILABLE,
                ),
                secured=True,
            )
        },
        "/api/payments/webhooks/card-processor": {
            "post": _operation(
                "receiveWebhook",
                "What the card processor tells",
                parameters=(_SIGNATURE,),
                body=_object(id={"type": "string"}, kind={"type": "string"}, data={"type": "object"}),
                answer=_NO_CONTENT,
                problems=(
                    Code.BAD_SIGNATURE,
                    Code.MALFORMED_BODY,
                    Code.UNSUPPORTED_MEDIA_TYPE,
                    Code.BODY_TOO_LARGE,
                ),
            )
        },
        "/api/payments/settlements": {
            "post": _operation(
                "settle",
                "Settle a day; needs scope `settlement`",
                body=_object(date=_DATE),
                answer=_ok("Settled"),
                problems=(*_TOKEN, *_BODY, Code.FORBIDDEN),
                secured=True,
            )
        },
    }


def _schemas() -> Document:
    intent = {"$ref": "#/components/schemas/Intent"}
    refund = {"$ref": "#/components/schemas/Refund"}
    return {
        "Intent": _object(
            id=_ID,
            order_id={"type": ["integer", "null"]},
            amount=_MONEY,
            currency=_CURRENCY,
            status={"enum": [status.value for status in IntentStatus]},
            captured_amount=_MONEY,
            refunded_amount=_MONEY,
            description={"type": "string"},
            created_at=_TIME,
            refunds={"type": "array", "items": refund, "description": "oldest first"},
        ),
        "Refund": _object(
            id=_ID,
            amount=_MONEY,
            status={"enum": [status.value for status in RefundStatus]},
            reason={"type": "string"},
            created_at=_TIME,
        ),
        "Page": _object(results={"type": "array", "items": intent}, next={"type": ["string", "null"]}),
        "Settled": _object(
            date=_DATE,
            settlements={
                "type": "array",
                "items": _object(
                    currency=_CURRENCY, captured_total=_MONEY, refunded_total=_MONEY, payments={"type": "integer"}
                ),
            },
        ),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "code", "detail"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "code": {"enum": sorted(code.value for code in Code)},
                "detail": {"type": "string"},
                "errors": {
                    "type": "object",
                    "description": "Only for `invalid`: every wrong field.",
                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    }


def _query(name: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _object(**properties: Document) -> Document:
    return {"type": "object", "required": list(properties), "properties": properties}


def _operation(
    name: str,
    summary: str,
    *,
    answer: tuple[int, Document],
    problems: tuple[Code, ...],
    parameters: tuple[Document, ...] = (),
    body: Document | None = None,
    body_required: bool = True,
    optional: tuple[str, ...] = (),
    secured: bool = False,
) -> Document:
    status, response = answer
    operation: Document = {
        "operationId": name,
        "summary": summary,
        "tags": ["payments"],
        "responses": {str(status): response, **_problem_responses((*problems, *_SERVICE))},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        required = [name for name in body.get("required", ()) if name not in optional]
        schema = {**body, "required": required} if required else body
        operation["requestBody"] = {"required": body_required, "content": {"application/json": {"schema": schema}}}
    if secured:
        operation["security"] = [{"accessToken": []}]
    return operation


def _problem_responses(codes: tuple[Code, ...]) -> Document:
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {
        str(status): {
            "description": " or ".join(f"`{code.value}`" for code in sharing),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, sharing in sorted(by_status.items())
    }


def _ok(schema: str, status: HTTPStatus = HTTPStatus.OK) -> tuple[int, Document]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return status.value, {"description": status.phrase, "content": content}


def _created(schema: str) -> tuple[int, Document]:
    status, response = _ok(schema, HTTPStatus.CREATED)
    return status, {**response, "headers": {"Location": {"schema": {"type": "string"}}}}


_NO_CONTENT: tuple[int, Document] = (204, {"description": "No Content"})
