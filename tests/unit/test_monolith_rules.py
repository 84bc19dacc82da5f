"""The monolith's pure parts: words, fields, cursors, signatures, attempts, environment."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.accounts import rules as accounts
from monolith.config.body import parse_object
from monolith.config.environment import BadEnvironment, read_environment
from monolith.config.problem import KINDS, Answer, Problem, refusal
from monolith.orders.rules import parse_items
from monolith.payments import rules as payments
from tests.servers import ROOT

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
_ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", re.M)


def test_problems_are_word_for_word_those_of_the_page() -> None:
    page = _ROW.findall((ROOT / "docs/reference/http-api.md").read_text())
    assert len(page) > 15
    for code, status, title, detail in page:
        words = re.sub(r" \(with `Retry-After.*\)$", "", detail)
        told = Problem(code, method="METHOD", status_word="STATUS", amount="AMOUNT", currency="CURRENCY")
        assert (str(told.status), told.title, told.detail) == (status, title, words)


@pytest.mark.parametrize("code", sorted(KINDS))
def test_a_refusal_of_the_other_side_keeps_its_words(code: str) -> None:
    told = Problem(code, detail="As they said.", headers={"Retry-After": "7"})
    again = refusal(told.answer())
    assert (again.code, again.detail, again.headers["Retry-After"]) == (code, "As they said.", "7")


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"code": "unheard_of", "detail": ""}', '{"code": "forbidden"}'])
def test_an_answer_that_is_no_problem_means_unavailable(text: str) -> None:
    assert refusal(Answer(status=502, text=text)).code == "service_unavailable"


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b'"x"', b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_malformed(raw: bytes) -> None:
    with pytest.raises(Problem, match="malformed_body"):
        parse_object(raw, "application/json")


@given(
    st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 12, 31)).map(lambda d: d.replace(tzinfo=UTC)),
    st.uuids(),
)
def test_a_cursor_is_read_as_it_was_written(moment: datetime, intent: uuid.UUID) -> None:
    assert payments.read_cursor(payments.make_cursor(moment, intent)) == (moment, intent)


@given(st.text(max_size=80))
def test_no_text_breaks_the_cursor(text: str) -> None:
    payments.read_cursor(text)


@pytest.mark.parametrize(
    "amount", ["0", "0.00", "-1", "1.", ".5", "1.234", "1000000", "1e3", "١", " 1", "1\n", 5, 5.0, True]
)
def test_amounts_that_are_refused(amount: object) -> None:
    body = {"amount": amount, "currency": "EUR", "card_token": "t"}
    with pytest.raises(Problem) as refused:
        payments.parse_new_intent(body)
    assert refused.value.errors == {"amount": [payments.BAD_AMOUNT]}


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(Problem) as refused:
        payments.parse_new_intent({"amount": None, "currency": "DEM", "card_token": "x" * 65, "order_id": True})
    assert set(refused.value.errors or {}) == {"amount", "currency", "card_token", "order_id"}


def test_signatures_hold_for_five_minutes_and_for_one_body() -> None:
    mac = hmac.new(b"secret", b"1000.{}", hashlib.sha256).hexdigest()
    header = f"t=1000,v1={mac}"
    assert payments.signature_holds(header, b"{}", secret="secret", now_s=1300)
    assert not payments.signature_holds(header, b"{}", secret="secret", now_s=1301)
    assert not payments.signature_holds(header, b"{ }", secret="secret", now_s=1000)
    assert not payments.signature_holds(header, b"{}", secret="other", now_s=1000)
    assert not payments.signature_holds("t=1000", b"{}", secret="secret", now_s=1000)


def test_the_same_refund_at_both_sides() -> None:
    intent = uuid.UUID("11111111-2222-4333-8444-555555555555")
    assert payments.refund_id(intent, "k") == uuid.uuid5(intent, "refund:k")


def test_five_failures_close_the_door_until_the_first_of_them_is_old() -> None:
    failures = [NOW - timedelta(seconds=age) for age in (299, 200, 100, 50, 1)]
    assert accounts.retry_after_s(failures, NOW) == 1
    assert accounts.retry_after_s(failures[1:], NOW) is None
    assert accounts.retry_after_s(failures, NOW + timedelta(seconds=1)) is None


@pytest.mark.parametrize("items", [None, [], {}, [1], [{"product_id": 1}], [{"product_id": True, "quantity": 1}],
                                   [{"product_id": 1, "quantity": 0}], [{"product_id": 2**63, "quantity": 1}],
                                   [{"product_id": 1, "quantity": 60}, {"product_id": 1, "quantity": 60}]])  # fmt: skip
def test_items_that_are_refused(items: object) -> None:
    with pytest.raises(Problem) as refused:
        parse_items({"items": items})
    assert set(refused.value.errors or {}) == {"items"}


def test_the_environment_lists_everything_that_is_wrong() -> None:
    with pytest.raises(BadEnvironment) as refused:
        read_environment({"SHOP_DATABASE_URL": "x", "SHOP_DEBUG": "maybe", "SHOP_PROXY_URL": "ftp://x"})
    assert len(str(refused.value).splitlines()) >= 4, "the three, and the secret key that only debugging spares"
