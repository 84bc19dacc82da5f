"""Liveness, readiness and metrics as views."""

from __future__ import annotations

import logging
from typing import Any, Callable

from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse

from strangler_proxy.contrib import metrics
from strangler_proxy.contrib.django.configuration import configuration

logger = logging.getLogger("strangler.health")

View = Callable[[HttpRequest], HttpResponse]


def _quiet(view: View) -> View:
    view.strangler_quiet = True  # type: ignore[attr-defined]
    return view


@_quiet
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers; it asks nothing else, or a database's fault would restart every process."""
    return _answer(200, "ok")


@_quiet
def readyz(request: HttpRequest) -> HttpResponse:
    """200 while the database answers within `READ_TIMEOUT_MS`, else 503."""
    try:
        _ask_database()
    except Exception as error:  # noqa: BLE001  (whatever it is, this process is not ready)
        logger.warning("readiness.check_failed", extra={"error": f"{type(error).__name__}: {error}"[:300]})
        return _answer(503, "database unavailable")
    return _answer(200, "ok")


@_quiet
def metrics_page(request: HttpRequest) -> HttpResponse:
    """Prometheus text format."""
    body, content_type = metrics.render()
    return HttpResponse(body, content_type=content_type)


def _ask_database() -> None:
    connection: Any = connections[configuration().database]
    connection.close_if_unusable_or_obsolete()
    connection.ensure_connection()
    try:
        from strangler_proxy.contrib.django import psycopg3
    except ImportError:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return
    if connection.vendor == "postgresql":
        try:
            psycopg3.query_within(connection.connection, "SELECT 1", [], configuration().read_timeout_ms / 1000)
        except Exception:
            connection.close()
            raise


def _answer(status: int, text: str) -> HttpResponse:
    response = JsonResponse({"status": text, "service": configuration().service}, status=status)
    response["Cache-Control"] = "no-store"
    return response
