"""Views that meet the fence in the ways that code does."""

from __future__ import annotations

import contextlib
from typing import Any

from django.contrib.auth import get_user_model, login
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from strangler_proxy.contrib.context import outbound_headers
from strangler_proxy.contrib.django import arrival, outbox, ownership
from strangler_proxy.contrib.django.seam import RemoteInsideTransaction, Seam
from strangler_proxy.contrib.record import resumable
from tests.integration.contrib_project.models import Note, Parcel


def _name(request: HttpRequest) -> str:
    return request.GET.get("name", "p")


def plain(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True}, status=201)


def uncaught(request: HttpRequest) -> HttpResponse:
    Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True}, status=201)


def swallowed(request: HttpRequest) -> HttpResponse:
    with contextlib.suppress(Exception):
        Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True})


def swallowed_in_atomic(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Note.objects.create(text=_name(request))
        with contextlib.suppress(Exception), transaction.atomic():
            Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True})


def goes_on_after(request: HttpRequest) -> HttpResponse:
    with contextlib.suppress(Exception):
        Parcel.objects.create(name=_name(request))
    Note.objects.create(text=_name(request))
    return JsonResponse({"made": True})


def copied(request: HttpRequest) -> HttpResponse:
    with (
        contextlib.suppress(Exception),
        connection.cursor() as cursor,
        cursor.copy("COPY parcel (name) FROM STDIN") as c,
    ):
        c.write_row([_name(request)])
    return JsonResponse({"made": True})


def committed_before(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=_name(request))
    Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True})


def session_before(request: HttpRequest) -> HttpResponse:
    request.session["seen"] = True
    request.session.save()
    Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True})


def intent_before(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text=_name(request))
    with resumable():
        Parcel.objects.create(name=_name(request))
    return JsonResponse({"made": True})


def streamed(request: HttpRequest) -> HttpResponse:
    def body() -> Any:
        Parcel.objects.create(name=_name(request))
        yield b"made"

    return StreamingHttpResponse(body())


def streamed_late(request: HttpRequest) -> HttpResponse:
    def body() -> Any:
        yield b"begun " * 2000
        Parcel.objects.create(name=_name(request))
        yield b"made"

    return StreamingHttpResponse(body())


def streamed_async(request: HttpRequest) -> HttpResponse:
    async def body() -> Any:
        await Parcel.objects.acreate(name=_name(request))
        yield b"made"

    return StreamingHttpResponse(body())


def faulty(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("a fault of the view's own")


class Local:
    """The monolith's implementation."""

    def send(self, name: str) -> str:
        with transaction.atomic():
            Parcel.objects.create(name=name)
        return "local"

    def send_in_parts(self, name: str) -> str:
        Note.objects.create(text=name)
        return self.send(name)

    def send_carelessly(self, name: str) -> str:
        with contextlib.suppress(Exception):
            self.send(name)
        return "local"


class Remote:
    """Stands for the HTTP client."""

    def send(self, name: str) -> str:
        Note.objects.create(text=f"remote {name}")
        return "remote"

    send_in_parts = send_carelessly = send


seam: Seam[Any] = Seam(flag="parcels", local=Local, remote=Remote)


def through_seam(request: HttpRequest) -> HttpResponse:
    use = request.GET.get("use", "send")
    try:
        if "atomic" in request.GET:
            with transaction.atomic():
                Note.objects.create(text="order")
                side = seam.call(lambda api: getattr(api, use)(_name(request)))
        elif "resumable" in request.GET:
            with resumable():
                side = seam.call(lambda api: getattr(api, use)(_name(request)))
        else:
            side = seam.call(lambda api: getattr(api, use)(_name(request)))
            Note.objects.create(text="after the call")
    except RemoteInsideTransaction as error:
        return JsonResponse({"error": str(error)}, status=500)
    return JsonResponse({"side": side})


def awaited(request: HttpRequest) -> HttpResponse:
    found = arrival.wait_for(lambda: Parcel.objects.filter(name=_name(request)).first(), flag="parcels", timeout_s=0.6)
    return JsonResponse({"id": found.id})


def owner(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        flag = request.GET.get("flag", "parcels")
        return JsonResponse({"owner": ownership.owner(flag), "is_owner": ownership.is_owner(flag)})


def enqueued(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Parcel.objects.create(name=_name(request))
        id_ = outbox.enqueue("parcel.made", {"name": _name(request)})
    return JsonResponse({"id": str(id_), "dsn": bool(outbox.dsn())})


def sign_in(request: HttpRequest) -> HttpResponse:
    user, _ = get_user_model().objects.get_or_create(username="root", is_staff=True, is_superuser=True)
    login(request, user)
    return HttpResponse(status=204)


def context(request: HttpRequest) -> HttpResponse:
    return JsonResponse(outbound_headers())
