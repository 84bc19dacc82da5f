"""Effect capture for an ASGI application: marked requests of shadow mode, run so that they leave nothing behind.

`capture_effects(app)` puts `ShadowMiddleware` around all of a Starlette application, its error handler included:

    app = Starlette(...)
    capture_effects(app)
    pool = CapturingAsyncConnectionPool(...)          # every database connection from here

A mirrored request is run whole, tasks behind its answer included, and rolled back; only then its answer is sent, with
the effects and the proof. Nothing of it is sent where the rollback could not be made sure of.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strangler_proxy.contrib import shadow_calls, shadow_drivers, shadow_request, shadow_smtp, shadow_threads
from strangler_proxy.contrib.refusal import Refusal, not_now
from strangler_proxy.contrib.shadow_capture import Capture, capturing
from strangler_proxy.contrib.shadow_request import BODY_BYTES, Judged, Kind
from strangler_proxy.contrib.starlette.connection import refuse_strays
from strangler_proxy.contrib.starlette.pool import end_all
from strangler_proxy.core.shadow_wire import RECORDED_HEADER, SHADOW_HEADER, SeenIds, ShadowKeys, ShadowRole

logger = logging.getLogger("strangler.shadow")

ANSWER_BYTES = 8_388_608
"""Of a mirrored request's answer at most: it is held in memory."""
LIMIT_S = 30.0
"""A mirrored request that runs longer is cancelled and rolled back."""


def capture_effects(app: Starlette, *, keys: ShadowKeys | None = None, limit_s: float = LIMIT_S) -> None:
    """Have marked requests of this application captured. `keys` default to those of the environment's secret.

    Without a secret nothing is captured or proved, and a mirrored write is refused. Raises ValueError for a secret that
    is too short. Call it before the application serves; httpx and requests are wrapped for the whole process.
    """
    known = keys if keys is not None else shadow_request.keys_from_environment()
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: ShadowMiddleware(build(), keys=known, limit_s=limit_s)  # type: ignore[method-assign]


class ShadowMiddleware:
    """Judges the mark of each request; see the module. Outermost, so that no answer passes it by."""

    def __init__(self, app: ASGIApp, *, keys: ShadowKeys | None, limit_s: float = LIMIT_S) -> None:
        self.app = app
        self.keys = keys
        self.limit_s = limit_s
        self._seen = SeenIds()
        _wrap_process()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Around the whole request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        mark = headers.get(SHADOW_HEADER)
        if mark is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "a socket cannot be mirrored"})
        else:
            await self._marked(scope, receive, send, self._judged(scope, headers, mark))

    def _judged(self, scope: Scope, headers: Headers, mark: str) -> Judged:
        return shadow_request.judge(
            self.keys,
            self._seen,
            method=scope["method"],
            mark=mark if len(headers.getlist(SHADOW_HEADER)) == 1 else "",
            recorded=headers.getlist(RECORDED_HEADER),
            now=time.time(),
        )

    async def _marked(self, scope: Scope, receive: Receive, send: Send, judged: Judged) -> None:
        if judged.kind is Kind.REFUSED:
            await _send_refusal(shadow_request.refused(judged.reason), send)
        elif judged.request is None:
            await self.app(scope, receive, send)
        elif judged.request.role is ShadowRole.RECORD:
            await self._record(scope, receive, send, _begun(judged))
        else:
            await self._mirror(scope, receive, send, judged)

    async def _record(self, scope: Scope, receive: Receive, send: Send, capture: Capture) -> None:
        """The effects until the first byte of the body go into the head, which waits for it."""
        head: Message | None = None

        async def send_with_effects(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                return
            if head is not None:
                begun, head = head, None
                fields = MutableHeaders(scope=begun)
                for name, value in shadow_request.answer_fields(self.keys, capture):
                    fields.append(name, value)
                await send(begun)
            await send(message)

        with capturing(capture):
            await self.app(scope, receive, send_with_effects)
        if head is not None:
            await send(head)

    async def _mirror(self, scope: Scope, receive: Receive, send: Send, judged: Judged) -> None:
        body = await _whole_body(receive)
        if body is None:
            return
        if len(body) > BODY_BYTES or shadow_request.body_refused(judged, body):
            await _send_refusal(shadow_request.refused("body_changed"), send)
            return
        capture = _begun(judged)
        answer = _Answer(capture)
        failure = await self._run(scope, _given(body, receive), answer, capture)
        await self._send(answer, capture, send)
        if failure is not None:
            raise failure

    async def _run(self, scope: Scope, receive: Receive, answer: _Answer, capture: Capture) -> Exception | None:
        """Run the application and roll back, whatever happens; what it raised."""
        failure: Exception | None = None
        try:
            with capturing(capture):
                async with asyncio.timeout(self.limit_s) as limit:
                    await self.app(scope, receive, answer.send)
        except Exception as error:  # noqa: BLE001  (raised again, once the answer is sent)
            failure = error
        finally:
            await _rolled_back(capture)
        if limit.expired():
            failure = None
            logger.warning("shadow.run_cut_off", extra={"limit_s": self.limit_s, "path": scope["path"]})
            answer.replace(not_now("shadow-run-too-long", "The mirrored request took too long and was rolled back."))
        return failure

    async def _send(self, answer: _Answer, capture: Capture, send: Send) -> None:
        if answer.too_large or answer.head is None:
            reason = "shadow-answer-too-large" if answer.too_large else "shadow-no-answer"
            answer.replace(not_now(reason, "The mirrored request was rolled back; its answer cannot be told."))
        assert answer.head is not None
        fields = MutableHeaders(scope=answer.head)
        for name, value in shadow_request.answer_fields(self.keys, capture):
            fields.append(name, value)
        await send(answer.head)
        await send({"type": "http.response.body", "body": b"".join(answer.body)})


def _begun(judged: Judged) -> Capture:
    """What is captured from here on; without a proof where a driver is at work that nobody can capture."""
    capture = judged.capture()
    for reason in shadow_drivers.reasons():
        capture.unproven(reason)
    return capture


def _wrap_process() -> None:
    """What code may reach beside its database; Kombu (and so Celery) only where it is installed."""
    shadow_calls.install_http()
    shadow_smtp.install()
    shadow_threads.install()
    refuse_strays()
    try:
        importlib.import_module("kombu")  # not find_spec, which fails where it is loaded: it replaces its own module
    except ImportError:
        return
    importlib.import_module("strangler_proxy.contrib.shadow_kombu").install()


class _Answer:
    """A mirrored request's answer, held until the rollback."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self.head: Message | None = None
        self.body: list[bytes] = []
        self._bytes = 0
        self.too_large = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = message
        elif message["type"] == "http.response.body":
            self._capture.told()  # what happens later is told on neither side
            self._bytes += len(message.get("body", b""))
            self.too_large = self.too_large or self._bytes > ANSWER_BYTES
            if self.too_large:
                self.body.clear()
            else:
                self.body.append(bytes(message.get("body", b"")))

    def replace(self, refusal: Refusal) -> None:
        """Answer this instead."""
        self.too_large = False
        self.head = _head(refusal)
        self.body = [refusal.body]


async def _rolled_back(capture: Capture) -> None:
    """Everything that the request has open is rolled back; where that cannot be told, nothing is proved."""
    try:
        async with asyncio.timeout(LIMIT_S):
            await end_all(capture)
    except Exception as error:  # noqa: BLE001  (its connections are closed then: the server rolls back)
        capture.unproven("rollback_failed")
        logger.error("shadow.rollback_failed", extra={"error": f"{type(error).__name__}: {error}"[:300]})


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, or more than may be; None where the client went away."""
    body = bytearray()
    while len(body) <= BODY_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what the server has to say."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return messages.pop() if messages else await receive()

    return given


def _head(refusal: Refusal) -> Message:
    headers: list[Any] = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    headers.append((b"content-length", str(len(refusal.body)).encode()))
    return {"type": "http.response.start", "status": refusal.status, "headers": headers}


async def _send_refusal(refusal: Refusal, send: Send) -> None:
    await send(_head(refusal))
    await send({"type": "http.response.body", "body": refusal.body})
