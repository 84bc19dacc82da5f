"""A payment's Idempotency-Key holds while the writer moves, both ways: one charge, one answer, no false refusal."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from tests.acceptance.stack import Stack
from tests.acceptance.traffic import PASSWORD

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

INTENTS = "/api/payments/intents"
NEW = {"amount": "12.34", "currency": "EUR", "card_token": "tok_visa"}


@dataclass(slots=True)
class Customer:
    """Somebody who pays, and looks again where an answer is lost, with the same key."""

    http: httpx.Client
    processor: httpx.Client
    headers: dict[str, str]

    def intent(self) -> str:
        """A new payment; its id."""
        made = self.post(INTENTS, f"make-{uuid.uuid4()}", NEW)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def post(self, path: str, key: str, body: object = None, **options: float) -> httpx.Response:
        """One request, without a second try."""
        return self.http.post(path, json=body or {}, headers={**self.headers, "Idempotency-Key": key}, **options)  # type: ignore[arg-type]

    def capture(self, intent: str, **options: float) -> httpx.Response:
        """Charge it; the key is made of the payment's id."""
        return self.post(f"{INTENTS}/{intent}/capture", f"capture-{intent}", **options)

    def refund(self, intent: str) -> httpx.Response:
        """Give a part back; the key is made of the payment's id."""
        return self.post(f"{INTENTS}/{intent}/refunds", f"refund-{intent}", {"amount": "2.00", "reason": "late"})

    def switch(self, **switches: float) -> None:
        """Have the card processor behave."""
        self.processor.put("/v1/switches", json=switches).raise_for_status()

    def charges(self, intent: str) -> int:
        """How often the card was charged for it."""
        ledger = self.processor.get("/v1/ledger").raise_for_status().json()
        assert not ledger["duplicate_references"]
        return sum(charge["reference"] == intent for charge in ledger["charges"])

    def refunds(self, refund: str) -> int:
        """How often the card processor gave it back."""
        ledger = self.processor.get("/v1/ledger").raise_for_status().json()
        return sum(each["reference"] == refund for each in ledger["refunds"])


def in_the_end(send: Callable[[], httpx.Response], within_s: float = 60.0) -> httpx.Response:
    """As a careful client does: again, with the same key, while nothing comes or it is told to come back."""
    ends = time.monotonic() + within_s
    while True:
        try:
            answer = send()
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code not in (429, 502, 503, 504) and not _in_progress(answer):
            return answer
        assert time.monotonic() < ends, "no final answer" if answer is None else answer.text
        time.sleep(0.3)


def _in_progress(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["code"] == "in_progress"


@pytest.fixture
def customer(stack: Stack) -> Iterator[Customer]:
    url, token = stack.processor()
    with (
        httpx.Client(base_url=stack.proxy_url, timeout=20.0, trust_env=False) as http,
        httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20.0, trust_env=False
        ) as processor,
    ):
        email = f"k{uuid.uuid4().hex[:16]}@example.com"
        body = {"email": email, "password": PASSWORD, "name": "Kim"}
        assert http.post("/api/auth/register", json=body).status_code == 201
        signed = http.post("/api/auth/token", json={"email": email, "password": PASSWORD}).json()
        made = Customer(http, processor, {"Authorization": f"Bearer {signed['access_token']}"})
        yield made
        made.switch(latency_ms=0, timeout_after_charge_rate=0.0)


def until(true: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait."""
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, what
        time.sleep(0.05)


def status_at_owner(urls: Mapping[str, str], owner: str, intent: str) -> str:
    """What the owner's database says of a payment."""
    url = urls["payments" if owner == "extracted" else "monolith"]
    table = "intent" if owner == "extracted" else "payments_intent"
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(f"SELECT status FROM {table} WHERE id = %s::uuid".encode(), (intent,)).fetchone()
    return "" if row is None else str(row[0])


def move(stack: Stack, to: str) -> None:
    """The cutover."""
    options = ("--weight", "50%") if to == "canary" else ()
    stack.flip("payments", to, *options, "--reason", "keys")


def make_many(customer: Customer, stop: threading.Event) -> dict[str, httpx.Response]:
    """New payments one after the other until told to stop: the final answer by key."""
    made = {}
    while not stop.is_set():
        key = f"make-{uuid.uuid4()}"
        made[key] = in_the_end(lambda key=key: customer.post(INTENTS, key, NEW))  # type: ignore[misc]
        stop.wait(0.05)
    return made


@pytest.mark.parametrize(("to", "owner"), [("extracted", "extracted"), ("canary", "monolith")])
def test_a_key_holds_across_a_cutover(stack: Stack, customer: Customer, to: str, owner: str) -> None:
    before = "monolith" if owner == "extracted" else "extracted"
    if stack.stage("payments")["owner"] != before:
        move(stack, "canary" if before == "monolith" else "extracted")
    stack.wait_until_equal("payments", timeout_s=60.0)
    urls = stack.dsns  # each look at it starts a process
    answered, timed_out, cut_off, in_flight = intents = [customer.intent() for _ in range(4)]
    first = customer.capture(answered)
    assert first.status_code == 200, first.text

    customer.switch(timeout_after_charge_rate=1.0)  # charged, and the answer never comes
    lost = customer.capture(timed_out)
    assert (lost.status_code, lost.json()["code"]) == (503, "processor_unavailable")
    customer.switch(timeout_after_charge_rate=0.0, latency_ms=3000)
    stop = threading.Event()
    with ThreadPoolExecutor(3) as others:
        with pytest.raises(httpx.ReadTimeout):  # the client goes away while the card is being charged
            customer.capture(cut_off, timeout=0.5)
        held = others.submit(in_the_end, lambda: customer.capture(in_flight))
        back = others.submit(in_the_end, lambda: customer.refund(answered))
        many = others.submit(make_many, customer, stop)
        try:
            until(lambda: status_at_owner(urls, before, in_flight) == "capturing", 10, "the capture did not begin")
            move(stack, to)
        finally:
            customer.switch(latency_ms=0)
            moved = time.monotonic()
            stop.set()
        captured, refunded, made = held.result(timeout=90), back.result(timeout=90), many.result(timeout=90)
    assert stack.stage("payments")["owner"] == owner

    again = customer.capture(answered)
    assert (again.status_code, again.content) == (200, first.content), "the stored answer, byte for byte"
    other = customer.post(f"{INTENTS}/{answered}/capture", f"capture-{answered}", {"note": "another request"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (captured.status_code, refunded.status_code) == (200, 201), captured.text + refunded.text
    assert customer.capture(in_flight).content == captured.content
    assert customer.refund(answered).content == refunded.content
    assert made
    for key, answer in made.items():
        assert (answer.status_code, customer.post(INTENTS, key, NEW).content) == (201, answer.content)
    late = in_the_end(lambda: customer.capture(timed_out))
    assert (late.status_code, late.json()["status"]) == (200, "captured")
    assert customer.capture(timed_out).content == late.content

    until(lambda: status_at_owner(urls, owner, cut_off) == "captured", 60, "the owner's sweeper did not go on")
    print(f"to {owner}: {len(made)} made meanwhile; the abandoned one finished {time.monotonic() - moved:.1f} s after")
    told = in_the_end(lambda: customer.capture(cut_off))
    assert (told.status_code, told.json()["status"]) == (200, "captured")
    assert [customer.charges(each) for each in intents] == [1, 1, 1, 1]
    assert customer.refunds(refunded.json()["id"]) == 1
