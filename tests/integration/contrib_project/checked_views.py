"""Views to be read, never run. Those that `ONCE` names commit at most once, those of `MORE` more than once."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import CreateView

from strangler_proxy.contrib.django.parts import commits_in_parts
from strangler_proxy.contrib.record import resumable
from tests.integration.contrib_project.models import Note, Parcel

SELECT = "SELECT 1"
DELETE = "DELETE FROM note"


def done() -> HttpResponse:
    return HttpResponse(status=204)


def make_both() -> None:
    Note.objects.create(text="n")
    Parcel.objects.create(name="p")


@transaction.atomic
def make_both_together() -> None:
    make_both()


# ------------------------------------------------------------------------------------------- more than one commit


def twice(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text="n")
    Parcel.objects.create(name="p")
    return done()


def below(request: HttpRequest) -> HttpResponse:
    make_both()
    return done()


def atomic_and_more(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        make_both()
    Note.objects.filter(text="n").update(text="m")
    return done()


def in_a_loop(request: HttpRequest) -> HttpResponse:
    for note in Note.objects.all():
        note.save(update_fields=["text"])
    return done()


def by_sql(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute(SELECT)
        cursor.execute(DELETE)
        cursor.execute("INSERT INTO note (text) VALUES (%s)", ["n"])
    return done()


def on_commit(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Note.objects.create(text="n")
        transaction.on_commit(lambda: Parcel.objects.create(name="p"))
    return done()


async def asynchronous(request: HttpRequest) -> HttpResponse:
    await Note.objects.acreate(text="n")
    await Parcel.objects.acreate(name="p")
    return done()


def after_a_refusal(request: HttpRequest) -> HttpResponse:
    try:
        Parcel.objects.create(name="p")
    except ValueError:
        Note.objects.create(text="refused")
    return done()


class Methods(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        Note.objects.create(text="seen")
        return done()

    def post(self, request: HttpRequest) -> HttpResponse:
        self.note()
        Parcel.objects.create(name="p")
        return done()

    def note(self) -> None:
        Note(text="n").save()


class Generic(CreateView):  # type: ignore[type-arg]
    model = Parcel
    fields = ["name"]

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        Note.objects.create(text="n")
        return answer


# ---------------------------------------------------------------------------------------------- at most one commit


def together(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Note.objects.create(text="n")
        Parcel.objects.create(name="p")
    return done()


@transaction.atomic
def decorated(request: HttpRequest) -> HttpResponse:
    make_both()
    return done()


def decorated_below(request: HttpRequest) -> HttpResponse:
    make_both_together()
    return done()


def either(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        Note.objects.create(text="n")
        return done()
    Parcel.objects.create(name="p")
    return done()


def either_or_gives_up(request: HttpRequest) -> HttpResponse:
    try:
        found = Parcel.objects.get(pk=1)
    except Parcel.DoesNotExist:
        Note.objects.create(text="n")
        raise
    found.delete()
    return done()


def going_on(request: HttpRequest) -> HttpResponse:
    Note.objects.create(text="intent")
    with resumable():
        Parcel.objects.create(name="p")
    return done()


def no_database(request: HttpRequest) -> HttpResponse:
    facts: dict[str, int] = {}
    facts.update({"a": 1})
    request.session.save()
    request.session.update({"seen": 1})
    Note.objects.create(text="n")
    return done()


@commits_in_parts("a note without its parcel does no harm")
def on_purpose(request: HttpRequest) -> HttpResponse:
    make_both()
    return done()


@method_decorator(transaction.atomic, name="dispatch")
class Whole(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        make_both()
        return done()


MORE = [twice, below, atomic_and_more, in_a_loop, by_sql, on_commit, asynchronous, after_a_refusal]
ONCE = [together, decorated, decorated_below, either, either_or_gives_up, going_on, no_database, on_purpose]
exempt = transaction.non_atomic_requests(twice)

urlpatterns = [
    *[path(view.__name__, view) for view in (*MORE, *ONCE)],
    path("methods", Methods.as_view()),
    path("generic", Generic.as_view()),
    path("whole", Whole.as_view()),
    path("wrapped", transaction.atomic(twice)),
]
