"""Context and fence as pure ASGI middleware.

Order: `Middleware(RequestContextMiddleware, service=...)`, then `Middleware(FenceMiddleware, pool=..., origin=...)`,
first of all middleware. Pure ASGI, so that context variables reach the code and streamed bodies are not buffered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

from psycopg_pool import AsyncConnectionPool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strangler_proxy.contrib import metrics
from strangler_proxy.contrib.access import access_line
from strangler_proxy.contrib.context import REQUEST_ID_HEADER, TRACEPARENT_HEADER, TRACESTATE_HEADER, bind_request
from strangler_proxy.contrib.ownership import READ_RECORD, RECORD_EXISTS, OwnershipRecord
from strangler_proxy.contrib.record import FenceRecord, recording
from strangler_proxy.contrib.refusal import FencedAfterHeaders, Refusal, fenced, log_refusal
from strangler_proxy.core.fence import Replay

logger = logging.getLogger("strangler.fence")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
UNMATCHED = "(unmatched)"

Pool = AsyncConnectionPool[Any]


class RequestContextMiddleware:
    """Binds request id and trace, logs one line and counts each request; answers `X-Request-Id`."""

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Around the whole request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = (headers.get(name) for name in (REQUEST_ID_HEADER, TRACEPARENT_HEADER, TRACESTATE_HEADER))
        started, status = time.perf_counter(), 500

        with bind_request(*given) as request_id:

            async def send_with_id(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
                await send(message)

            try:
                await self.app(scope, receive, send_with_id)
            finally:
                self._account(scope, status, time.perf_counter() - started)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _template(scope), scope["method"]
        metrics.count_request(service=self.service, route=route, method=method, status=status, seconds=seconds)
        access_line(
            service=self.service,
            method=method,
            path=scope["path"],
            route=route,
            status=status,
            seconds=seconds,
            quiet=getattr(scope.get("endpoint"), "strangler_quiet", False),
        )


class FenceMiddleware:
    """Answers a request that met the fence, whatever the code made of the error: 409 with `X-Strangler-Fence`.

    Where something was committed before, and not within `resumable`: 500 without that header, which nobody replays,
    and an error in the log. Who owns the rows now is read from `pool` (or what it returns, if it is a function) on
    a fresh snapshot within `read_timeout_s`; where that fails, 503. Headers of an answer to an unsafe request wait
    for the first byte of its body, so that a fence met there is still before them; one that is met later breaks the
    answer off. `origin` is who this service is; a record of another origin (a wrong database) is not believed.
    """

    def __init__(
        self, app: ASGIApp, *, pool: Pool | Callable[[], Pool], origin: str = "extracted", read_timeout_s: float = 1.0
    ) -> None:
        if origin not in ("monolith", "extracted"):
            raise ValueError(f"origin {origin!r} is not monolith or extracted")
        self.app = app
        self.pool = pool
        self.origin = origin
        self.read_timeout_s = read_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Around the whole request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, FenceRecord(), waits=scope["method"] not in SAFE_METHODS)
        with recording(answer.record):
            try:
                await self.app(scope, receive, answer.send)
            except Exception:
                if answer.record.met is None or answer.begun:
                    raise
        if answer.record.met is None:
            await answer.release()
        elif answer.begun:
            self._too_late(answer.record, complete=answer.complete)
        else:
            await _send_refusal(await self._refuse(scope, answer.record), send)

    def _too_late(self, record: FenceRecord, *, complete: bool) -> None:
        assert record.met is not None
        metrics.count_fence(flag=record.met.flag, replay="late")
        logger.error("fence.met_after_headers", extra={"flag": record.met.flag, "table": record.met.table})
        if not complete:
            raise FencedAfterHeaders("the fence was met while the answer was being streamed")

    async def _refuse(self, scope: Scope, record: FenceRecord) -> Refusal:
        met = record.met
        assert met is not None
        ownership = None
        try:
            async with asyncio.timeout(self.read_timeout_s):
                ownership = await self._read(met.flag) if met.flag and record.replay() is not Replay.NO else None
        except Exception as error:  # noqa: BLE001  (503, whatever the reason)
            why = f"{type(error).__name__}: {error}"[:300]
            logger.warning("fence.ownership_unread", extra={"flag": met.flag, "error": why})
        refusal = fenced(record, ownership)
        metrics.count_fence(flag=met.flag, replay=refusal.replay)
        log_refusal(logger, record, refusal, method=scope["method"], route=_template(scope))
        return refusal

    async def _read(self, flag: str) -> OwnershipRecord | None:
        pool = self.pool if isinstance(self.pool, AsyncConnectionPool) else self.pool()
        async with pool.connection(timeout=self.read_timeout_s) as connection, connection.cursor() as cursor:
            await cursor.execute(RECORD_EXISTS)
            if not (await cursor.fetchone())[0]:
                return None
            await cursor.execute(READ_RECORD, (flag,))
            row = await cursor.fetchone()
        record = None if row is None else OwnershipRecord(*row)
        if record is not None and record.origin != self.origin:
            logger.error("fence.origin_contradicted", extra={"flag": flag, "told": record.origin, "own": self.origin})
            return None
        return record


class _Answer:
    """What the application sends, held back as long as the fence may still be met before the headers."""

    def __init__(self, send: Send, record: FenceRecord, *, waits: bool) -> None:
        self._send = send
        self._waits = waits
        self._held: list[Message] = []
        self.record = record
        self.begun = False
        self.complete = False

    async def send(self, message: Message) -> None:
        if self.record.met is not None:
            if self.begun and not self.complete:
                raise FencedAfterHeaders("the fence was met while the answer was being streamed")
            return
        if not self.begun and self._waits and not _has_body(message):
            self._held.append(message)
            return
        await self.release()
        self.begun = True
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def release(self) -> None:
        """Send what was held back."""
        held, self._held = self._held, []
        for message in held:
            self.begun = True
            await self._send(message)


def _has_body(message: Message) -> bool:
    """Is this the first byte of a body, or its end?"""
    if message["type"] == "http.response.start":
        return False
    return message["type"] != "http.response.body" or bool(message.get("body")) or not message.get("more_body", False)


async def _send_refusal(refusal: Refusal, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    headers.append((b"content-length", str(len(refusal.body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})


def _template(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return cast(str, path) if path else UNMATCHED
