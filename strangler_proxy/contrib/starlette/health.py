"""Liveness, readiness and metrics as routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from strangler_proxy.contrib import metrics

logger = logging.getLogger("strangler.health")

READY_TIMEOUT_S = 2.0


def routes(ready: Callable[[], Awaitable[bool]], *, service: str) -> list[BaseRoute]:
    """`/healthz` (the process answers), `/readyz` (`ready()` is true within 2 s, else 503) and `/metrics`."""

    async def healthz(request: Request) -> Response:
        return _answer(200, "ok", service)

    async def readyz(request: Request) -> Response:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                well = await ready()
        except Exception as error:  # noqa: BLE001  (whatever it is, this process is not ready)
            logger.warning("readiness.check_failed", extra={"error": f"{type(error).__name__}: {error}"[:300]})
            return _answer(503, "not ready", service)
        return _answer(200, "ok", service) if well else _answer(503, "not ready", service)

    async def metrics_page(request: Request) -> Response:
        body, content_type = metrics.render()
        return Response(body, headers={"Content-Type": content_type})

    pages = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics_page}
    return [Route(path, _quiet(page), methods=["GET"]) for path, page in pages.items()]


def _quiet(page: Any) -> Any:
    page.strangler_quiet = True
    return page


def _answer(status: int, text: str, service: str) -> Response:
    return JSONResponse({"status": text, "service": service}, status_code=status, headers={"Cache-Control": "no-store"})
