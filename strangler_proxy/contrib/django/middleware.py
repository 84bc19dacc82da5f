"""Context and fence for Django's requests, under WSGI and ASGI.

First of all middleware, in this order: RequestContextMiddleware, FenceMiddleware.
"""

from __future__ import annotations

import logging
import time
from contextvars import copy_context
from typing import Any, Callable, Optional

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from strangler_proxy.contrib import metrics
from strangler_proxy.contrib.access import access_line
from strangler_proxy.contrib.context import REQUEST_ID_HEADER, TRACEPARENT_HEADER, TRACESTATE_HEADER, bind_request
from strangler_proxy.contrib.context import request_id as current_request_id
from strangler_proxy.contrib.django import streaming
from strangler_proxy.contrib.django.arrival import NotArrived
from strangler_proxy.contrib.django.census_place import handling
from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.django.ownership import read_after_fence
from strangler_proxy.contrib.record import FenceRecord, current, recording
from strangler_proxy.contrib.refusal import Refusal, fenced, log_refusal, not_now
from strangler_proxy.core.fence import Replay

logger = logging.getLogger("strangler.fence")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
UNMATCHED = "(unmatched)"

GetResponse = Callable[[HttpRequest], Any]


class Middleware:
    """What a middleware of both worlds, WSGI and ASGI, begins with."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)  # type: ignore[type-var]  # it is for instances too


class RequestContextMiddleware(Middleware):
    """Binds request id and trace, logs one line and counts each request; answers `X-Request-Id`."""

    def __call__(self, request: HttpRequest) -> Any:
        """Around the whole request."""
        if iscoroutinefunction(self):
            return self._acall(request)
        started = time.perf_counter()
        with bind_request(*_given(request)), handling(request):
            return _finished(request, self.get_response(request), started)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        with bind_request(*_given(request)), handling(request):
            return _finished(request, await self.get_response(request), started)


class FenceMiddleware(Middleware):
    """Answers a request that met the fence, whatever the code made of the error: 409 with `X-Strangler-Fence`.

    Where something was committed before, in whatever database, and not within `resumable`: 500 without that header,
    which nobody replays, and an error in the log. Who owns the rows now is read on a fresh snapshot; where that cannot
    be read, 503. A streamed answer to an unsafe request waits for its first chunk, so that a fence met there is still
    before the headers; one that is met later breaks the stream off. Also answers `arrival.NotArrived` with 503.
    """

    def __call__(self, request: HttpRequest) -> Any:
        """Around the whole request."""
        if iscoroutinefunction(self):
            return self._acall(request)
        with recording(FenceRecord()) as record:
            response = self.get_response(request)
            if response.streaming and record.met is None:
                response = streaming.guard(response, record, wait_for_first=request.method not in SAFE_METHODS)
        return response if record.met is None else _refuse(request, response, record)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with recording(FenceRecord()) as record:
            response: HttpResponseBase = await self.get_response(request)
            if response.streaming and record.met is None:
                wait = request.method not in SAFE_METHODS
                response = await streaming.guard_async(response, record, wait_for_first=wait)
        if record.met is None:
            return response
        return await sync_to_async(_refuse, thread_sensitive=True)(request, response, record)

    def process_exception(self, request: HttpRequest, exception: Exception) -> Optional[HttpResponse]:
        """Keep Django from logging a fence as a fault; the answer is replaced on the way out."""
        record = current.get()
        if record is not None and record.met is not None:
            return _unlogged(HttpResponse(status=500))  # 500: sessions are not saved with it
        if isinstance(exception, NotArrived):
            logger.warning("arrival.wait_exceeded", extra={"flag": exception.flag})
            return _unlogged(_response(not_now("not-arrived", "This has not arrived here yet. Try again.")))
        return None


def _given(request: HttpRequest) -> tuple[Optional[str], Optional[str], Optional[str]]:
    headers = request.headers
    return headers.get(REQUEST_ID_HEADER), headers.get(TRACEPARENT_HEADER), headers.get(TRACESTATE_HEADER)


def _finished(request: HttpRequest, response: HttpResponseBase, started: float) -> HttpResponseBase:
    response[REQUEST_ID_HEADER] = current_request_id.get()
    if not response.streaming:
        _account(request, response.status_code, started)
        return response
    context = copy_context()  # the body is sent after this context has ended
    closers: Any = response
    closers._resource_closers.append(lambda: context.run(_account, request, response.status_code, started))
    return response


def _account(request: HttpRequest, status: int, started: float) -> None:
    seconds = time.perf_counter() - started
    match = getattr(request, "resolver_match", None)
    route = _route(request)
    quiet = match is not None and getattr(match.func, "strangler_quiet", False)
    service, method = configuration().service, request.method or ""
    metrics.count_request(service=service, route=route, method=method, status=status, seconds=seconds)
    shadow = getattr(request, "strangler_shadow", None)
    access_line(
        service=service,
        method=method,
        path=request.path,
        route=route,
        status=status,
        seconds=seconds,
        quiet=quiet,
        **({} if shadow is None else {"shadow": shadow}),
    )


def _route(request: HttpRequest) -> str:
    match = getattr(request, "resolver_match", None)
    return (match.route or "/") if match is not None else UNMATCHED


def _refuse(request: HttpRequest, response: HttpResponseBase, record: FenceRecord) -> HttpResponse:
    streaming.discard(response)
    met = record.met
    assert met is not None
    ownership = None
    try:
        ownership = read_after_fence(met.flag) if met.flag and record.replay() is not Replay.NO else None
    except Exception as error:  # noqa: BLE001  (503, whatever the reason)
        logger.warning(
            "fence.ownership_unread", extra={"flag": met.flag, "error": f"{type(error).__name__}: {error}"[:300]}
        )
    refusal = fenced(record, ownership)
    metrics.count_fence(flag=met.flag, replay=refusal.replay)
    log_refusal(logger, record, refusal, method=request.method or "", route=_route(request))
    return _unlogged(_response(refusal))


def _response(refusal: Refusal) -> HttpResponse:
    return HttpResponse(refusal.body, status=refusal.status, headers=refusal.headers)


def _unlogged(response: HttpResponse) -> HttpResponse:
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's own mark: we have logged it
    return response
