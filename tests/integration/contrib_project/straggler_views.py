"""More ways to meet the fence: after a commit, in threads, in async code, behind an exception handler."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.integration.contrib_project.models import Note, Parcel

DONE = {"made": True}


def _name(request: HttpRequest) -> str:
    return request.GET.get("name", "p")


def on_commit_of_a_write(request: HttpRequest) -> HttpResponse:
    """The note is committed when the fence is met."""
    with transaction.atomic():
        Note.objects.create(text=_name(request))
        transaction.on_commit(lambda: Parcel.objects.create(name=_name(request)), robust=True)
    return JsonResponse(DONE)


def on_commit_of_nothing(request: HttpRequest) -> HttpResponse:
    """The transaction wrote nothing."""
    with transaction.atomic():
        Note.objects.count()
        transaction.on_commit(lambda: Parcel.objects.create(name=_name(request)), robust=True)
    return JsonResponse(DONE)


def nested_atomics(request: HttpRequest) -> HttpResponse:
    """Met three savepoints deep, swallowed on each level, and the outer ones go on writing."""
    with transaction.atomic():
        Note.objects.create(text=_name(request))
        with contextlib.suppress(DatabaseError), transaction.atomic():
            with contextlib.suppress(DatabaseError), transaction.atomic():
                with contextlib.suppress(DatabaseError), transaction.atomic():
                    Parcel.objects.create(name=_name(request))
                Note.objects.create(text="inner")
            Note.objects.create(text="outer")
    return JsonResponse(DONE)


def in_a_pool(request: HttpRequest) -> HttpResponse:
    """Threads of the view's own pool, each with a connection; what they raise is dropped."""

    def make() -> None:
        try:
            Parcel.objects.create(name=_name(request))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(make)
    return JsonResponse({"made": made.exception() is None})


def in_a_pool_after_a_commit(request: HttpRequest) -> HttpResponse:
    """A thread commits a note, then the view meets the fence."""

    def note() -> None:
        try:
            Note.objects.create(text=_name(request))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(note)
    with contextlib.suppress(DatabaseError):
        Parcel.objects.create(name=_name(request))
    return JsonResponse(DONE)


def committed_elsewhere(request: HttpRequest) -> HttpResponse:
    """Two commits, by another connection of the project."""
    Note.objects.using("second").create(text=_name(request))
    Note.objects.using("second").create(text=_name(request))
    with contextlib.suppress(DatabaseError), transaction.atomic():
        Parcel.objects.create(name=_name(request))
    return JsonResponse(DONE)


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """The async ORM, in a task of its own; the error is dropped."""

    async def make() -> None:
        await Parcel.objects.acreate(name=_name(request))

    await asyncio.gather(asyncio.create_task(make()), return_exceptions=True)
    return JsonResponse(DONE)


async def asynchronous_after_a_commit(request: HttpRequest) -> HttpResponse:
    """The same with a note committed before."""
    await Note.objects.acreate(text=_name(request))
    with contextlib.suppress(DatabaseError):
        await sync_to_async(Parcel.objects.create)(name=_name(request))
    return JsonResponse(DONE)


def streamed_after_a_commit(request: HttpRequest) -> HttpResponse:
    """A note is committed before the body is made."""
    Note.objects.create(text=_name(request))

    def body() -> Any:
        Parcel.objects.create(name=_name(request))
        yield b"made"

    return StreamingHttpResponse(body())


def _answer_all(error: Exception, context: dict[str, Any]) -> Response:
    return Response({"told": "try again later"}, status=400)


class Handled(APIView):
    """Django REST framework, whose exception handler makes 400 of everything."""

    authentication_classes = permission_classes = ()
    renderer_classes = (JSONRenderer,)

    def get_exception_handler(self) -> Any:
        """Of this project."""
        return _answer_all

    def post(self, request: Request) -> Response:
        """Make a parcel."""
        Parcel.objects.create(name=request.query_params.get("name", "p"))
        return Response(DONE, status=201)


handled = Handled.as_view()
