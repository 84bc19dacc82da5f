"""Ejection: after how many failures, how many at once, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.outlier import Outlier, OutlierPolicy, ejection_s, note_failure
from strangler_proxy.core.probe import Probed, ProbePolicy

POLICY = OutlierPolicy(failures=3, eject_s=5.0, longest_s=40.0, share=50)


def fail(one: Outlier, known: list[Outlier], now: float, times: int = POLICY.failures) -> bool:
    return [note_failure(one, known, POLICY, now) for _ in range(times)][-1]


def test_so_many_failures_in_a_row_eject_and_one_less_does_not() -> None:
    known = [Outlier(), Outlier()]
    assert not fail(known[0], known, 0.0, times=2)
    assert fail(known[0], known, 0.0, times=1)
    assert known[0].is_out(4.9)
    assert not known[0].is_out(5.0)


def test_a_good_answer_between_failures_begins_the_count_anew() -> None:
    known = [Outlier(), Outlier()]
    for _ in range(20):
        assert not fail(known[0], known, 0.0, times=2)
        known[0].failures = 0


def test_one_that_cannot_be_reached_is_out_at_once() -> None:
    known = [Outlier(), Outlier()]
    assert note_failure(known[0], known, POLICY, 0.0, unreachable=True)
    assert not note_failure(known[1], known, OutlierPolicy(failures=0), 0.0, unreachable=True)


def test_the_only_endpoint_is_never_ejected() -> None:
    only = [Outlier()]
    assert not fail(only[0], only, 0.0, times=100)


@given(
    st.integers(1, 12),
    st.integers(0, 100),
    st.lists(st.tuples(st.integers(0, 11), st.floats(0, 20)), max_size=150),
)
def test_no_more_than_the_share_are_out_at_once(size: int, share: int, events: list[tuple[int, float]]) -> None:
    policy = OutlierPolicy(failures=1, eject_s=7.0, longest_s=30.0, share=share)
    known = [Outlier() for _ in range(size)]
    now = 0.0
    for place, passed_s in events:
        now += passed_s
        note_failure(known[place % size], known, policy, now)
        assert sum(each.is_out(now) for each in known) * 100 <= share * size


@given(st.integers(0, 10_000), st.floats(0.1, 60), st.floats(60, 600))
def test_ejections_grow_and_are_bounded(times: int, eject_s: float, longest_s: float) -> None:
    policy = OutlierPolicy(eject_s=eject_s, longest_s=longest_s)
    assert eject_s <= ejection_s(policy, times) <= longest_s
    assert ejection_s(policy, times + 1) >= ejection_s(policy, times)


def test_the_second_ejection_is_twice_as_long_and_a_long_calm_forgives() -> None:
    known = [Outlier(), Outlier()]
    fail(known[0], known, 0.0)
    fail(known[0], known, 6.0)
    assert known[0].ejected_until == 16.0
    fail(known[0], known, 16.0 + POLICY.longest_s)
    assert known[0].ejected_until == 16.0 + POLICY.longest_s + 5.0


def test_failures_of_requests_that_were_under_way_when_it_was_ejected_do_not_count() -> None:
    known = [Outlier(), Outlier()]
    fail(known[0], known, 0.0)
    assert not fail(known[0], known, 1.0, times=50)
    assert known[0].ejected_until == 5.0
    assert known[0].failures == 0


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_probes_change_their_mind_only_after_enough_answers_in_a_row(
    answers: list[bool], unwell: int, well: int
) -> None:
    probed, policy = Probed(), ProbePolicy(path="/", unwell=unwell, well=well)
    run = 0
    for index, answer in enumerate(answers):
        run = run + 1 if index and answers[index - 1] is answer else 1
        before = probed.is_well
        changed = probed.note(answer, policy)
        assert changed is (probed.is_well is not before)
        if changed:
            assert probed.is_well is answer
        if run >= (well if answer else unwell):
            assert probed.is_well is answer
        elif before is not answer:
            assert not changed
