"""When a request may be sent once more, when it may fall back, and how many may."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.fallback import Unserved, may_be_stale, may_fall_back
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.retry import BUDGET_FLOOR, IDEMPOTENT_METHODS, Budget, Failed, Retry, may_retry
from strangler_proxy.core.route import Route
from strangler_proxy.core.stage import Origin, Stage

METHODS = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "PURGE")
failed = st.builds(
    Failed,
    method=st.sampled_from(METHODS),
    sent=st.booleans(),
    answered=st.booleans(),
    replayable=st.booleans(),
    shared_key=st.booleans(),
    attempts_left=st.integers(-1, 3),
)


@given(failed)
def test_never_after_a_byte_of_the_answer_without_the_body_or_without_attempts(one: Failed) -> None:
    if one.answered or not one.replayable or one.attempts_left <= 0:
        assert not may_retry(one).allowed


@given(failed)
def test_what_is_not_idempotent_only_if_nothing_was_sent_or_both_sides_keep_its_key(one: Failed) -> None:
    if may_retry(one).allowed and one.method not in IDEMPOTENT_METHODS:
        assert not one.sent or (one.shared_key and one.method == "POST")


@pytest.mark.parametrize(
    ("method", "sent", "shared_key", "verdict"),
    [
        ("GET", True, False, Retry.REPEATABLE),
        ("PUT", True, False, Retry.REPEATABLE),
        ("POST", True, False, Retry.NOT_REPEATABLE),
        ("POST", True, True, Retry.REPEATABLE),
        ("PATCH", True, True, Retry.NOT_REPEATABLE),
        ("POST", False, False, Retry.NOTHING_SENT),
        ("PURGE", False, False, Retry.NOTHING_SENT),
        ("PURGE", True, False, Retry.NOT_REPEATABLE),
    ],
)
def test_by_method(method: str, sent: bool, shared_key: bool, verdict: Retry) -> None:
    assert may_retry(Failed(method=method, sent=sent, shared_key=shared_key)) is verdict


@given(st.integers(15, 3_000))
def test_an_upstream_that_is_down_sees_at_most_a_fifth_more(requests: int) -> None:
    budget = Budget()
    attempts = 0
    for _ in range(requests):
        budget.requests += 1
        attempts += 1 + budget.take(0.0)
    assert attempts <= 1.2 * requests


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=400))
def test_over_any_time_retries_stay_within_their_share(events: list[tuple[float, bool]]) -> None:
    """Whatever the times: no more than a fifth of all, or the floor of every window that there was."""
    budget, now, requests, retries = Budget(), 0.0, 0, 0
    for passed_s, wants in events:
        now += passed_s
        budget.roll(now)
        budget.requests += 1
        requests += 1
        retries += wants and budget.take(now)
    assert retries <= 0.2 * requests + BUDGET_FLOOR * (now / 10.0 + 1)


def test_little_traffic_may_retry_too() -> None:
    budget = Budget()
    budget.requests += 1
    assert [budget.take(0.0) for _ in range(BUDGET_FLOOR + 1)] == [True] * BUDGET_FLOOR + [False]


def test_a_calm_hour_does_not_pay_for_a_storm() -> None:
    budget = Budget()
    for second in range(100):
        budget.roll(float(second))
        budget.requests += 1_000
    budget.roll(105.0)
    budget.roll(110.0)
    budget.roll(115.0)
    assert sum(budget.take(115.0) for _ in range(5_000)) == BUDGET_FLOOR


BOTH = {Origin.MONOLITH: "monolith", Origin.EXTRACTED: "extracted"}


@pytest.mark.parametrize(
    ("method", "origin", "stage", "flag_allows", "route_allows", "replayable", "answered", "fallen_back"),
    list(
        itertools.product(
            ("GET", "POST"), Origin, Stage, (True, False), (True, False), (True, False), (True, False), (True, False)
        )
    ),
)
def test_only_safe_unanswered_requests_of_extracted_fall_back_and_only_once(
    method: str,
    origin: Origin,
    stage: Stage,
    flag_allows: bool,
    route_allows: bool,
    replayable: bool,
    answered: bool,
    fallen_back: bool,
) -> None:
    flag = Flag(key="f", stage=stage, fallback_safe=flag_allows)
    route = Route(name="r", flag="f", path="/r", clusters=BOTH, fallback=route_allows)
    unserved = Unserved(method=method, origin=origin, replayable=replayable, answered=answered, fallen_back=fallen_back)
    wanted = (method, origin, flag_allows, route_allows, replayable) == ("GET", Origin.EXTRACTED, True, True, True)
    assert may_fall_back(flag, route, unserved) is (
        wanted and not answered and not fallen_back and stage is not Stage.RETIRED
    )


def test_after_a_cutover_the_monoliths_answer_may_be_stale() -> None:
    assert not may_be_stale(Flag(key="f", owns_data=True, stage=Stage.CANARY, owner=Origin.MONOLITH))
    assert not may_be_stale(Flag(key="f", owns_data=False, stage=Stage.EXTRACTED, owner=Origin.EXTRACTED))
    assert may_be_stale(Flag(key="f", owns_data=True, stage=Stage.EXTRACTED, owner=Origin.EXTRACTED))
