"""Views that write in the ways that code does; each says in its answer what it saw."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import kombu
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.core.cache import caches
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.mail import EmailMessage, send_mail, send_mass_mail
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse

from strangler_proxy.contrib.django import outbox
from tests.integration.contrib_project.models import Note, Parcel
from tests.integration.contrib_project.shadow_settings import celery
from tests.integration.contrib_project.shadow_tasks import count_parcels

Deed = Callable[[HttpRequest], dict[str, Any]]
DEEDS: dict[str, Deed] = {}


def deed(do: Deed) -> Deed:
    """Register one way of writing, as a view of its name."""
    DEEDS[do.__name__.replace("_", "-")] = do
    return do


def view(do: Deed) -> Callable[[HttpRequest], HttpResponse]:
    """A view of a deed; with the counts that the request itself sees."""

    def answer(request: HttpRequest) -> HttpResponse:
        done = do(request)
        return JsonResponse({**done, "parcels": Parcel.objects.count(), "notes": Note.objects.count()}, status=201)

    return answer


def named(request: HttpRequest) -> str:
    """The name that a test asks for."""
    return request.GET.get("name", "p")


@deed
def autocommit(request: HttpRequest) -> dict[str, Any]:
    Parcel.objects.create(name=named(request))
    return {"updated": Parcel.objects.filter(name=named(request)).update(name="renamed")}


@deed
def in_atomic(request: HttpRequest) -> dict[str, Any]:
    with transaction.atomic():
        parcel = Parcel.objects.create(name=named(request))
        Note.objects.create(text="beside")
        parcel.name = "saved again"
        parcel.save()
    return {}


@deed
def bulk(request: HttpRequest) -> dict[str, Any]:
    Parcel.objects.bulk_create([Parcel(name=f"{named(request)}{number}") for number in range(3)])
    deleted, _ = Parcel.objects.filter(name="p1").delete()
    return {"deleted": deleted}


@deed
def durable(request: HttpRequest) -> dict[str, Any]:
    with transaction.atomic(durable=True):
        Parcel.objects.create(name=named(request))
    with transaction.atomic(durable=True), transaction.atomic():
        Note.objects.create(text="nested in a durable one")
    return {}


@deed
def durable_inside_atomic(request: HttpRequest) -> dict[str, Any]:
    with transaction.atomic():
        try:
            with transaction.atomic(durable=True):
                Parcel.objects.create(name=named(request))
        except RuntimeError:
            return {"refused": True}
    return {"refused": False}


@deed
def savepoints(request: HttpRequest) -> dict[str, Any]:
    with transaction.atomic():
        Parcel.objects.create(name=named(request))
        with contextlib.suppress(DatabaseError), transaction.atomic():
            Note.objects.create(text="lost")
            Parcel.objects.create(name=None)
        sid = transaction.savepoint()
        Note.objects.create(text="lost too")
        transaction.savepoint_rollback(sid)
    with transaction.atomic():
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            Parcel.objects.create(name="the first write, and lost")
            raise ZeroDivisionError
        Parcel.objects.create(name="the first write that stays")
    return {}


@deed
def error_in_autocommit(request: HttpRequest) -> dict[str, Any]:
    Note.objects.create(text="before")
    with contextlib.suppress(IntegrityError):
        Parcel.objects.create(name=None)
    Note.objects.create(text="after")
    return {}


@deed
def rolled_back(request: HttpRequest) -> dict[str, Any]:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        Parcel.objects.create(name=named(request))
        raise ZeroDivisionError
    return {}


@deed
def deferred_constraint(request: HttpRequest) -> dict[str, Any]:
    told = []
    for how in ("atomic", "autocommit"):
        try:
            with transaction.atomic() if how == "atomic" else contextlib.nullcontext(), connection.cursor() as cursor:
                cursor.execute("INSERT INTO label (parcel_id) VALUES (-1)")
        except IntegrityError:
            told.append(how)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO label (parcel_id) VALUES (77777)")
            cursor.execute("INSERT INTO parcel (id, name) VALUES (77777, 'made after its label')")
        connection.check_constraints()
    return {"told": told}


@deed
def locking(request: HttpRequest) -> dict[str, Any]:
    try:
        list(Parcel.objects.select_for_update().all())
        outside = "allowed"
    except transaction.TransactionManagementError:
        outside = "refused"
    with transaction.atomic():
        for parcel in Parcel.objects.select_for_update().order_by("id")[:2]:
            parcel.name = f"{parcel.name}!"
            parcel.save(update_fields=["name"])
    return {"outside": outside}


@deed
def by_hand(request: HttpRequest) -> dict[str, Any]:
    if connection.in_atomic_block:
        return {}
    transaction.set_autocommit(False)
    try:
        Parcel.objects.create(name=named(request))
        transaction.commit()
        Parcel.objects.create(name="never")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO note (text) VALUES ('by hand')")
        cursor.execute("COMMIT")
    return {}


@deed
def below_django(request: HttpRequest) -> dict[str, Any]:
    connection.ensure_connection()
    driver: Any = connection.connection
    driver.execute("INSERT INTO note (text) VALUES ('by the driver')")
    if not connection.in_atomic_block:
        driver.commit()
    with connection.cursor() as cursor, cursor.copy("COPY parcel (name) FROM STDIN") as copy:
        copy.write_row(["copied"])
    return {}


@deed
def closing(request: HttpRequest) -> dict[str, Any]:
    if connection.in_atomic_block:
        return {}
    Parcel.objects.create(name=named(request))
    connection.close()
    return {"there": Parcel.objects.filter(name=named(request)).exists()}


@deed
def on_commit(request: HttpRequest) -> dict[str, Any]:
    order: list[str] = []
    with transaction.atomic():
        Parcel.objects.create(name=named(request))
        transaction.on_commit(lambda: order.append("hook"))
        transaction.on_commit(lambda: Note.objects.create(text="from a hook"))
        transaction.on_commit(lambda: count_parcels.delay(7))
        transaction.on_commit(lambda: send_mail("hooked", "body", "a@example.org", ["b@example.org"]))
        order.append("body")
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: order.append("never"))
        raise ZeroDivisionError
    return {"order": order}


@deed
def other_databases(request: HttpRequest) -> dict[str, Any]:
    Note.objects.using("second").create(text=named(request))
    with transaction.atomic("lite"):
        Note.objects.using("lite").create(text=named(request))
    Note.objects.using("lite").create(text="autocommit")
    with contextlib.suppress(IntegrityError):
        Note.objects.using("lite").create(text=None)
    Note.objects.using("lite").create(text="after an error")
    return {"lite": Note.objects.using("lite").count(), "second": Note.objects.using("second").count()}


@deed
def mail(request: HttpRequest) -> dict[str, Any]:
    sent = send_mail("one", "body", "a@example.org", ["b@example.org"], html_message="<p>body</p>")
    sent += send_mass_mail([("two", "x", "a@example.org", ["c@example.org"]), ("three", "x", None, [])])
    letter = EmailMessage("four", "x", "a@example.org", ["d@example.org"], headers={"X-Kind": "receipt"})
    letter.attach("a.txt", "attached", "text/plain")
    return {"sent": sent + letter.send()}


@deed
def tasks(request: HttpRequest) -> dict[str, Any]:
    result = count_parcels.apply_async(args=[1], kwargs={"again": True}, countdown=5)
    celery.send_task("elsewhere.named", ["x"])
    return {"has_id": bool(result.id)}


@deed
def publishing(request: HttpRequest) -> dict[str, Any]:
    with kombu.Connection(settings.CONTRIB_BROKER) as broker, broker.SimpleQueue("plain") as queue:
        queue.put({"hello": named(request)})
        kombu.Producer(broker).publish({"second": 2}, routing_key="plain")
    return {}


@deed
def caching(request: HttpRequest) -> dict[str, Any]:
    seen = {}
    for alias in ("default", "valkey", "files"):
        cache = caches[alias]
        cache.set("text", "changed")
        added, added_again = cache.add("fresh", [1, 2]), cache.add("fresh", [3])
        cache.set("number", 5)
        cache.set_many({"a": 1, "b": 2})
        counted = cache.incr("counter") if "counter" in cache else None
        cache.delete("gone")
        cache.delete_many(["b"])
        seen[alias] = [
            cache.get("text"), added, added_again, cache.incr("number", 3), cache.get_many(["a", "b", "gone"]),
            counted, cache.get_or_set("made", lambda: "now"), "gone" in cache, cache.touch("text", 100),
        ]  # fmt: skip
    return seen


@deed
def clearing(request: HttpRequest) -> dict[str, Any]:
    cleared = {}
    for alias in ("default", "valkey", "files"):
        caches[alias].clear()
        cleared[alias] = caches[alias].get("text")
    return cleared


@deed
def signing_in(request: HttpRequest) -> dict[str, Any]:
    user, made = get_user_model().objects.get_or_create(username="ada")
    login(request, user)
    request.session["basket"] = [1, 2]
    return {"made": made}


@deed
def files(request: HttpRequest) -> dict[str, Any]:
    name = default_storage.save("there.txt", ContentFile(b"new content"))
    with default_storage.open(name) as file:
        read = file.read().decode()
    default_storage.delete("kept.txt")
    return {"read": read, "kept": default_storage.exists("kept.txt"), "bytes": default_storage.size(name)}


@deed
def calling(request: HttpRequest) -> dict[str, Any]:
    url = request.GET["url"]
    with httpx.Client(trust_env=False) as client:
        answer = client.post(url, json={"amount": named(request)}, headers={"Idempotency-Key": "k-1"})
    Parcel.objects.create(name=answer.json()["id"])
    return {"status": answer.status_code, "id": answer.json()["id"]}


@deed
def fault_after_writing(request: HttpRequest) -> dict[str, Any]:
    Parcel.objects.create(name=named(request))
    caches["valkey"].set("text", "changed")
    send_mail("before the fault", "body", "a@example.org", ["b@example.org"])
    raise ZeroDivisionError("a fault of the view's own")


@deed
def fault_in_atomic(request: HttpRequest) -> dict[str, Any]:
    with transaction.atomic():
        Parcel.objects.create(name=named(request))
        raise ZeroDivisionError("a fault of the view's own")


@deed
def replicas_and_raw_sql(request: HttpRequest) -> dict[str, Any]:
    with connections["second"].cursor() as cursor:
        cursor.execute("WITH made AS (INSERT INTO note (text) VALUES ('cte') RETURNING id) SELECT count(*) FROM made")
        (count,) = cursor.fetchone()
    return {"count": count, "iterated": len(list(Note.objects.using("second").iterator(chunk_size=2)))}


@deed
def enqueued(request: HttpRequest) -> dict[str, Any]:
    outbox.enqueue("parcel.seen", {"name": named(request)})
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        outbox.enqueue("parcel.lost", {"name": named(request)})
        raise ZeroDivisionError
    with transaction.atomic():
        Parcel.objects.create(name=named(request))
        outbox.enqueue("parcel.made", {"name": named(request)})
    return {}


@deed
def pooled(request: HttpRequest) -> dict[str, Any]:
    def work(number: int) -> int:
        try:
            Note.objects.create(text=f"from a pool {number}")
            send_mail(f"from a pool {number}", "body", "a@example.org", ["b@example.org"])
        finally:
            connection.close()
        return number

    with ThreadPoolExecutor(1) as pool:
        return {"done": list(pool.map(work, range(3)))}


@deed
def committing_below(request: HttpRequest) -> dict[str, Any]:
    Note.objects.create(text="about to be committed by force")
    with connection.connection.cursor() as cursor:
        cursor.execute("COMMIT")
    return {}


@deed
def committing_by_libpq(request: HttpRequest) -> dict[str, Any]:
    Note.objects.create(text="about to be committed by libpq")
    result = connection.connection.pgconn.exec_(b"COMMIT")
    return {"status": result.status}


@deed
def locking_in_the_cache(request: HttpRequest) -> dict[str, Any]:
    Note.objects.create(text="before")
    with default_storage.open("written.txt", "wb") as file:
        file.write(b"x")
    return {}
