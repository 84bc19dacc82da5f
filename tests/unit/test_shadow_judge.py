"""The judge: what is a fault, what is noise, what is a race, and what says nothing at all."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer, Side
from strangler_proxy.core.rules import RuleKind
from strangler_proxy.shadow.judge import ALIKE
from tests.court import SETTINGS, Court, always, rule
from tests.pairs import answer


def test_what_means_the_same_is_matched_at_once_and_nobody_is_asked() -> None:
    court = Court()
    court.take(answer({"a": 1.10, "b": [1, None]}), answer(b'{"b": [1, null],\n "a": 1.1}'))
    court.later(always(0, 0))
    assert (court.outcomes(), court.asks) == ((1, 0, 0, 0), [])


def test_a_difference_that_persists_is_confirmed() -> None:
    court = Court()
    one = court.take(answer({"price": "1.10"}), answer({"price": "1.1"}))
    assert court.one().requests == 1
    assert court.outcomes() == (0, 0, 0, 0)
    court.later(always({"price": "1.10"}, {"price": "1.1"}), SETTINGS.again_after_s - 0.01)
    assert court.outcomes() == (0, 0, 0, 0)
    court.later(always({"price": "1.10"}, {"price": "1.1"}))
    found = court.one()
    assert (court.outcomes(), found.confirmed, court.asks) == ((0, 1, 0, 0), 1, ["control", "candidate"])
    path = found.differences["price", Kind.VALUE]
    assert (path.count, path.covered, path.confirmed, path.sample) == (1, 0, 1, one.id)
    assert (path.control, path.candidate) == ('"1.10"', '"1.1"')


def test_a_difference_that_is_gone_when_asked_again_was_a_race() -> None:
    court = Court()
    court.take(answer({"stock": 3}), answer({"stock": 4}))
    court.later(always({"stock": 3}, {"stock": 3}))
    assert (court.outcomes(), court.one().confirmed) == ((0, 0, 1, 0), 0)
    assert court.one().differences["stock", Kind.VALUE].covered == 1


def test_where_the_control_differs_from_itself_it_is_noise_and_soon_nobody_is_asked() -> None:
    court = Court()
    clock = iter(range(1_000))
    for _ in range(30):
        court.take(answer({"at": next(clock)}), answer({"at": next(clock)}))
        court.later(lambda _, __: answer({"at": next(clock)}))
    assert court.outcomes() == (0, 0, 30, 0)
    assert len(court.asks) < 12


def test_noise_hides_no_fault_that_is_more_frequent_than_it() -> None:
    """The control's value changes for one request in twenty; the candidate's is always wrong."""
    chance = random.Random(7)

    def control() -> Answer:
        return answer({"offer": 2 if chance.random() < 0.05 else 1})

    court = Court()
    for _ in range(600):
        court.take(control(), answer({"offer": 1}), chosen=chance.random() < 0.3)
        court.later(lambda _, side: control() if side is Side.CONTROL else answer({"offer": 1}))
    quiet = court.one()
    assert (quiet.confirmed, quiet.compared) == (0, 600)
    for _ in range(400):
        court.take(control(), answer({"offer": 9}), chosen=chance.random() < 0.3)
        court.later(lambda _, side: control() if side is Side.CONTROL else answer({"offer": 9}))
    assert court.one().confirmed > 20


def test_what_the_control_chooses_by_chance_is_never_confirmed_for_long() -> None:
    """Two answers agree now and then though chance chose both; what was counted for a fault is taken back."""
    wrong = 0
    for seed in range(40):
        chance = random.Random(seed)

        def chosen(chance: random.Random = chance) -> Answer:
            return answer({"offer": chance.randrange(3)})

        court = Court()
        for pairs in range(1, 41):
            court.take(chosen(), chosen())
            court.later(lambda _, __: chosen())
            if pairs == 15:
                wrong += bool(court.one().confirmed)
        assert (court.one().mismatched, court.one().confirmed, court.one().compared) == (0, 0, 40)
        assert court.one().differences["offer", Kind.VALUE].confirmed == 0
    assert wrong < 6


def test_a_candidate_that_never_says_the_same_twice_is_confirmed_by_the_third_pair() -> None:
    chance = random.Random(2)

    def shuffled() -> Answer:
        return answer({"items": chance.sample(range(50), 50)})

    court = Court()
    for confirmed in (0, 0, 1, 2):
        court.take(answer({"items": list(range(50))}), shuffled())
        court.later(lambda _, side: answer({"items": list(range(50))}) if side is Side.CONTROL else shuffled())
        assert court.one().confirmed == confirmed
    assert court.one().mismatched == 4


def test_a_time_in_a_wrong_zone_is_no_noise_though_the_control_never_says_the_same_twice() -> None:
    def times(hours: int) -> Answer:
        clock[0] += 1
        at = dt.datetime(2026, 5, 1, 10 + hours, 0, clock[0] % 60)
        return answer({"at": at.isoformat() + "Z", "id": clock[0]})

    clock = [0]
    court = Court()
    for _ in range(10):
        court.take(times(0), times(0))
        court.later(lambda _, __: times(0))
    assert (court.outcomes(), court.one().confirmed) == ((0, 0, 10, 0), 0)
    court.take(times(0), times(1))
    court.later(lambda _, side: times(0 if side is Side.CONTROL else 1))
    found = court.one()
    assert (found.mismatched, found.confirmed) == (1, 1)
    assert [path for (path, _), one in found.differences.items() if one.confirmed] == ["at"]


def test_what_means_now_on_both_sides_of_an_unsafe_request_is_noise_and_another_time_is_not() -> None:
    at = dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC)

    def made(seconds: float) -> Answer:
        return answer({"made": (at + dt.timedelta(seconds=seconds)).isoformat()})

    court = Court()
    for _ in range(5):
        court.take(made(0), made(3), method="POST", at=at.timestamp())
    assert court.outcomes() == (0, 0, 5, 0)
    court.take(made(0), made(3_603), method="POST", at=at.timestamp())
    court.take(made(-90_000), made(-90_001), method="POST", at=at.timestamp())
    assert court.outcomes() == (0, 2, 5, 0)


def test_of_very_many_alike_only_some_are_asked_and_the_rest_follow_what_noise_says() -> None:
    court = Court()
    clock = iter(range(100_000))
    for _ in range(500):
        court.take(answer({"at": next(clock)}), answer({"at": next(clock)}))
    for _ in range(3):
        court.later(lambda _, __: answer({"at": next(clock)}))
    assert court.asks.count("control") == ALIKE
    assert court.outcomes() == (0, 0, 500, 0)
    assert court.judge.facts["not_asked_again"] == 500 - ALIKE


def test_who_cannot_be_asked_stays_unconfirmed() -> None:
    court = Court()
    court.take(answer({"a": 1}), answer({"a": 2}))
    court.later(lambda _, __: None)
    assert (court.outcomes(), court.one().confirmed) == ((0, 1, 0, 0), 0)
    court.take(answer({"a": 1}), answer({"a": 2}))
    court.judge.settle_all()
    assert (court.outcomes(), court.one().confirmed, court.judge.waiting) == ((0, 2, 0, 0), 0, 0)


def test_an_unsafe_difference_is_never_asked_and_is_confirmed_by_the_third_pair() -> None:
    court = Court()
    for confirmed in (0, 0, 1, 2):
        court.take(answer({"total": 1}), answer({"total": 2}), method="POST")
        court.later(always({}, {}))
        assert court.one().confirmed == confirmed
    assert (court.asks, court.outcomes()) == ([], (0, 4, 0, 0))
    court.take(answer({"total": 1}), answer({"total": 2, "other": 1}), method="POST")
    assert court.one().differences["other", Kind.EXTRA].confirmed == 0


def test_a_fault_of_the_candidate_now_and_then_is_confirmed_though_asking_again_goes_well() -> None:
    court = Court()
    for _ in range(4):
        court.take(answer({"a": 1}), answer({}, status=500))
        court.later(always({"a": 1}, {"a": 1}))
    assert (court.outcomes(), court.one().confirmed) == ((0, 4, 0, 0), 2)


def test_a_candidate_without_an_answer_is_mismatched_and_confirmed_only_if_it_stays_away() -> None:
    court = Court()
    for _ in range(5):
        court.take(answer({"a": 1}), answer(failure=Failure.REFUSED))
        court.later(always({"a": 1}, {"a": 1}))
    assert (court.outcomes(), court.one().confirmed) == ((0, 5, 0, 0), 0)
    court.take(answer({"a": 1}), answer(failure=Failure.TIMEOUT))
    court.later(lambda _, side: answer({"a": 1}) if side is Side.CONTROL else answer(failure=Failure.RESET))
    assert court.one().confirmed == 1
    assert list(court.one().differences) == [("status", Kind.ERROR)]


def test_a_control_without_an_answer_proves_nothing() -> None:
    court = Court()
    court.take(answer(failure=Failure.TIMEOUT), answer({"a": 1}))
    ((key, one),) = court.tally().strata.items()
    assert (key.status_class, one.inconclusive, one.compared) == ("error", 1, 0)
    court = Court()
    court.take(answer({"a": 1}), answer({"a": 2}))
    court.later(lambda _, __: answer(failure=Failure.TIMEOUT))
    assert (court.outcomes(), court.one().confirmed) == ((0, 1, 0, 0), 0)


@pytest.mark.parametrize("chosen", [True, False])
def test_an_equal_pair_is_asked_of_the_control_alone_if_it_was_chosen(chosen: bool) -> None:
    court = Court()
    court.take(answer({"a": 1}), answer({"a": 1}), chosen=chosen)
    court.later(always({"a": 2}, {}), 0.0)
    assert court.asks == ["control"] * chosen
    noise = court.one().noise
    assert (noise.pairs, noise.sampled, dict(noise.differing)) == (
        (1, 1, {("a", Kind.VALUE): 1}) if chosen else (0, 0, {})
    )
    assert court.outcomes() == (1, 0, 0, 0)


def test_rules_cover_and_a_change_of_them_begins_anew() -> None:
    court = Court(rule(RuleKind.IGNORE, "at"))
    court.take(answer({"at": 1}), answer({"at": 2}))
    first = court.tally()
    assert (first.rule_uses, [one.ignored for one in first.strata.values()]) == ({"r1": 1}, [1])
    court.judge.take_rules("shop", [rule(RuleKind.IGNORE, "at")], dt.date(2027, 1, 1))  # it has expired
    court.take(answer({"at": 1}), answer({"at": 2}))
    court.later(always({"at": 1}, {"at": 2}))
    second = court.tally()
    assert second.basis.rules != first.basis.rules
    assert [one.mismatched for one in second.strata.values()] == [1]


def test_rules_that_ask_for_more_let_nobody_count_unseen() -> None:
    assert Court().judge.is_exact
    assert Court(rule(RuleKind.IGNORE, "at")).judge.is_exact
    assert not Court(rule(RuleKind.COMPARE, "header.date")).judge.is_exact


def test_an_alias_holds_across_pairs_and_its_breach_is_a_fault() -> None:
    court = Court(rule(RuleKind.ALIAS, "user"))
    for old, new in ((1, "a"), (2, "b"), (1, "a")):
        court.take(answer({"user": old}), answer({"user": new}))
    assert court.outcomes() == (0, 0, 3, 0)
    court.take(answer({"user": 2}), answer({"user": "a"}))
    court.later(always({"user": 2}, {"user": "a"}))
    assert (court.outcomes(), court.one().confirmed) == ((0, 1, 3, 0), 1)
