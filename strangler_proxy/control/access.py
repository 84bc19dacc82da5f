"""Who may call: bearer tokens compared in constant time, a bound on wrong guesses, no calls from other sites."""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

MIN_TOKEN_CHARS = 16
FAILURES = 10
WINDOW_S = 60.0
_ADDRESSES = 4096


class Rights(enum.Enum):
    """What a token allows."""

    READ = "read"
    WRITE = "write"


class Access:
    """Judges the credentials of a call. `now` gives seconds of a clock that only goes forward.

    After 10 wrong tokens from an address within 60 s, that address is not listened to until the oldest is 60 s old,
    whatever it sends. At most 4096 addresses are remembered, the ones that failed last.
    """

    def __init__(self, token: str, viewer_token: str | None, *, now: Callable[[], float]) -> None:
        self._known = [(_digest(token), Rights.WRITE)]
        if viewer_token:
            self._known.append((_digest(viewer_token), Rights.READ))
        self._now = now
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds for which the address is not listened to; 0.0 where it may call."""
        failures = self._failures.get(address)
        if failures is None:
            return 0.0
        while failures and self._now() - failures[0] >= WINDOW_S:
            failures.popleft()
        if not failures:
            del self._failures[address]
            return 0.0
        return WINDOW_S - (self._now() - failures[0]) if len(failures) >= FAILURES else 0.0

    def rights(self, address: str, authorization: str) -> Rights | None:
        """What the Authorization header allows; None (and remembered) where it holds no token that is known."""
        scheme, _, token = authorization.partition(" ")
        found: Rights | None = None
        digest = _digest(token.strip())
        for known, rights in self._known:
            if hmac.compare_digest(known, digest):
                found = found or rights
        if found is None or scheme.lower() != "bearer":
            if authorization:
                self._remember(address)
            return None
        return found

    def _remember(self, address: str) -> None:
        failures = self._failures.setdefault(address, deque(maxlen=FAILURES))
        failures.append(self._now())
        self._failures.move_to_end(address)
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """Does a page of another site make this call? (Names lower case.) Commands send neither of these headers."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
