"""The breaker: a state table, no clock and no I/O of its own. One per cluster and route.

| state     | `ask`                               | SUCCESS | FAILURE                        | NEUTRAL       |
|-----------|-------------------------------------|---------|--------------------------------|---------------|
| closed    | permit                              | counted | counted; at the threshold open | not counted   |
| open      | refused; once `open_s` is over as   | -       | -                              | -             |
|           | half-open                           |         |                                |               |
| half-open | `trials` permits at once, the       | closed  | open again                     | the trial is  |
|           | others are refused                  |         |                                | free again    |

A permit is the generation in which it was given. Every change of state begins another one, and what is reported for
an older permit changes nothing: an answer that began before the breaker opened can neither close nor open it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """How a permitted attempt ended. NEUTRAL says nothing of the upstream: the client left, or met our own limits."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class BreakerState(enum.Enum):
    """Closed lets everything through, open nothing, half-open a bounded number of trials."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    It opens with `failures` failures within `window_s` seconds if they are at least `share` percent of all results;
    0 `failures` never open it. After `open_s` it lets `trials` requests through at once.
    """

    failures: int = 10
    share: int = 50
    window_s: float = 10.0
    open_s: float = 5.0
    trials: int = 1


REFUSED = 0
"""What `ask` answers instead of a permit."""


class Breaker:
    """One breaker. `now` are monotonic seconds, given by the caller.

    The data plane reads `closed` and `generation` itself and adds to `successes`, so that a request that goes well
    costs it no call; everything else comes through `ask` and `report`.

    >>> breaker = Breaker(BreakerPolicy(failures=1))
    >>> permit = breaker.ask(now=0.0)
    >>> breaker.report(permit, Outcome.FAILURE, now=0.1)
    >>> breaker.ask(now=0.2) == REFUSED, breaker.state.value
    (True, 'open')
    """

    __slots__ = (
        "_failed_before",
        "_succeeded_before",
        "_trials",
        "_window_began",
        "closed",
        "failures",
        "generation",
        "opened_at",
        "policy",
        "state",
        "successes",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = BreakerState.CLOSED
        self.closed = True
        self.generation = 1
        self.opened_at = 0.0
        self.failures = self.successes = self._failed_before = self._succeeded_before = self._trials = 0
        self._window_began: float | None = None

    def __repr__(self) -> str:
        return f"<Breaker {self.state.value} generation={self.generation} failures={self.failures}>"

    def ask(self, now: float) -> int:
        """A permit, to be reported exactly once; REFUSED where there is none to be had."""
        if self.state is BreakerState.CLOSED:
            return self.generation
        if self.state is BreakerState.OPEN:
            if now - self.opened_at < self.policy.open_s:
                return REFUSED
            self._become(BreakerState.HALF_OPEN)
        if self._trials >= self.policy.trials:
            return REFUSED
        self._trials += 1
        return self.generation

    def report(self, permit: int, outcome: Outcome, now: float) -> None:
        """What became of a permitted attempt, once its answer's body has ended. Late reports are not heard."""
        if permit != self.generation:
            return
        if self.state is BreakerState.CLOSED:
            if outcome is Outcome.SUCCESS:
                self.successes += 1
            elif outcome is Outcome.FAILURE:
                self._failed(now)
            return
        self._trials -= 1
        if outcome is Outcome.SUCCESS:
            self._become(BreakerState.CLOSED)
        elif outcome is Outcome.FAILURE:
            self._open(now)

    def wait_s(self, now: float) -> float:
        """Seconds until it may let somebody through; 0 where it does not refuse by time."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self.opened_at + self.policy.open_s - now)

    def roll(self, now: float) -> None:
        """Forget what is older than the window, half of it at a time: a burst across their border is seen as one.

        Call it a few times a window, so that successes of long ago do not hide failures of now.
        """
        if self._window_began is None:
            self._window_began = now
        passed_s = now - self._window_began
        if passed_s < self.policy.window_s / 2:
            return
        stale = passed_s >= self.policy.window_s
        self._failed_before = 0 if stale else self.failures
        self._succeeded_before = 0 if stale else self.successes
        self.failures = self.successes = 0
        self._window_began = now

    def _failed(self, now: float) -> None:
        self.roll(now)
        self.failures += 1
        failed = self.failures + self._failed_before
        total = failed + self.successes + self._succeeded_before
        if 0 < self.policy.failures <= failed and failed * 100 >= self.policy.share * total:
            self._open(now)

    def _open(self, now: float) -> None:
        self._become(BreakerState.OPEN)
        self.opened_at = now

    def _become(self, state: BreakerState) -> None:
        self.state = state
        self.closed = state is BreakerState.CLOSED
        self.generation += 1
        self._forget()

    def _forget(self) -> None:
        self._trials = 0
        self.failures = self.successes = self._failed_before = self._succeeded_before = 0
        self._window_began = None
