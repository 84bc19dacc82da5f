"""The breaker's table: when it opens, whom it lets through, and whom it does not hear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from strangler_proxy.core.breaker import REFUSED, Breaker, BreakerPolicy, BreakerState, Outcome

POLICY = BreakerPolicy(failures=3, share=50, window_s=10.0, open_s=5.0, trials=2)


def opened(policy: BreakerPolicy = POLICY, at: float = 0.0) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.failures):
        breaker.report(breaker.ask(at), Outcome.FAILURE, at)
    assert breaker.state is BreakerState.OPEN
    return breaker


@given(st.integers(1, 50))
def test_it_opens_at_its_threshold_and_not_before(failures: int) -> None:
    breaker = Breaker(BreakerPolicy(failures=failures))
    for number in range(1, failures + 1):
        assert breaker.closed
        breaker.report(breaker.ask(0.0), Outcome.FAILURE, 0.0)
        assert breaker.closed is (number < failures)


@given(st.integers(1, 60), st.integers(1, 99), st.integers(0, 60))
def test_failures_below_the_share_do_not_open_it(failures: int, share: int, successes: int) -> None:
    breaker = Breaker(BreakerPolicy(failures=failures, share=share))
    breaker.successes += successes
    for _ in range(failures):
        breaker.report(breaker.ask(0.0), Outcome.FAILURE, 0.0)
    assert breaker.closed is (failures * 100 < share * (failures + successes))


def test_failures_across_the_border_of_two_half_windows_are_seen_as_one_burst() -> None:
    breaker = Breaker(POLICY)
    for at in (1.0, 5.9, 6.1):
        breaker.report(breaker.ask(at), Outcome.FAILURE, at)
    assert not breaker.closed


def test_failures_further_apart_than_the_window_never_open_it() -> None:
    breaker = Breaker(POLICY)
    for step in range(50):
        at = step * 6.0
        breaker.report(breaker.ask(at), Outcome.FAILURE, at)
    assert breaker.closed


def test_a_breaker_without_a_threshold_never_opens() -> None:
    breaker = Breaker(BreakerPolicy(failures=0))
    for _ in range(1_000):
        breaker.report(breaker.ask(0.0), Outcome.FAILURE, 0.0)
    assert breaker.closed


@given(st.integers(1, 5), st.integers(1, 100))
def test_half_open_lets_its_trials_through_and_nobody_else(trials: int, callers: int) -> None:
    breaker = opened(BreakerPolicy(failures=3, trials=trials))
    assert [breaker.ask(4.9) for _ in range(callers)] == [REFUSED] * callers
    permits = [breaker.ask(5.0) for _ in range(callers)]
    assert sum(permit != REFUSED for permit in permits) == min(trials, callers)


@given(st.lists(st.sampled_from(Outcome), max_size=20))
def test_what_was_asked_before_it_opened_neither_closes_nor_opens_it(late: list[Outcome]) -> None:
    breaker = Breaker(POLICY)
    early = [breaker.ask(0.0) for _ in late]
    for _ in range(POLICY.failures):
        breaker.report(breaker.ask(0.0), Outcome.FAILURE, 0.0)
    trial = breaker.ask(6.0)
    for permit, outcome in zip(early, late, strict=True):
        breaker.report(permit, outcome, 6.1)
        assert breaker.state is BreakerState.HALF_OPEN
    breaker.report(trial, Outcome.SUCCESS, 6.2)
    for permit, outcome in zip(early, late, strict=True):
        breaker.report(permit, outcome, 6.3)
    assert breaker.closed
    assert breaker.failures == 0


@given(st.integers(1, 100))
def test_trials_that_leave_give_their_place_back(times: int) -> None:
    breaker = opened(BreakerPolicy(failures=3, trials=1))
    for _ in range(times):
        trial = breaker.ask(6.0)
        assert trial != REFUSED
        assert breaker.ask(6.0) == REFUSED
        breaker.report(trial, Outcome.NEUTRAL, 6.0)
        assert breaker.state is BreakerState.HALF_OPEN
    breaker.report(breaker.ask(6.0), Outcome.SUCCESS, 6.0)
    assert breaker.closed


def test_a_failed_trial_opens_it_for_the_whole_time_again() -> None:
    breaker = opened()
    breaker.report(breaker.ask(5.0), Outcome.FAILURE, 7.0)
    assert breaker.ask(11.9) == REFUSED
    assert breaker.wait_s(10.0) == 2.0
    assert breaker.ask(12.0) != REFUSED


class Callers(RuleBasedStateMachine):
    """Whatever callers do, and in whatever order they report, the promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.now = 0.0
        self.permits: list[tuple[int, BreakerState]] = []

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        before = self.breaker.state
        permit = self.breaker.ask(self.now)
        if permit != REFUSED:
            assert permit == self.breaker.generation
            self.permits.append((permit, self.breaker.state))
        else:
            assert before is not BreakerState.CLOSED

    @precondition(lambda self: self.permits)
    @rule(place=st.integers(0, 1_000), outcome=st.sampled_from(Outcome))
    def report(self, place: int, outcome: Outcome) -> None:
        permit, _ = self.permits.pop(place % len(self.permits))
        before = (self.breaker.state, self.breaker.generation)
        self.breaker.report(permit, outcome, self.now)
        after = (self.breaker.state, self.breaker.generation)
        if permit != before[1] or outcome is Outcome.NEUTRAL:
            assert after == before
        if before[0] is BreakerState.OPEN:
            assert after == before

    @invariant()
    def no_more_trials_than_allowed(self) -> None:
        trials = [p for p, state in self.permits if state is BreakerState.HALF_OPEN and p == self.breaker.generation]
        assert len(trials) <= POLICY.trials

    @invariant()
    def it_is_never_stuck(self) -> None:
        """Somebody gets through once those who may are back and the time is over."""
        if self.breaker.state is BreakerState.OPEN:
            assert self.breaker.wait_s(self.now) <= POLICY.open_s


TestCallers = Callers.TestCase
