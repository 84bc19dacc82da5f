"""The paths below `/api/auth/`: which method does what. Rules are in `identity`, common manners in `exchange`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from extracted.auth import fields, tokens
from extracted.auth.account import Account, user_document
from extracted.auth.exchange import Resource, bearer_token, empty_response, json_response, read_object
from extracted.auth.identity import Identity
from extracted.auth.openapi import document

PREFIX = "/api/auth"
DOCUMENT_PATH = f"{PREFIX}/openapi.json"


def api_routes() -> list[Route]:
    """The routes of the API, and its OpenAPI document."""
    resources = {
        "/register": Resource({"POST": register}),
        "/token": Resource({"POST": sign_in}),
        "/token/refresh": Resource({"POST": refresh}),
        "/sign-out": Resource({"POST": sign_out}),
        "/me": Resource({"GET": read_me, "PATCH": rename_me}),
        "/password": Resource({"POST": change_password}),
    }
    routes = [Route(f"{PREFIX}{path}", resource) for path, resource in resources.items()]
    return [*routes, Route(DOCUMENT_PATH, Resource({"GET": read_document}))]


async def register(request: Request) -> Response:
    """201 with the new user."""
    registration = fields.parse_registration(await read_object(request))
    account = await _identity(request).register(registration)
    return json_response({"user": user_document(account)}, 201, {"Location": f"{PREFIX}/me"})


async def sign_in(request: Request) -> Response:
    """200 with an access token, a refresh token and the user."""
    credentials = fields.parse_credentials(await read_object(request))
    session = await _identity(request).sign_in(credentials)
    return json_response(
        {
            **_access_document(session.access_token),
            "refresh_token": session.refresh_token,
            "user": user_document(session.account),
        }
    )


async def refresh(request: Request) -> Response:
    """200 with another access token."""
    refresh_token = fields.parse_refresh_token(await read_object(request))
    return json_response(_access_document(await _identity(request).refresh(refresh_token)))


async def sign_out(request: Request) -> Response:
    """204; the refresh token holds no more."""
    await _identity(request).sign_out(fields.parse_refresh_token(await read_object(request)))
    return empty_response()


async def read_me(request: Request) -> Response:
    """200 with the user of the token."""
    return json_response({"user": user_document(await _account(request, unsafe=False))})


async def rename_me(request: Request) -> Response:
    """200 with the user under the new name."""
    account = await _account(request, unsafe=True)
    name = fields.parse_name(await read_object(request))
    return json_response({"user": user_document(await _identity(request).rename(account, name))})


async def change_password(request: Request) -> Response:
    """204; refresh tokens of before hold no more."""
    account = await _account(request, unsafe=True)
    change = fields.parse_password_change(await read_object(request))
    await _identity(request).change_password(account, change)
    return empty_response()


async def read_document(request: Request) -> Response:
    """The OpenAPI document."""
    return json_response(document())


async def _account(request: Request, *, unsafe: bool) -> Account:
    return await _identity(request).authenticate(bearer_token(request), unsafe=unsafe)


def _identity(request: Request) -> Identity:
    identity: Identity = request.app.state.identity
    return identity


def _access_document(access_token: str) -> dict[str, object]:
    return {"access_token": access_token, "token_type": "Bearer", "expires_in": tokens.LIFETIME_S}
