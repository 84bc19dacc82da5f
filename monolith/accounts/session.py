"""`/api/session`: signing in, out and reading by Django's session, with CSRF. It stays here at every stage."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from monolith.accounts import schema
from monolith.accounts.documents import user_document
from monolith.accounts.rules import parse_credentials
from monolith.config.api import NO_CONTENT, ApiView, ok, read_object
from monolith.config.problem import Answer, Problem


class Session(ApiView):
    """The session of this browser. Unsafe requests send the token in `X-CSRFToken`."""

    public = True

    @method_decorator(csrf_protect)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Django REST framework exempts its views from the CSRF check; here it is made."""
        return super().dispatch(request, *args, **kwargs)

    @extend_schema(responses={200: schema.SessionState}, auth=[])
    def get(self, request: Request) -> Answer:
        """Read: who is signed in, and the CSRF token."""
        return ok(_state(request._request))

    @extend_schema(request=schema.Credentials, responses={200: schema.SessionState}, auth=[])
    @method_decorator(sensitive_variables("password"))
    def post(self, request: Request) -> Answer:
        """Sign in."""
        email, password = parse_credentials(read_object(request))
        plain = request._request
        user = authenticate(plain, email=email, password=password)
        if user is None:
            raise getattr(plain, "sign_in_refusal", None) or Problem("invalid_credentials")
        login(plain, user)
        return ok(_state(plain))

    @extend_schema(responses={204: None}, auth=[])
    def delete(self, request: Request) -> Answer:
        """Sign out."""
        logout(request._request)
        return NO_CONTENT


def _state(request: HttpRequest) -> dict[str, Any]:
    user = request.user
    return {
        "user": user_document(user) if user.is_authenticated else None,
        "csrf_token": get_token(request),
    }
