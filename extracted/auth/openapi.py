"""The OpenAPI 3.1 document of the service: exactly its routes, each with every answer it can give."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from extracted.auth import fields
from extracted.auth.problem import KINDS, Code

Document = dict[str, Any]

_EMAIL: Document = {"type": "string", "format": "email", "maxLength": fields.EMAIL_CHARACTERS}
_NAME: Document = {"type": "string", "minLength": 1, "maxLength": fields.NAME_CHARACTERS}
_PASSWORD: Document = {"type": "string", "format": "password", "minLength": 1}
_NEW_PASSWORD: Document = {**_PASSWORD, "minLength": fields.PASSWORD_CHARACTERS}
_TEXT: Document = {"type": "string", "minLength": 1}

_BODY = (Code.INVALID, Code.MALFORMED_BODY, Code.UNSUPPORTED_MEDIA_TYPE, Code.BODY_TOO_LARGE)
_TOKEN = (Code.NOT_AUTHENTICATED, Code.INVALID_TOKEN)
_SERVICE = (Code.UNAVAILABLE, Code.INTERNAL_ERROR)


@cache
def document() -> Document:
    """The document; the same object each time, not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shop: auth",
            "version": "1",
            "description": "Accounts, sign-in and access tokens. The contract is docs/reference/http-api.md.",
        },
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _paths() -> Document:
    return {
        "/api/auth/register": {
            "post": _operation(
                "register",
                "Make an account",
                body=_object(email=_EMAIL, password=_NEW_PASSWORD, name=_NAME),
                answer=_created("UserAnswer"),
                problems=(*_BODY, Code.EMAIL_TAKEN, Code.BUSY),
            )
        },
        "/api/auth/token": {
            "post": _operation(
                "signIn",
                "Sign in with a password",
                body=_object(email=_TEXT, password=_PASSWORD),
                answer=_ok("SessionAnswer"),
                problems=(*_BODY, Code.INVALID_CREDENTIALS, Code.TOO_MANY_ATTEMPTS, Code.BUSY),
            )
        },
        "/api/auth/token/refresh": {
            "post": _operation(
                "refresh",
                "Get another access token",
                body=_object(refresh_token=_TEXT),
                answer=_ok("AccessAnswer"),
                problems=(*_BODY, Code.INVALID_REFRESH_TOKEN),
            )
        },
        "/api/auth/sign-out": {
            "post": _operation(
                "signOut",
                "Revoke a refresh token, known or not",
                body=_object(refresh_token=_TEXT),
                answer=_NO_CONTENT,
                problems=_BODY,
            )
        },
        "/api/auth/me": {
            "get": _operation(
                "readMe",
                "The user of the access token",
                answer=_ok("UserAnswer"),
                problems=(*_TOKEN, Code.NOT_YET_REPLICATED),
                secured=True,
            ),
            "patch": _operation(
                "renameMe",
                "Change the name",
                body=_object(name=_NAME),
                answer=_ok("UserAnswer"),
                problems=(*_TOKEN, *_BODY),
                secured=True,
            ),
        },
        "/api/auth/password": {
            "post": _operation(
                "changePassword",
                "Change the password and revoke all refresh tokens",
                body=_object(current_password=_PASSWORD, new_password=_NEW_PASSWORD),
                answer=_NO_CONTENT,
                problems=(*_TOKEN, *_BODY, Code.INVALID_CREDENTIALS, Code.BUSY),
                secured=True,
            )
        },
    }


def _schemas() -> Document:
    access = {
        "access_token": {"type": "string"},
        "token_type": {"const": "Bearer"},
        "expires_in": {"type": "integer", "description": "seconds"},
    }
    user = {"$ref": "#/components/schemas/User"}
    return {
        "User": _object(
            id={"type": "integer"}, email=_EMAIL, name=_NAME, created_at={"type": "string", "format": "date-time"}
        ),
        "UserAnswer": _object(user=user),
        "AccessAnswer": _object(**access),
        "SessionAnswer": _object(**access, refresh_token={"type": "string"}, user=user),
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


def _object(**properties: Document) -> Document:
    return {"type": "object", "required": list(properties), "properties": properties}


def _operation(
    name: str,
    summary: str,
    *,
    answer: tuple[int, Document],
    problems: tuple[Code, ...],
    body: Document | None = None,
    secured: bool = False,
) -> Document:
    status, response = answer
    operation: Document = {
        "operationId": name,
        "summary": summary,
        "tags": ["auth"],
        "responses": {str(status): response, **_problem_responses((*problems, *_SERVICE))},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
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
