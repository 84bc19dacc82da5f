"""HTTP at the edge: resources and their methods, bodies in, answers and problems out.

The common rules of docs/reference/http-api.md are here; what each path does is in `routes`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from psycopg import OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from extracted.auth.fields import parse_object
from extracted.auth.hashing import HashingBusy
from extracted.auth.problem import Code, Problem

log = structlog.get_logger()

BODY_BYTES = 1_048_576
"""Longer bodies are refused with 413 before they are read to the end."""

NO_STORE = {"Cache-Control": "no-store"}

Method = Callable[[Request], Awaitable[Response]]

_BEARER = re.compile(r"bearer +(.*)", re.IGNORECASE | re.DOTALL)


class Resource:
    """One path and the methods it has: an ASGI application.

    `GET` brings `HEAD`. Any other method is 405 with `Allow`, sorted.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = dict(methods)
        if "GET" in methods:
            self._methods["HEAD"] = methods["GET"]
        self._allow = ", ".join(sorted(self._methods))

    @property
    def methods(self) -> frozenset[str]:
        """The methods, `HEAD` included."""
        return frozenset(self._methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = self._methods.get(request.method)
        try:
            if method is None:
                raise Problem(
                    Code.METHOD_NOT_ALLOWED,
                    detail=f"This path does not take {request.method}.",
                    headers={"Allow": self._allow},
                )
            return await method(request)
        except Problem as problem:
            return problem_response(problem)
        except HashingBusy:
            return problem_response(Problem(Code.BUSY))
        except (PoolTimeout, TooManyRequests) as error:
            log.warning("database.unavailable", reason=type(error).__name__)
            return problem_response(Problem(Code.UNAVAILABLE))
        except OperationalError as error:
            log.warning("database.failed", reason=type(error).__name__, sqlstate=error.sqlstate)
            return problem_response(Problem(Code.UNAVAILABLE))


def json_response(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that nobody keeps."""
    return JSONResponse(document, status_code=status, headers={**NO_STORE, **(headers or {})})


def empty_response() -> Response:
    """204."""
    return Response(status_code=204, headers=NO_STORE)


def problem_response(problem: Problem) -> Response:
    """The answer of a problem."""
    return JSONResponse(
        problem.document(),
        status_code=problem.status,
        headers={**NO_STORE, **problem.headers},
        media_type="application/problem+json",
    )


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses: an unknown path."""
    assert isinstance(error, HTTPException)
    return problem_response(Problem(Code.NOT_FOUND))


async def answer_failure(request: Request, error: Exception) -> Response:
    """A fault of the service; the server logs the traceback."""
    return problem_response(Problem(Code.INTERNAL_ERROR))


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the request's body.

    Raises `Problem`: `unsupported_media_type` for a body of another type, `malformed_body`, `body_too_large`.
    """
    body = await _read_body(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE)
    return parse_object(body)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES:
                raise Problem(Code.BODY_TOO_LARGE)
    except ClientDisconnect:
        raise Problem(Code.MALFORMED_BODY) from None
    return bytes(body)


def bearer_token(request: Request) -> str:
    """The access token of a request; raises `Problem`.

    No `Authorization`, or one of another scheme, is `not_authenticated`; several are `invalid_token`.
    """
    values = request.headers.getlist("authorization")
    if len(values) > 1:
        raise Problem(Code.INVALID_TOKEN)
    match = _BEARER.fullmatch(values[0].strip()) if values else None
    if match is None:
        raise Problem(Code.NOT_AUTHENTICATED)
    return match[1]
