"""The routes below /api/auth/ (flag `auth`); rules and rows are in `rules` and `local`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from monolith.accounts import local, rules, schema, tokens
from monolith.accounts.documents import user_document
from monolith.config.api import NO_CONTENT, ApiView, ok, read_object
from monolith.config.body import check, required_text
from monolith.config.problem import Answer, FieldErrors


class AuthView(ApiView):
    """A path of the capability."""

    flag = local.FLAG


class Register(AuthView):
    """New accounts."""

    public = True

    @extend_schema(request=schema.Registration, responses={201: schema.UserEnvelope}, auth=[])
    def post(self, request: Request) -> Answer:
        """Register."""
        user = local.register(rules.parse_registration(read_object(request)))
        return ok({"user": user_document(user)}, 201, Location="/api/auth/me")


class Token(AuthView):
    """Sign-in by token."""

    public = True

    @extend_schema(request=schema.Credentials, responses={200: schema.TokenPair}, auth=[])
    def post(self, request: Request) -> Answer:
        """Sign in: an access token and a refresh token."""
        done = local.sign_in(*rules.parse_credentials(read_object(request)))
        return ok(
            {
                **_access_document(done.user.pk),
                "refresh_token": done.refresh_token,
                "user": user_document(done.user),
            }
        )


class Refresh(AuthView):
    """More access tokens."""

    public = True

    @extend_schema(request=schema.RefreshToken, responses={200: schema.AccessToken}, auth=[])
    def post(self, request: Request) -> Answer:
        """Another access token for a refresh token."""
        return ok(_access_document(local.refresh(_refresh_token(request)).pk))


class SignOut(AuthView):
    """The end of a refresh token."""

    public = True

    @extend_schema(request=schema.RefreshToken, responses={204: None}, auth=[])
    def post(self, request: Request) -> Answer:
        """Revoke a refresh token, known or not."""
        local.sign_out(_refresh_token(request))
        return NO_CONTENT


class Me(AuthView):
    """Who the token is for."""

    @extend_schema(responses={200: schema.UserEnvelope})
    def get(self, request: Request) -> Answer:
        """Read."""
        return ok({"user": user_document(request.user)})

    @extend_schema(request=schema.Name, responses={200: schema.UserEnvelope})
    def patch(self, request: Request) -> Answer:
        """Change the name."""
        errors: FieldErrors = {}
        name = rules.parse_name(read_object(request), errors)
        check(errors)
        return ok({"user": user_document(local.rename(request.user, name))})


class Password(AuthView):
    """The password of the token's user."""

    @extend_schema(request=schema.PasswordChange, responses={204: None})
    def post(self, request: Request) -> Answer:
        """Change it; revokes all refresh tokens."""
        body = read_object(request)
        errors: FieldErrors = {}
        current = required_text(body, "current_password", errors)
        new = rules.new_password(body, "new_password", errors)
        check(errors)
        local.change_password(request.user, current, new)
        return NO_CONTENT


def _access_document(user_id: int) -> dict[str, Any]:
    return {
        "access_token": local.access_token(user_id),
        "token_type": "Bearer",
        "expires_in": tokens.LIFETIME_S,
    }


def _refresh_token(request: Request) -> str:
    errors: FieldErrors = {}
    text = required_text(read_object(request), "refresh_token", errors)
    check(errors)
    return text
