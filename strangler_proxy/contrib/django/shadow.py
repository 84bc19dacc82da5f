"""Shadow mode for Django's requests, under WSGI and ASGI: run a marked request, and say what it did.

Put `ShadowMiddleware` third, behind RequestContextMiddleware and FenceMiddleware, before all that writes: what stands
before it is not captured. A request without a mark passes at the price of looking for one header.

`record` (the mark of the side that answers the client): everything is performed, and its effects are reported.
`mirror` (the mark of the copy): nothing is performed. Databases are written to in transactions that never commit, mail,
tasks, messages, calls, caches and files are captured; see docs/how-to/shadow-writes.md.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache
from typing import Any, Optional

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import RequestDataTooBig
from django.core.signals import setting_changed
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase

from strangler_proxy.contrib.django import shadow_files, shadow_mail
from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.django.middleware import Middleware
from strangler_proxy.contrib.django.shadow_transaction import leave_all
from strangler_proxy.contrib.refusal import Refusal, problem_body
from strangler_proxy.contrib.shadow_capture import Capture, NotCaptured, capturing
from strangler_proxy.contrib.shadow_request import Judged, Kind, answer_fields, judge, keys_from_environment, refused
from strangler_proxy.core.shadow_wire import (
    RECORDED_HEADER,
    SHADOW_HEADER,
    SeenIds,
    ShadowKeys,
    ShadowRequest,
    ShadowRole,
)

logger = logging.getLogger("strangler.shadow")

BODY_BYTES = 8_388_608
"""Of a mirrored answer that is streamed: it is read to its end, or to here, before it is sent."""

_seen = SeenIds()
_seen_lock = threading.Lock()


class ShadowMiddleware(Middleware):
    """Runs a marked request as its mark asks, and adds `X-Strangler-Effects` and `X-Strangler-Shadow-Proof`."""

    def __call__(self, request: HttpRequest) -> Any:
        """Around the whole request."""
        if iscoroutinefunction(self):
            return self._acall(request)
        judged = _judged(request)
        if judged.kind is Kind.PLAIN:
            return self.get_response(request)
        if judged.kind is Kind.REFUSED:
            return _refusal(refused(judged.reason))
        with capturing(_begun(request, judged)) as capture:
            try:
                response = self.get_response(request)
                fields = answer_fields(keys(), capture)
                if capture.mirrors:
                    response = _whole(response, capture)
            finally:
                leave_all(capture)
        return _told(response, fields, capture)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        judged = _judged(request)
        if judged.kind is Kind.PLAIN:
            passed: HttpResponseBase = await self.get_response(request)
            return passed
        if judged.kind is Kind.REFUSED:
            return _refusal(refused(judged.reason))
        with capturing(_begun(request, judged)) as capture:
            try:
                response: HttpResponseBase = await self.get_response(request)
                fields = answer_fields(keys(), capture)
                if capture.mirrors:
                    response = await _whole_async(response, capture)
            finally:
                await sync_to_async(leave_all, thread_sensitive=True)(capture)
        return _told(response, fields, capture)

    def process_exception(self, request: HttpRequest, exception: Exception) -> Optional[HttpResponse]:
        """Say in the answer what could not be captured: it shows as the difference that it is."""
        if not isinstance(exception, NotCaptured):
            return None
        logger.warning("shadow.effect_refused", extra={"effect": str(exception), "path": request.path})
        response = HttpResponse(
            problem_body(500, "not-captured", "Not captured", f"Refused in shadow mode: {exception}"),
            status=500,
            content_type="application/problem+json",
        )
        response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own mark: we have logged it
        return response


@lru_cache(maxsize=1)
def keys() -> Optional[ShadowKeys]:
    """The keys of marks and proofs; None where there is no secret. Raises ValueError for one that is too short."""
    secret = configuration().shadow_secret
    return ShadowKeys(secret.encode()) if secret else keys_from_environment()


def _forget(*, setting: str, **_: object) -> None:
    if setting == "STRANGLER":
        keys.cache_clear()


setting_changed.connect(_forget, dispatch_uid="strangler_shadow_keys")


def _judged(request: HttpRequest) -> Judged:
    mark = request.headers.get(SHADOW_HEADER)
    if mark is None:
        return Judged(kind=Kind.PLAIN)
    recorded = request.headers.get(RECORDED_HEADER)
    with _seen_lock:
        judged = judge(
            keys(),
            _seen,
            method=request.method or "",
            mark=mark,
            recorded=[] if recorded is None else [recorded],
            now=time.time(),
        )
    marked = judged.request
    if marked is not None and marked.role is ShadowRole.MIRROR and not _body_fits(request, marked):
        logger.warning("shadow.refused", extra={"reason": "body_changed"})
        return Judged(kind=Kind.REFUSED, reason="body_changed")
    return judged


def _body_fits(request: HttpRequest, marked: ShadowRequest) -> bool:
    if not marked.body_sha256:
        return True
    try:
        return marked.fits_body(request.body)
    except (RequestDataTooBig, UnreadablePostError):
        return False


def _begun(request: HttpRequest, judged: Judged) -> Capture:
    capture = judged.capture()
    request.strangler_shadow = capture.role.value  # type: ignore[attr-defined]  # for the access line
    shadow_mail.install()  # backends and storages that were loaded since the start
    shadow_files.install()
    return capture


def _told(response: HttpResponseBase, fields: list[tuple[str, str]], capture: Capture) -> HttpResponseBase:
    for name, value in fields:
        response[name] = f"{response[name]}, {value}" if name in response else value
    if capture.mirrors:
        _capture_the_end(response, capture)
    return response


def _capture_the_end(response: Any, capture: Capture) -> None:
    """What `request_finished` and the answer's closers do is captured as well, and told to nobody."""
    close = response.close

    def captured_close() -> None:
        with capturing(Capture(capture.request)) as late:
            try:
                close()
            finally:
                leave_all(late)

    response.close = captured_close


def _whole(response: Any, capture: Capture) -> Any:
    """A mirrored answer with its body made: code that runs while it is streamed runs here, captured."""
    if not response.streaming or isinstance(response, FileResponse):
        return response
    if response.is_async:
        return async_to_sync(_whole_async)(response, capture)
    body = bytearray()
    for chunk in response.streaming_content:
        body += chunk
        if len(body) > BODY_BYTES:
            break
    return _made(response, bytes(body))


async def _whole_async(response: Any, capture: Capture) -> Any:
    if not response.streaming or isinstance(response, FileResponse):
        return response
    if not response.is_async:
        return await sync_to_async(_whole, thread_sensitive=True)(response, capture)
    body = bytearray()
    async for chunk in response.streaming_content:
        body += chunk
        if len(body) > BODY_BYTES:
            break
    return _made(response, bytes(body))


def _made(response: Any, body: bytes) -> HttpResponse:
    whole: Any = HttpResponse(body, status=response.status_code, reason=response.reason_phrase)
    whole.headers, whole.cookies = response.headers, response.cookies
    whole._resource_closers, whole._handler_class = response._resource_closers, response._handler_class
    made: HttpResponse = whole
    return made


def _refusal(refusal: Refusal) -> HttpResponse:
    return HttpResponse(refusal.body, status=refusal.status, headers=refusal.headers)
