"""May a failed request be sent once more? A table over what is known, and the budget that keeps retries from storms."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 9.2.2."""

BUDGET_SHARE: Final = 0.2
BUDGET_FLOOR: Final = 3
BUDGET_WINDOW_S: Final = 10.0


class Retry(enum.Enum):
    """The answer, with its reason. Only the first two are sent."""

    NOTHING_SENT = "nothing was sent"
    REPEATABLE = "the method, or a key that both sides keep, makes a second one harmless"
    ANSWERED = "part of the answer has come"
    SPENT = "no attempts are left"
    NOT_REPEATABLE = "a second one could do it twice"
    BODY_GONE = "the body cannot be sent once more"
    BUDGET = "too many requests are retried already"

    @property
    def allowed(self) -> bool:
        """Send it once more?"""
        return self in (Retry.NOTHING_SENT, Retry.REPEATABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What is known of a failed attempt.

    `sent`: a byte of it may have reached an upstream, in this attempt or an earlier one. `answered`: a byte of the
    final answer has come. `replayable`: the whole body is still here. `shared_key`: it carries an Idempotency-Key, and
    both origins keep keys in one migrated store. `attempts_left` of the route's retries.
    """

    method: str
    sent: bool
    answered: bool = False
    replayable: bool = True
    shared_key: bool = False
    attempts_left: int = 1


def may_retry(failed: Failed) -> Retry:
    """Judge one failed attempt; whether the budget has room is asked last, by the caller.

    >>> may_retry(Failed(method="POST", sent=True)).value
    'a second one could do it twice'
    >>> may_retry(Failed(method="POST", sent=False)).allowed
    True
    """
    if failed.answered:
        return Retry.ANSWERED
    if failed.attempts_left <= 0:
        return Retry.SPENT
    if not failed.replayable:
        return Retry.BODY_GONE
    if not failed.sent:
        return Retry.NOTHING_SENT
    if failed.method in IDEMPOTENT_METHODS or (failed.method == "POST" and failed.shared_key):
        return Retry.REPEATABLE
    return Retry.NOT_REPEATABLE


class Budget:
    """Retries of one cluster: at most a fifth of the requests of the last seconds, so amplification stays below 1.2.

    Very little traffic may retry too: `BUDGET_FLOOR` retries a window are always there. The caller adds to `requests`
    for each request (not for its retries) and asks `take` for each retry.
    """

    __slots__ = ("_before", "_began", "_retries_before", "requests", "retries")

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self._before = 0
        self._retries_before = 0
        self._began: float | None = None

    def __repr__(self) -> str:
        return f"<Budget {self.retries + self._retries_before} of {self.requests + self._before}>"

    def take(self, now: float) -> bool:
        """Take one retry; False where there is none left."""
        self.roll(now)
        retries = self.retries + self._retries_before
        if retries + 1 > max(BUDGET_FLOOR, BUDGET_SHARE * (self.requests + self._before)):
            return False
        self.retries += 1
        return True

    def roll(self, now: float) -> None:
        """Forget what is older than the window, half of it at a time. Call it a few times a window."""
        if self._began is None:
            self._began = now
        passed_s = now - self._began
        if passed_s < BUDGET_WINDOW_S / 2:
            return
        stale = passed_s >= BUDGET_WINDOW_S
        self._before = 0 if stale else self.requests
        self._retries_before = 0 if stale else self.retries
        self.requests = self.retries = 0
        self._began = now
