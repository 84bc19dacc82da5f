"""Views that write while their answer is streamed, closed or forgotten, in async code and in threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.core.mail import send_mail
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from tests.integration.contrib_project.models import Note, Parcel
from tests.integration.contrib_project.shadow_views import named


def closing_later(request: HttpRequest) -> HttpResponse:
    response = JsonResponse({}, status=201)
    response._resource_closers.append(lambda: Note.objects.create(text="when the answer is closed"))
    return response


async def left_behind(request: HttpRequest) -> HttpResponse:
    async def later() -> None:
        await asyncio.sleep(0.2)
        await Note.objects.acreate(text="left behind")

    task = asyncio.create_task(later())
    _left_behind.add(task)
    task.add_done_callback(_left_behind.discard)
    return JsonResponse({}, status=201)


_left_behind: set[Any] = set()


def streamed(request: HttpRequest) -> HttpResponse:
    def body() -> Any:
        yield b"begun "
        Parcel.objects.create(name=named(request))
        yield b"made"

    return StreamingHttpResponse(body())


def streamed_async(request: HttpRequest) -> HttpResponse:
    async def body() -> Any:
        yield b"begun "
        await Parcel.objects.acreate(name=named(request))
        yield b"made"

    return StreamingHttpResponse(body())


async def asynchronous(request: HttpRequest) -> HttpResponse:
    await Parcel.objects.acreate(name=named(request))
    await caches["valkey"].aset("text", "changed")
    await sync_to_async(send_mail)("async", "body", "a@example.org", ["b@example.org"])
    await request.session.aset("seen", True)  # type: ignore[attr-defined]
    text = await caches["valkey"].aget("text")
    return JsonResponse({"parcels": await Parcel.objects.acount(), "text": text}, status=201)


def threaded(request: HttpRequest) -> HttpResponse:
    def work() -> None:
        Parcel.objects.create(name="by a thread")
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return JsonResponse({}, status=201)


def state(request: HttpRequest) -> HttpResponse:
    """What is in the process' own cache, for the test to compare."""
    cache = caches["default"]
    return JsonResponse({"locmem": sorted(cache._cache), "counter": cache.get("counter"), "text": cache.get("text")})


def prepare(request: HttpRequest) -> HttpResponse:
    """Something to change."""
    for alias in ("default", "valkey", "files"):
        caches[alias].clear()
        caches[alias].set_many({"text": "first", "gone": 1, "counter": 41}, None)
    return HttpResponse(status=204)
