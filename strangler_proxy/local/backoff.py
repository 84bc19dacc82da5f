"""When a process that ended is started again: at once, then after longer and longer waits."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0
STEADY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often in a row a process ended before it had been up for STEADY_AFTER_S."""

    in_a_row: int = 0

    def after_end(self, up_for_s: float) -> tuple[Backoff, float]:
        """The next state and the seconds to wait now.

        >>> state, wait = Backoff().after_end(60.0)
        >>> wait, state.after_end(0.1)[1], state.after_end(60.0)[1]
        (0.0, 0.5, 0.0)
        """
        count = 0 if up_for_s >= STEADY_AFTER_S else self.in_a_row
        wait = 0.0 if count == 0 else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(count - 1, 10))
        return Backoff(in_a_row=count + 1), wait
