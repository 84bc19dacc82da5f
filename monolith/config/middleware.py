"""Middleware of the shop itself; the toolkit's own stands before it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from monolith.config.api import respond
from monolith.config.errors import API
from monolith.config.problem import PROBLEM_JSON, Problem

_PLAIN = {400: "bad_request", 403: "forbidden", 404: "not_found", 500: "server_error"}
_NEVER_STORED = ("/api/auth/", "/api/payments/", "/api/session", "/api/orders")


class ApiErrorsMiddleware:
    """Below /api/ every error is problem+json, and what is personal is never cached."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Replace Django's own error pages, also the ones for developers."""
        response = self.get_response(request)
        if request.path.startswith(API):
            code = _PLAIN.get(response.status_code)
            if code and response.headers.get("Content-Type", "").split(";")[0] != PROBLEM_JSON:
                response = respond(Problem(code).answer())
        if request.path.startswith(_NEVER_STORED):
            response.headers["Cache-Control"] = "no-store"
        return response
