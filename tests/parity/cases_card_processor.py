"""Captures, refunds and webhooks, with a card processor that declines, is away, or never answers."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.parity.shop import Case, Shop, expect, expect_problem

AWAY = "A payment that is capturing cannot be captured."


@contextmanager
def switched(shop: Shop, **switches: object) -> Iterator[None]:
    """The card processor misbehaves within."""
    shop.side.processor.switch(**switches)
    try:
        yield
    finally:
        shop.side.processor.switch(latency_ms=0, decline_rate=0.0, timeout_after_charge_rate=0.0, down=False)


def captures(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user, "12.50")
    first = shop.capture(user, intent_id, "k")
    intent = expect(first, 200)
    assert (intent["status"], intent["captured_amount"], intent["refunded_amount"]) == ("captured", "12.50", "0.00")
    again = shop.capture(user, intent_id, "k")
    assert (expect(again, 200), again.content) == (intent, first.content)
    assert again.headers["idempotent-replay"] == "true"
    expect_problem(shop.capture(user, intent_id, "k", document={}), "idempotency_key_reused")
    for _ in range(2):
        refused = shop.capture(user, intent_id, "other")
        expect_problem(refused, "not_capturable", detail="A payment that is captured cannot be captured.")
    assert refused.headers["idempotent-replay"] == "true"
    (charge,) = shop.charges(intent_id)
    assert (charge["amount"], charge["currency"], charge["source"]) == ("12.50", "EUR", "tok_visa")


def capture_bodies(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user)
    expect_problem(shop.capture(user, intent_id, "k", content=b"[]"), "malformed_body")
    expect_problem(shop.capture(user, intent_id, "k", content=b"{"), "malformed_body")
    typed = {"Content-Type": "text/plain"}
    expect_problem(shop.capture(user, intent_id, "k", content=b"{}", headers=typed), "unsupported_media_type")
    assert shop.status(user, intent_id) == "created"
    expect(shop.capture(user, intent_id, "k", document={"unknown": 1}), 200)
    expect(shop.capture(user, shop.intent(user), "typed but empty", content=b"", headers=typed), 200)


def declines(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user, card="tok_declined")
    first, again = shop.capture(user, intent_id, "k"), shop.capture(user, intent_id, "k")
    expect_problem(first, "card_declined")
    expect_problem(again, "card_declined")
    assert first.content == again.content
    assert again.headers["idempotent-replay"] == "true"
    intent = expect(shop.send("GET", f"/api/payments/intents/{intent_id}", token=user.token), 200)
    assert (intent["status"], intent["captured_amount"]) == ("declined", "0.00")
    expect_problem(
        shop.capture(user, intent_id, "k2"), "not_capturable", detail="A payment that is declined cannot be captured."
    )
    expect_problem(
        shop.refund(user, intent_id, "1.00", "r"),
        "not_refundable",
        detail="A payment that is declined cannot be refunded.",
    )


def refunds(shop: Shop) -> None:
    user = shop.user()
    path = f"/api/payments/intents/{shop.captured(user, '10.00')}"
    intent_id = path.rpartition("/")[2]
    document = {"amount": "2.5", "reason": "torn ☂"}
    first = shop.send("POST", f"{path}/refunds", document, token=user.token, key="r1")
    refund = expect(first, 201)
    assert set(refund) == {"id", "amount", "status", "reason", "created_at"}
    assert (refund["amount"], refund["status"], refund["reason"]) == ("2.50", "succeeded", "torn ☂")
    again = shop.send("POST", f"{path}/refunds", document, token=user.token, key="r1")
    assert (again.status_code, again.content, again.headers["idempotent-replay"]) == (201, first.content, "true")
    expect_problem(shop.refund(user, intent_id, "2.50", "r1"), "idempotency_key_reused")
    intent = expect(shop.send("GET", path, token=user.token), 200)
    assert (intent["status"], intent["refunded_amount"], intent["refunds"]) == ("partially_refunded", "2.50", [refund])
    for _ in range(2):
        large = shop.refund(user, intent_id, "7.51", "r2")
        expect_problem(large, "refund_too_large", detail="At most 7.50 EUR can be refunded.")
    assert large.headers["idempotent-replay"] == "true"
    rest = expect(shop.refund(user, intent_id, "7.50", "r3"), 201)
    intent = expect(shop.send("GET", path, token=user.token), 200)
    assert (intent["status"], intent["refunded_amount"]) == ("refunded", "10.00")
    assert [each["id"] for each in intent["refunds"]] == [refund["id"], rest["id"]]
    expect_problem(
        shop.refund(user, intent_id, "0.01", "r4"),
        "not_refundable",
        detail="A payment that is refunded cannot be refunded.",
    )


def refund_errors(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user)
    path = f"/api/payments/intents/{intent_id}/refunds"
    expect_problem(
        shop.refund(user, intent_id, "1.00", "created"),
        "not_refundable",
        detail="A payment that is created cannot be refunded.",
    )
    expect(shop.capture(user, intent_id), 200)
    bad = ["Enter an amount with at most two decimals, from 0.01 to 999999.99."]
    for document, errors in (
        ({}, {"amount": ["This field is required."]}),
        ({"amount": 1, "reason": 2}, {"amount": bad, "reason": ["Must be a string."]}),
        ({"amount": "0.001", "reason": "r" * 201}, {"amount": bad, "reason": ["Must have at most 200 characters."]}),
    ):
        answer = shop.send("POST", path, document, token=user.token, key="errors")
        expect_problem(answer, "invalid", errors=errors)
    for content in (b"", b"[]"):
        answer = shop.send("POST", path, content=content, token=user.token, key="errors")
        expect_problem(answer, "malformed_body")
    expect(shop.send("POST", path, {"amount": "1", "reason": None}, token=user.token, key="errors"), 201)


def card_processor_is_down(shop: Shop) -> None:
    user = shop.user()
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, down=True):
        for _ in range(2):
            expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
            expect_problem(shop.refund(user, captured, "6.00", "r"), "processor_unavailable")
        assert shop.status(user, intent_id) == "capturing"
        expect_problem(shop.capture(user, intent_id, "other"), "not_capturable", detail=AWAY)
        too_large = shop.refund(user, captured, "4.01", "r2")
        expect_problem(too_large, "refund_too_large", detail="At most 4.00 EUR can be refunded.")
        intent = expect(shop.send("GET", f"/api/payments/intents/{captured}", token=user.token), 200)
        assert [refund["status"] for refund in intent["refunds"]] == ["pending"]
        assert (intent["status"], intent["refunded_amount"]) == ("captured", "0.00")
    answer = shop.capture(user, intent_id, "k")
    assert expect(answer, 200)["status"] == "captured"
    assert "idempotent-replay" not in answer.headers
    assert expect(shop.refund(user, captured, "6.00", "r"), 201)["status"] == "succeeded"
    expect_problem(shop.capture(user, intent_id, "other"), "not_capturable", detail=AWAY)
    assert len(shop.charges(intent_id)) == 1


def answer_never_comes(shop: Shop) -> None:
    user = shop.user()
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, timeout_after_charge_rate=1.0), ThreadPoolExecutor(2) as both:
        capture = both.submit(shop.capture, user, intent_id, "k", keep=False)
        refund = both.submit(shop.refund, user, captured, "6.00", "r", keep=False)
        # The webhook may be faster than the time-out: the answer is the same, the state is not.
        expect_problem(capture.result(30), "processor_unavailable")
        expect_problem(refund.result(30), "processor_unavailable")
    assert expect(shop.capture(user, intent_id, "k"), 200)["status"] == "captured"
    assert expect(shop.refund(user, captured, "6.00", "r"), 201)["status"] == "succeeded"
    assert len(shop.charges(intent_id)) == 1


def request_that_died_is_gone_on_with(shop: Shop) -> None:
    user = shop.user()
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, down=True):
        expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
        expect_problem(shop.refund(user, captured, "6.00", "r"), "processor_unavailable")
    for key in ("k", "r"):
        shop.lock_key(user, key, age_s=0)
    expect_problem(shop.capture(user, intent_id, "k"), "in_progress")
    expect_problem(shop.refund(user, captured, "6.00", "r"), "in_progress")
    expect_problem(shop.refund(user, captured, "5.00", "r"), "idempotency_key_reused")
    resume = {"X-Strangler-Replay": "resume"}
    assert expect(shop.capture(user, intent_id, "k", headers=resume), 200)["status"] == "captured"
    shop.lock_key(user, "r", age_s=31)
    assert expect(shop.refund(user, captured, "6.00", "r"), 201)["status"] == "succeeded"


def second_request_while_the_first_waits(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user)
    with switched(shop, latency_ms=1200), ThreadPoolExecutor(1) as other:
        first = other.submit(shop.capture, user, intent_id, "k", keep=False)
        until = time.monotonic() + 10
        while shop.status_quietly(user, intent_id) != "capturing":
            assert time.monotonic() < until
            time.sleep(0.02)
        expect_problem(shop.capture(user, intent_id, "k"), "in_progress")
        expect(first.result(30), 200)
    again = shop.capture(user, intent_id, "k")
    assert (again.status_code, again.headers["idempotent-replay"]) == (200, "true")


def fifty_at_once_are_one_charge(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user)
    gate = threading.Barrier(50, timeout=60)

    def ask() -> tuple[int, bytes]:
        gate.wait()
        answer = shop.capture(user, intent_id, "k", keep=False)
        if answer.status_code == 409:
            expect_problem(answer, "in_progress")
        return answer.status_code, answer.content

    with ThreadPoolExecutor(50) as crowd:
        answers = [each.result(60) for each in [crowd.submit(ask) for _ in range(50)]]
    assert {status for status, _ in answers} <= {200, 409}
    assert len({content for status, content in answers if status == 200}) == 1
    assert len(shop.charges(intent_id)) == 1
    expect(shop.capture(user, intent_id, "k"), 200)


def fifty_refunds_at_once_give_no_more_than_was_taken(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.captured(user, "10.00")
    with ThreadPoolExecutor(12) as crowd:
        keys = [f"r{number // 2}" for number in range(24)]  # twelve keys, each twice
        answers = list(crowd.map(lambda key: shop.refund(user, intent_id, "3.00", key, keep=False), keys))
    assert {answer.status_code for answer in answers} <= {201, 409, 422}
    intent = shop.send("GET", f"/api/payments/intents/{intent_id}", token=user.token, keep=False).json()
    assert [refund["status"] for refund in intent["refunds"]] == ["succeeded"] * 3
    assert intent["refunded_amount"] == "9.00"


def creations_at_once_are_one_intent(shop: Shop) -> None:
    user = shop.user()
    document = {"amount": "1.00", "currency": "EUR", "card_token": "tok_visa"}

    def make(_: int) -> bytes:
        answer = shop.send("POST", "/api/payments/intents", document, token=user.token, key="k", keep=False)
        assert answer.status_code == 201, answer.text
        return answer.content

    with ThreadPoolExecutor(16) as crowd:
        assert len(set(crowd.map(make, range(32)))) == 1


def webhooks(shop: Shop) -> None:
    user = shop.user()
    event_id = f"evt_{secrets.token_hex(8)}"
    intent_id = shop.intent(user)
    data = {"id": f"ch_{secrets.token_hex(8)}", "status": "succeeded", "amount": "12.50", "currency": "EUR"}
    event = {"id": event_id, "kind": "charge.succeeded", "created_at": "x", "data": {**data, "reference": intent_id}}
    for _ in range(2):
        assert expect(shop.webhook(event), 204) is None
    assert shop.status(user, intent_id) == "created", "it had not been asked for"
    for kind in ("charge.declined", "refund.succeeded", "something.new"):
        assert expect(shop.webhook({"id": f"{event_id}{kind}", "kind": kind, "data": {"☂": "\U0001f302"}}), 204) is None


def webhook_records_a_capture_once(shop: Shop) -> None:
    user = shop.user()
    intent_id = shop.intent(user)
    with switched(shop, down=True):
        expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
    data = {"id": f"ch_{secrets.token_hex(8)}", "status": "succeeded", "amount": "12.50", "currency": "EUR"}

    def tell(**changes: object) -> None:
        document = {**data, "reference": intent_id, **changes}
        event = {"id": f"evt_{secrets.token_hex(8)}", "kind": "charge.succeeded", "data": document}
        assert expect(shop.webhook(event), 204) is None

    tell(amount="99.00")
    tell(reference="nobody's")
    assert shop.status(user, intent_id) == "capturing"
    tell()
    assert shop.status(user, intent_id) == "captured"
    tell(id="ch_other")
    answer = shop.capture(user, intent_id, "k")
    assert expect(answer, 200)["captured_amount"] == "12.50"
    assert shop.charges(intent_id) == [], "what is recorded is not charged again"


def webhook_errors(shop: Shop) -> None:
    event = {"id": f"evt_{secrets.token_hex(8)}", "kind": "charge.declined", "data": {}}
    now = int(time.time())
    for wrong in ("", "t=1,v1=00", f"t={now}", f"v1={'0' * 64}", f"t={now},v1={'0' * 64}", f"t=-1,v1={'0' * 64}"):
        expect_problem(shop.webhook(event, signature=wrong), "bad_signature")
    expect_problem(shop.webhook(event, secret="another"), "bad_signature")
    expect_problem(shop.webhook(event, age_s=310), "bad_signature")
    expect(shop.webhook(event, age_s=290), 204)
    for body in (b"", b"[]", b"{", {"id": 1, "kind": "x", "data": {}}, {"id": "x", "kind": "", "data": {}}):
        expect_problem(shop.webhook(body), "malformed_body")
    for changes in ({"id": "x" * 65}, {"kind": "x" * 41}, {"data": None}, {"data": [1]}):
        expect_problem(shop.webhook({**event, **changes}), "malformed_body")
    expect_problem(shop.webhook(b"[", signature=f"t={now},v1={'0' * 64}"), "bad_signature")
    expect_problem(shop.webhook(event, content_type="text/plain"), "unsupported_media_type")


CASES: tuple[Case, ...] = (
    captures,
    capture_bodies,
    declines,
    refunds,
    refund_errors,
    card_processor_is_down,
    answer_never_comes,
    request_that_died_is_gone_on_with,
    second_request_while_the_first_waits,
    fifty_at_once_are_one_charge,
    fifty_refunds_at_once_give_no_more_than_was_taken,
    creations_at_once_are_one_intent,
    webhooks,
    webhook_records_a_capture_once,
    webhook_errors,
)
