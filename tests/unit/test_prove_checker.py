"""Each check of the proof sees what it is there for: a history and books that are right, then one thing made wrong."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.prove.checker import Books, Grant, cents_of, judge

KEY, OTHER, GONE, FAILED, PAID = (f"0000{n:02d}00-0000-4000-8000-000000000000" for n in (16, 17, 18, 19, 20))


@dataclass
class Case:
    """A run of one flag: two cutovers, the monolith owns at the end."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    books: Books = field(default_factory=lambda: Books(rows={}, grants={}))

    def say(self, operation: str, phase: str, **facts: Any) -> None:
        self.lines.append({"at": len(self.lines), "client": "c0", "op": operation, "phase": phase, **facts})

    def row(self, key: str) -> tuple[Any, ...]:
        return (key, 1, f"{cents_of(key) / 100:g}", "EUR", "{}", f"at {key}")

    def both(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        for side in ("monolith", "extracted"):
            self.books.rows[side][table] = list(rows)

    def seen(self) -> str:
        return "; ".join(map(str, judge(self.lines, self.books).violations))


@pytest.fixture
def case() -> Case:
    made = Case()
    made.books.rows = {"monolith": {}, "extracted": {}}
    for count, key in enumerate((KEY, OTHER, GONE), 1):
        made.say("note", "invoke", key=key, person=1)
        made.say("note", "ok", key=key, person=1, side="monolith", answer=f"at {key}", counted=count)
    made.say("note", "invoke", key=FAILED, person=1)
    made.say("note", "fail", key=FAILED, person=1)
    made.say("erase", "invoke", key=GONE, person=1)
    made.say("erase", "ok", key=GONE, person=1, side="extracted")
    made.say("note", "ok", key=KEY, person=1, side="extracted", answer=f"at {KEY}", counted=2)
    for phase in ("invoke", "info", "ok"):
        made.say("name", phase, person=1, value="v1")
    made.say("join", "ok", email="a@b")
    for phase in ("invoke", "ok"):
        made.say("direct", phase, number="1")
    made.say("pay", "invoke", key=PAID, person=12)
    made.say("pay", "ok", key=PAID, person=12, answer="201 ch_1", charge="ch_1")
    held = sum(map(cents_of, (KEY, OTHER, PAID)))
    paid = (*made.row(PAID)[:4], '{"charge": "ch_1"}', "at")
    made.both("note", [made.row(KEY), made.row(OTHER), paid])
    made.both("person", [(1, "p1", "v1"), (9, "a@b", "joined")])
    made.both("tally", [("bank", 0, -held), ("direct", 0, 1), ("till", 0, held)])
    made.books.grants = {
        "monolith": [
            Grant(epoch=1, open=True, at=0.0),
            Grant(epoch=2, open=False, at=1.0),
            Grant(epoch=3, open=True, at=4.0),
        ],
        "extracted": [
            Grant(epoch=0, open=False, at=0.0),
            Grant(epoch=2, open=True, at=2.0),
            Grant(epoch=3, open=False, at=3.0),
        ],
    }
    made.books.left = {"monolith": 0, "extracted": 0}
    made.books.charges = {PAID: [("ch_1", "succeeded")]}
    made.books.effects = {PAID: 1}
    return made


def test_a_run_in_which_all_is_well_passes(case: Case) -> None:
    verdict = judge(case.lines, case.books)
    assert [str(each) for each in verdict.violations] == []
    assert (verdict.acknowledged, verdict.refused, verdict.unknown, verdict.payments) == (9, 1, 1, 1)


def test_an_acknowledged_key_that_is_lost(case: Case) -> None:
    for side in case.books.rows.values():
        side["note"] = [row for row in side["note"] if row[0] != OTHER]
    assert f"acknowledged key {OTHER} is lost" in case.seen()


def test_a_deleted_key_that_is_back(case: Case) -> None:
    case.both("note", [*case.books.rows["monolith"]["note"], case.row(GONE)])
    assert f"key {GONE} is back" in case.seen()


def test_a_phantom(case: Case) -> None:
    case.both("note", [*case.books.rows["monolith"]["note"], case.row("ffffff00")])
    assert "key ffffff00 is there, and nobody wrote it" in case.seen()


def test_a_failed_key_that_is_there(case: Case) -> None:
    case.both("note", [*case.books.rows["monolith"]["note"], case.row(FAILED)])
    assert f"key {FAILED} is there, and its client was told that nothing happened" in case.seen()


def test_a_key_twice(case: Case) -> None:
    case.both("note", [*case.books.rows["monolith"]["note"], case.row(KEY)])
    assert f"key {KEY} is there 2 times" in case.seen()


def test_another_answer_to_the_same_key(case: Case) -> None:
    case.say("note", "ok", key=KEY, person=1, side="extracted", answer="later", counted=2)
    assert f"key {KEY} was answered at {KEY} and then later" in case.seen()


def test_an_answer_that_the_owner_does_not_hold(case: Case) -> None:
    rows = deepcopy(case.books.rows["monolith"]["note"])
    rows[0] = (*rows[0][:5], "another time")
    case.both("note", list(rows))
    assert "the owner holds another time" in case.seen()


def test_money_that_is_not_constant(case: Case) -> None:
    tally = [(place, day, hits + (place == "till")) for place, day, hits in case.books.rows["monolith"]["tally"]]
    case.both("tally", tally)
    assert "money is not constant" in case.seen()
    assert "the till says" in case.seen()


def test_an_amount_that_changed(case: Case) -> None:
    rows = list(case.books.rows["monolith"]["note"])
    rows[0] = (*rows[0][:2], "7.77", *rows[0][3:])
    case.both("note", rows)
    assert f"key {KEY}: its amount was {cents_of(KEY)} cents, it is 7.77 EUR" in case.seen()


def test_an_acknowledged_name_that_is_lost(case: Case) -> None:
    case.both("person", [(1, "p1", "v0"), (9, "a@b", "joined")])
    assert "an acknowledged name is lost" in case.seen()


def test_a_person_that_is_there_twice(case: Case) -> None:
    case.both("person", [*case.books.rows["monolith"]["person"], (10, "a@b", "joined")])
    assert "person a@b is there 2 times" in case.seen()


def test_a_direct_write_that_is_lost(case: Case) -> None:
    case.say("direct", "ok", number="2")
    assert "the direct writer was told of 2 writes (0 unknown), 1 are there" in case.seen()


def test_own_writes_that_are_not_seen(case: Case) -> None:
    case.say("note", "ok", key=OTHER, person=1, side="extracted", answer=f"at {OTHER}", counted=1)
    assert "saw 1 notes of person 1 at extracted, 2 were acknowledged" in case.seen()


def test_stores_that_differ(case: Case) -> None:
    case.books.rows["extracted"]["person"] = [(1, "p1", "v1")]
    assert "table person: 2 and 1 rows, 1 differ" in case.seen()


def test_an_epoch_that_opened_both_sides(case: Case) -> None:
    case.books.grants["monolith"][1] = Grant(epoch=2, open=True, at=1.0)
    assert "epoch 2 opened both sides" in case.seen()


def test_both_sides_open_at_one_time(case: Case) -> None:
    case.books.grants["monolith"][1] = Grant(epoch=2, open=False, at=2.5)
    assert "monolith and extracted were open at one time" in case.seen()


def test_an_epoch_that_goes_back(case: Case) -> None:
    case.books.grants["extracted"].append(Grant(epoch=1, open=False, at=9.0))
    assert "the epoch at extracted went back from 3 to 1" in case.seen()


def test_nobody_open_at_the_end(case: Case) -> None:
    case.books.grants["monolith"].pop()
    assert "open sides at the end: none" in case.seen()


def test_a_cutover_that_never_ended(case: Case) -> None:
    case.books.left["monolith"] = 1
    assert "1 cutovers at monolith never ended" in case.seen()


def test_a_client_that_met_an_error(case: Case) -> None:
    case.say("crash", "info", error="UniqueViolation")
    assert "client c0 met an error nobody may see: UniqueViolation" in case.seen()


def test_a_key_that_was_charged_twice(case: Case) -> None:
    case.books.charges = {PAID: [("ch_1", "succeeded"), ("ch_2", "succeeded")]}
    assert f"key {PAID} was charged 2 times" in case.seen()


def test_a_payment_that_was_not_charged(case: Case) -> None:
    case.books.charges = {}
    assert f"payment {PAID} was acknowledged and not charged" in case.seen()


def test_a_payment_of_another_charge_than_the_client_was_told(case: Case) -> None:
    case.books.charges = {PAID: [("ch_7", "succeeded")]}
    assert f"payment {PAID} was answered ch_1, the provider has ch_7" in case.seen()


def test_a_charge_that_nobody_asked_for(case: Case) -> None:
    case.books.charges = {**(case.books.charges or {}), "ghost": [("ch_9", "succeeded")]}
    assert "charge of ghost, which nobody asked for" in case.seen()


@pytest.mark.parametrize("times", [0, 2])
def test_an_event_whose_effect_is_lost_or_doubled(case: Case, times: int) -> None:
    case.books.effects = {PAID: times}
    assert f"the event of payment {PAID} had its effect {times} times" in case.seen()
