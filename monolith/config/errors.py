"""What is answered when no view answers: problems below /api/, plain pages elsewhere."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from monolith.config.api import respond
from monolith.config.problem import Problem

API = "/api/"


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404."""
    return _answer(request, "not_found", "There is no such page.")


def server_error(request: HttpRequest) -> HttpResponse:
    """500: says nothing of what happened; the log does."""
    return _answer(request, "server_error", "Something went wrong on our side. Please try again.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400 of Django's own checks."""
    return _answer(request, "bad_request", "The request cannot be understood.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403 of Django's own checks."""
    return _answer(request, "forbidden", "You may not see this page.")


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 where a form came without its token."""
    return _answer(request, "csrf_failed", "This form has expired. Go back, reload the page and send it again.")


def _answer(request: HttpRequest, code: str, sentence: str) -> HttpResponse:
    problem = Problem(code)
    if request.path.startswith(API):
        return respond(problem.answer())
    return render(request, "shop/error.html", {"title": problem.title, "sentence": sentence}, status=problem.status)
