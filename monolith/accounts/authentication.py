"""`Authorization: Bearer` for Django REST framework: a token of either side, for a user in the local copy."""

from __future__ import annotations

import time

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from monolith.accounts import keyring, tokens
from monolith.accounts.local import known_user
from monolith.accounts.models import User
from monolith.config.problem import Problem


class BearerAuthentication(BaseAuthentication):
    """`request.user` is the user, `request.auth` the token's `Claims`."""

    def authenticate(self, request: Request) -> tuple[User, tokens.Claims] | None:
        """None where no bearer token was sent; raises `Problem` `invalid_token`."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = tokens.judge(text.strip(), find_key=keyring.public_keys().find, now_s=time.time())
        except tokens.InvalidToken as error:
            raise Problem("invalid_token") from error
        user = known_user(claims.user_id)
        if user is None or not user.is_active:
            raise Problem("invalid_token")
        return user, claims


class BearerScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document names it."""

    target_class = BearerAuthentication
    name = "accessToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        """RFC 6750."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
