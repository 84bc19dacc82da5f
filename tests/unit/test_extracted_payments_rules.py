"""Rules of the payments service: values in, values out."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracted.payments import fields, webhooks
from extracted.payments.idempotency import Answer, Ask, KeyRow, Next, check_key, fingerprint, next_step
from extracted.payments.intent import (
    Intent,
    IntentStatus,
    Refund,
    RefundStatus,
    format_time,
    refund_id_for,
    status_after_refunds,
)
from extracted.payments.money import format_amount, parse_amount
from extracted.payments.problem import KINDS, Code, Problem
from tests.parity.shop import PROBLEMS

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CENTS = st.integers(1, 99_999_999).map(lambda cents: Decimal(cents) / 100)


@given(CENTS)
def test_an_amount_that_is_told_is_read_back(amount: Decimal) -> None:
    assert parse_amount(format_amount(amount)) == amount


@given(st.text(max_size=12))
def test_what_is_read_as_an_amount_is_money_within_its_bounds(text: str) -> None:
    amount = parse_amount(text)
    if amount is not None:
        assert Decimal("0.01") <= amount <= Decimal("999999.99")
        assert amount == Decimal(text)
        assert text.isascii()


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)), st.uuids())
def test_a_cursor_is_read_back_to_the_microsecond(moment: datetime, intent_id: uuid.UUID) -> None:
    cursor = fields.format_cursor(moment.replace(tzinfo=UTC), intent_id)
    assert "=" not in cursor
    assert fields.parse_cursor(cursor) == (moment.replace(tzinfo=UTC), intent_id)


@given(st.text(max_size=120))
def test_a_made_up_cursor_is_refused_and_never_an_error(text: str) -> None:
    found = fields.parse_cursor(text)
    assert found is None or fields.format_cursor(*found) == text


@given(st.binary(max_size=60))
def test_a_body_is_an_object_or_a_problem(body: bytes) -> None:
    try:
        found: object = fields.parse_object(body)
    except Problem as problem:
        found = problem.code
    assert isinstance(found, dict) or found is Code.MALFORMED_BODY


def test_a_body_nested_without_end_is_malformed() -> None:
    for body in (b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000):
        with pytest.raises(Problem):
            fields.parse_object(body)


def ask(*, print_: str = "f", resume: bool = False) -> Ask:
    return Ask(customer_id=1, key="k", fingerprint=print_, resume=resume)


@pytest.mark.parametrize(
    ("row", "resume", "expected"),
    [
        (None, False, Next.BEGIN),
        (None, True, Next.BEGIN),
        (KeyRow(fingerprint="f", answer=Answer(status=200, text="{}"), locked=True), False, Next.REPLAY),
        (KeyRow(fingerprint="f", answer=Answer(status=402, text="{}"), locked=False), True, Next.REPLAY),
        (KeyRow(fingerprint="f", answer=None, locked=False), False, Next.GO_ON),
        (KeyRow(fingerprint="f", answer=None, locked=True), True, Next.GO_ON),
        (KeyRow(fingerprint="f", answer=None, locked=True), False, Code.IN_PROGRESS),
        (
            KeyRow(fingerprint="g", answer=Answer(status=200, text="{}"), locked=False),
            True,
            Code.IDEMPOTENCY_KEY_REUSED,
        ),
        (KeyRow(fingerprint="g", answer=None, locked=True), False, Code.IDEMPOTENCY_KEY_REUSED),
    ],
)
def test_a_key_says_what_a_request_does_next(row: KeyRow | None, resume: bool, expected: Next | Code) -> None:
    if isinstance(expected, Next):
        assert next_step(ask(resume=resume), row) is expected
        return
    with pytest.raises(Problem) as met:
        next_step(ask(resume=resume), row)
    assert met.value.code is expected


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "a\nb", "\x7f"])
def test_a_key_is_printable_ascii_of_bounded_length(key: str) -> None:
    check_key("x" * 255)
    with pytest.raises(Problem):
        check_key(key)


def test_a_fingerprint_is_of_method_route_and_raw_body() -> None:
    assert fingerprint("POST", "payments.create", b"{}") == hashlib.sha256(b"POST\npayments.create\n{}").hexdigest()
    assert fingerprint("POST", "payments.create", b"{}") != fingerprint("POST", "payments.create", b"{ }")


def test_a_refund_is_known_from_its_key_alone() -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    assert refund_id_for(one, "k") == refund_id_for(one, "k")
    assert len({refund_id_for(one, "k"), refund_id_for(one, "l"), refund_id_for(other, "k")}) == 3


def intent(captured: str, refunded: str, *pending: tuple[str, RefundStatus]) -> Intent:
    intent_id = uuid.uuid4()
    refunds = tuple(
        Refund(id=uuid.uuid4(), intent_id=intent_id, amount=Decimal(amount), status=status, reason="", created_at=NOW)
        for amount, status in pending
    )
    return Intent(
        id=intent_id, customer_id=1, order_ref=None, amount=Decimal(captured), currency="EUR",
        status=IntentStatus.CAPTURED, captured_amount=Decimal(captured), refunded_amount=Decimal(refunded),
        card_token="tok_secret", description="", processor_charge_id="ch", created_at=NOW, refunds=refunds,
    )  # fmt: skip


def test_pending_refunds_count_against_what_is_left_and_failed_ones_do_not() -> None:
    pending, failed, done = RefundStatus.PENDING, RefundStatus.FAILED, RefundStatus.SUCCEEDED
    assert intent("10.00", "2.00", ("2.00", done), ("3.00", pending), ("4.00", failed)).refundable == Decimal("5.00")


def test_a_card_token_is_not_in_what_is_printed() -> None:
    assert "tok_secret" not in repr(intent("1.00", "0.00"))


@given(CENTS, CENTS)
def test_the_status_after_refunds_follows_the_amounts(captured: Decimal, refunded: Decimal) -> None:
    status = status_after_refunds(captured, refunded)
    assert (status is IntentStatus.REFUNDED) == (refunded >= captured)
    assert status_after_refunds(captured, Decimal(0)) is IntentStatus.CAPTURED


def signed(body: bytes, at: int, secret: str = "s") -> str:
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def test_a_signature_holds_for_its_body_its_secret_and_five_minutes() -> None:
    body, now = b'{"id": 1}', 1_800_000_000
    for age_s in (0, 300, -300):
        webhooks.check_signature(signed(body, now - age_s), body, secret="s", now_s=now)
    for header, sent in (
        (signed(body, now - 301), body),
        (signed(body, now + 301), body),
        (signed(body, now, "other"), body),
        (signed(body, now), body + b" "),
        (signed(body, now).replace("v1=", "v0="), body),
        (signed(body, now) + ",v1=" + "0" * 64, body),
    ):
        with pytest.raises(Problem):
            webhooks.check_signature(header, sent, secret="s", now_s=now)


def test_what_cannot_be_stored_is_not_an_event_and_other_scripts_are() -> None:
    event = b'{"id": "e", "kind": "k", "data": {"text": "%s"}}'
    for text in (b"\\u0000", b"\\ud83d", b"\\udf02 \\ud83c"):
        with pytest.raises(Problem):
            webhooks.parse_event(event % text)
    assert webhooks.parse_event(event % b"\\ud83c\\udf02").payload["data"] == {"text": "\U0001f302"}


def test_every_problem_is_the_page_s_word_for_word() -> None:
    for code, kind in KINDS.items():
        if code.value in PROBLEMS:
            words = kind.detail.format(method="METHOD", status="STATUS", amount="AMOUNT", currency="CURRENCY")
            assert (kind.status, kind.title, words) == PROBLEMS[code.value]


def test_times_are_told_in_utc_with_microseconds() -> None:
    east = datetime(2026, 1, 1, 1, tzinfo=UTC) + timedelta(microseconds=7)
    assert format_time(east) == "2026-01-01T01:00:00.000007Z"
