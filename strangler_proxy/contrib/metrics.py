"""Prometheus metrics of an application's requests; all of it does nothing where prometheus_client is absent.

One registration per process, shared by the Django and the Starlette parts. Names and labels: docs/reference/contrib.md.
With `PROMETHEUS_MULTIPROC_DIR` set, `render` sums over the processes of a pre-forking server.
"""

from __future__ import annotations

import os
from typing import Any

try:
    import prometheus_client
except ImportError:  # optional: a project may count its requests elsewhere
    prometheus_client = None  # type: ignore[assignment]

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _counter(name: str, text: str, labels: tuple[str, ...]) -> Any:
    return None if prometheus_client is None else prometheus_client.Counter(name, text, labels)


_requests = _counter(
    "http_server_requests_total", "Requests answered, by route template.", ("service", "route", "method", "status")
)
_seconds: Any = (
    None
    if prometheus_client is None
    else prometheus_client.Histogram(
        "http_server_request_seconds",
        "Seconds from the first line of a request to the last byte handed on.",
        ("service", "route", "method"),
        buckets=SECONDS_BUCKETS,
    )
)
_fences = _counter("strangler_fence_met_total", "Requests that met the fence here.", ("flag", "replay"))

_seam_calls = _counter("strangler_seam_calls_total", "Calls through a seam, by the side that served.", ("flag", "side"))

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def count_request(*, service: str, route: str, method: str, status: int, seconds: float) -> None:
    """Count one request. `route` is a template, never a path (unbounded labels); an unknown method is `OTHER`."""
    if _requests is None:
        return
    method = method if method in _METHODS else "OTHER"
    _requests.labels(service, route, method, f"{status // 100}xx").inc()
    _seconds.labels(service, route, method).observe(seconds)


def count_fence(*, flag: str, replay: str) -> None:
    """Count one fenced answer; `replay` is `safe`, `resume`, `no`, or `unknown` (the record could not be read)."""
    if _fences is not None:
        _fences.labels(flag, replay).inc()


def count_seam_call(*, flag: str, side: str) -> None:
    """Count one call through a seam; `side` is `local`, `remote`, or `moved` (undone at the fence, made remotely)."""
    if _seam_calls is not None:
        _seam_calls.labels(flag, side).inc()


def render() -> tuple[bytes, str]:
    """Body and content type of `/metrics`; empty text where prometheus_client is absent."""
    if prometheus_client is None:
        return b"", "text/plain; charset=utf-8"
    registry = prometheus_client.REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        registry = prometheus_client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry), prometheus_client.CONTENT_TYPE_LATEST
