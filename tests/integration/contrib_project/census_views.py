"""Views that read and write a table that moves, each in another way."""

from collections.abc import Callable

from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.template import engines

from strangler_proxy.contrib.django.census import TableRefused
from tests.integration.contrib_project.models import Note, Parcel


def book(request: HttpRequest, number: int) -> HttpResponse:
    """Reads rows that move."""
    return HttpResponse(str(list(Parcel.objects.filter(id__gte=number).values_list("name", flat=True))))


def add(request: HttpRequest) -> HttpResponse:
    """Writes one."""
    Parcel.objects.create(name="added")
    return HttpResponse("added")


def other(request: HttpRequest) -> HttpResponse:
    """Reads what stays."""
    return HttpResponse(str(Note.objects.count()))


def through(request: HttpRequest, way: str) -> HttpResponse:
    """Reads rows that move, past the plain cursor."""
    WAYS[way]()
    return HttpResponse(way)


async def awaited(request: HttpRequest) -> HttpResponse:
    """Reads in a thread of another name."""
    return HttpResponse(str(await Parcel.objects.acount()))


def broken(request: HttpRequest) -> HttpResponse:
    """A transaction goes on after a refused read: nothing of it was broken."""
    with transaction.atomic():
        Note.objects.create(text="before")
        try:
            Parcel.objects.count()
        except TableRefused as error:
            Note.objects.create(text=str(error))
    return HttpResponse("ok")


def _raw() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM public.Parcel AS p")


def _iterated() -> None:
    list(Parcel.objects.iterator())


def _rendered() -> None:
    engines["django"].from_string("{% for each in rows %}{{ each.name }}{% endfor %}").render(
        {"rows": Parcel.objects.all()}
    )


def _second() -> None:
    with connections["second"].cursor() as cursor:
        cursor.execute("SELECT 1 FROM parcel")


WAYS: dict[str, Callable[[], None]] = {
    "raw": _raw,
    "iterated": _iterated,
    "rendered": _rendered,
    "second": _second,
}
