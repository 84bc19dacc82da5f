"""Whose turn it is among the endpoints of a cluster, and how fast one targeting key may come back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.balance import Balance, pick, start_weight
from strangler_proxy.core.rate import KEYS_KEPT, Rate, RateLimit

endpoints = st.integers(1, 8).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 50), min_size=size, max_size=size),
        st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=size, max_size=size),
    )
)


@given(st.sampled_from(Balance), endpoints, st.integers(0, 10_000))
def test_who_is_out_is_never_chosen_and_somebody_is_while_anybody_is_in(
    rule: Balance, known: tuple[list[int], list[float]], turn: int
) -> None:
    pending, weights = known
    place = pick(rule, pending, weights, turn)
    assert (place is None) is (not any(weights))
    if place is not None:
        assert weights[place] > 0


@given(endpoints, st.integers(0, 100))
def test_least_pending_never_passes_over_one_in_full_use_with_fewer(
    known: tuple[list[int], list[float]], turn: int
) -> None:
    pending, weights = known
    place = pick(Balance.LEAST_PENDING, pending, weights, turn)
    if place is not None:
        assert all(pending[place] <= p for p, weight in zip(pending, weights, strict=True) if weight == 1.0)


@pytest.mark.parametrize("rule", list(Balance))
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_equal_endpoints_get_equal_parts(rule: Balance, size: int) -> None:
    chosen = Counter(pick(rule, [0] * size, [1.0] * size, turn) for turn in range(size * 100))
    assert set(chosen.values()) == {100}


@given(st.floats(0.1, 0.99), st.integers(2, 4))
def test_a_starting_endpoint_gets_its_weights_part_of_its_turns(weight: float, size: int) -> None:
    turns = 2_000
    weights = [*[1.0] * (size - 1), weight]
    chosen = Counter(pick(Balance.ROUND_ROBIN, [0] * size, weights, turn) for turn in range(turns))
    assert abs(chosen[size - 1] - turns / size * weight) <= 2


@given(st.floats(0.1, 0.99), st.lists(st.integers(0, 9), min_size=2, max_size=2))
def test_a_starting_endpoint_is_not_overrun_for_being_idle(weight: float, pending: list[int]) -> None:
    turns = 2_000
    chosen = Counter(pick(Balance.LEAST_PENDING, pending, [1.0, weight], turn) for turn in range(turns))
    assert chosen[1] <= turns * weight + 1


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 60))
def test_the_weight_only_rises(one: float, two: float, slow_start_s: float) -> None:
    early, late = sorted((one, two))
    assert 0 < start_weight(early, slow_start_s) <= start_weight(late, slow_start_s) <= 1


@given(st.floats(0.1, 1_000), st.integers(1, 50), st.lists(st.floats(0, 2), max_size=300))
def test_no_key_gets_more_than_its_burst_and_its_rate(per_s: float, burst: int, pauses: list[float]) -> None:
    limit, now, taken = RateLimit(Rate(per_s=per_s, burst=burst)), 0.0, 0
    for pause in pauses:
        now += pause
        wait_s = limit.take("ada", now)
        taken += wait_s == 0
        assert taken <= burst + now * per_s + 1e-6
        if wait_s:
            assert wait_s <= 1 / per_s + 1e-6


def test_who_waits_as_long_as_told_gets_through() -> None:
    limit = RateLimit(Rate(per_s=4, burst=1))
    assert limit.take("ada", 0.0) == 0
    wait_s = limit.take("ada", 0.1)
    assert limit.take("ada", 0.1 + wait_s) == 0


def test_keys_do_not_take_from_each_other() -> None:
    limit = RateLimit(Rate(per_s=1, burst=1))
    assert limit.take("ada", 0.0) == limit.take("bob", 0.0) == 0
    assert limit.take("ada", 0.0) > 0


def test_memory_is_bounded_whoever_comes() -> None:
    limit = RateLimit(Rate(per_s=1, burst=1))
    for number in range(KEYS_KEPT + 5_000):
        limit.take(f"key {number}", 0.0)
    assert len(limit) == KEYS_KEPT
    assert limit.take(f"key {KEYS_KEPT + 4_999}", 0.0) > 0
