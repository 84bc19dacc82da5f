"""Waiting for a row that the other side has written and the stream has not brought yet."""

from __future__ import annotations

import time
from typing import Callable, Optional, TypeVar

from strangler_proxy.contrib.django.ownership import is_owner

T = TypeVar("T")

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.1


class NotArrived(LookupError):
    """The row has not come within the time. `FenceMiddleware` answers 503 with Retry-After."""

    def __init__(self, flag: str, timeout_s: float) -> None:
        super().__init__(f"a row of {flag!r} has not arrived within {timeout_s:g} s")
        self.flag = flag


def wait_for(find: Callable[[], Optional[T]], *, flag: str, timeout_s: float = 1.0) -> T:
    """What `find` returns, as soon as it is not None; called again and again for up to `timeout_s` seconds.

    For a row that must exist (the user of a verified token). Raises NotArrived, at once where this side is the owner of
    `flag`: there is nothing to wait for then, and a caller that can say "gone" should catch it. In a repeatable-read
    transaction nothing ever arrives.
    """
    found = find()
    if found is not None:
        return found
    ends = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while not is_owner(flag):
        left = ends - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause_s, left))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        found = find()
        if found is not None:
            return found
    raise NotArrived(flag, timeout_s)
