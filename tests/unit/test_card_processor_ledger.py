"""The card processor's ledger: one operation per key, refunds within the charge, retries with back-off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.card_processor.ledger import KeyReused, Ledger, UnknownCharge, backoff_s
from tests.fakes.card_processor.money import from_cents, to_cents
from tests.fakes.card_processor.switches import Switches
from tests.fakes.card_processor.webhooks import sign


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock):
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock)
    yield ledger
    ledger.close()


def test_same_key_is_the_same_charge(ledger: Ledger) -> None:
    first = ledger.charge("k", 1250, "EUR", "tok_visa", "intent-1")
    again = ledger.charge("k", 1250, "EUR", "tok_visa", "intent-1")
    assert first.new
    assert not again.new
    assert again.body == first.body
    assert ledger.summary()["succeeded_charges"] == 1


def test_same_key_with_another_amount_is_refused(ledger: Ledger) -> None:
    ledger.charge("k", 1250, "EUR", "tok_visa", "intent-1")
    with pytest.raises(KeyReused):
        ledger.charge("k", 1251, "EUR", "tok_visa", "intent-1")
    assert ledger.summary()["charged_total"] == {"EUR": "12.50"}


def test_a_reference_charged_under_two_keys_is_listed(ledger: Ledger) -> None:
    ledger.charge("k1", 100, "EUR", "tok_visa", "intent-1")
    ledger.charge("k2", 100, "EUR", "tok_visa", "intent-1")
    ledger.charge("k3", 100, "EUR", "tok_declined", "intent-2")
    ledger.charge("k4", 100, "EUR", "tok_visa", "intent-2")
    assert ledger.summary()["duplicate_references"] == ["intent-1"]


def test_refunds_never_exceed_the_charge(ledger: Ledger) -> None:
    charge = ledger.charge("k", 1000, "EUR", "tok_visa", "intent-1").body
    assert ledger.refund("r1", charge["id"], 600, "refund-1").body["status"] == "succeeded"
    assert ledger.refund("r2", charge["id"], 600, "refund-2").body["status"] == "failed"
    assert ledger.refund("r3", charge["id"], 400, "refund-3").body["status"] == "succeeded"
    assert ledger.summary()["refunded_total"] == {"EUR": "10.00"}


def test_a_declined_charge_cannot_be_refunded_and_an_unknown_one_is_an_error(ledger: Ledger) -> None:
    charge = ledger.charge("k", 1000, "EUR", "tok_declined", "intent-1").body
    assert charge["status"] == "declined"
    assert ledger.refund("r1", charge["id"], 1, "refund-1").body["status"] == "failed"
    with pytest.raises(UnknownCharge):
        ledger.refund("r2", "ch_none", 1, "refund-2")
    assert ledger.operation("r2") is None


def test_an_operation_is_found_by_its_key(ledger: Ledger) -> None:
    charge = ledger.charge("capture:1", 1000, "EUR", "tok_visa", "1").body
    assert ledger.operation("capture:1") == {"kind": "charge", **charge}
    assert ledger.operation("capture:2") is None


def test_events_are_retried_with_growing_pauses_and_given_up_after_a_day(ledger: Ledger, clock: Clock) -> None:
    ledger.charge("k", 1000, "EUR", "tok_visa", "intent-1")
    pauses = []
    for _ in range(8):
        (event,) = ledger.due_events(10)
        ledger.undelivered(event)
        pause = ledger.next_attempt_in()
        assert pause is not None
        pauses.append(pause)
        assert ledger.due_events(10) == []
        clock.now += pause
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    clock.now += 24 * 3600
    assert ledger.due_events(10) == []
    assert ledger.next_attempt_in() is None


def test_an_acknowledged_event_is_not_sent_again(ledger: Ledger) -> None:
    charge = ledger.charge("k", 1000, "EUR", "tok_visa", "intent-1").body
    (event,) = ledger.due_events(10)
    assert json.loads(event.body)["kind"] == "charge.succeeded"
    assert json.loads(event.body)["data"] == charge
    ledger.delivered(event.id)
    assert ledger.due_events(10) == []


def test_switches_survive_a_restart_and_refuse_what_is_out_of_range(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite3")
    ledger.set_switches(Switches().changed({"decline_rate": 0.25, "down": True}))
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite3")
    assert ledger.switches() == Switches(decline_rate=0.25, down=True)
    ledger.close()
    for bad in ({"decline_rate": 1.5}, {"latency_ms": -1}, {"down": 1}, {"other": 1}, {"decline_rate": True}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Switches().changed(bad)


def test_signature_is_over_time_and_raw_body() -> None:
    expected = "f18d2fcd9a24151471e3e2d71bc7ce901fb7b89b341918a08f95e9ffc497ea26"
    assert sign("secret", b"{}", 5) == "t=5,v1=" + expected


@given(st.integers(min_value=1, max_value=99_999_999))
def test_money_round_trips(cents: int) -> None:
    assert to_cents(from_cents(cents)) == cents


@pytest.mark.parametrize("value", [1, 1.5, "1", "1.5", "0.00", "-1.00", "1e3.00", "٣.00", None, "1234567.00"])
def test_other_amounts_are_refused(value: object) -> None:
    assert to_cents(value) is None


def test_backoff_is_capped() -> None:
    assert backoff_s(10_000) == 60
