"""Registering, signing in and out as pages, by session. Accounts are reached through their seam."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from monolith.accounts import api
from monolith.config.problem import Problem


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_page(request: HttpRequest) -> HttpResponse:
    """The sign-in form."""
    if request.method != "POST":
        return _form(request, "shop/sign_in.html")
    user = authenticate(request, email=request.POST.get("email", ""), password=request.POST.get("password", ""))
    if user is None:
        problem = getattr(request, "sign_in_refusal", None) or Problem("invalid_credentials")
        return _form(request, "shop/sign_in.html", problem)
    login(request, user)
    return redirect(_destination(request))


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def register_page(request: HttpRequest) -> HttpResponse:
    """The form for a new account; whoever registers is signed in."""
    if request.method != "POST":
        return _form(request, "shop/register.html")
    try:
        user = api.register({name: request.POST.get(name, "") for name in ("email", "name", "password")})
    except Problem as problem:
        return _form(request, "shop/register.html", problem)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return redirect(_destination(request))


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("catalogue")


def _destination(request: HttpRequest) -> str:
    wanted = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else settings.LOGIN_REDIRECT_URL


def _form(request: HttpRequest, template: str, problem: Problem | None = None) -> HttpResponse:
    facts = {
        "next": request.POST.get("next") or request.GET.get("next", ""),
        "email": request.POST.get("email", ""),
        "name": request.POST.get("name", ""),
        "errors": (problem.errors or {}) if problem else {},
        "error": problem.detail if problem and problem.errors is None else "",
    }
    response = render(request, template, facts, status=problem.status if problem else 200)
    if problem and "Retry-After" in problem.headers:
        response.headers["Retry-After"] = problem.headers["Retry-After"]
    return response
