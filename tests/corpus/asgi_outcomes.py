"""Where a case ends otherwise under an ASGI server than at our own engine, per server, and why.

Our guard gets what the server passes on, no more. Everything that is not named here has to end as it does at the
engine: refused or cut, with nothing forwarded; forwarded once and cleanly; broken off without a whole request.
Nothing is forwarded dangerously under any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.corpus.observing import Fate

HTTPTOOLS, H11, GRANIAN, HYPERCORN = "uvicorn-httptools", "uvicorn-h11", "granian", "hypercorn"
ALL = (HTTPTOOLS, H11, GRANIAN, HYPERCORN)
BY_H11 = (H11, HYPERCORN)
CLEAN, REFUSED, WAITED = Fate.CLEAN, Fate.REFUSED, Fate.WAITED

_WHY: Final = (
    # The server hides the authority of the target, or the fragment: what is left is routed by Host.
    (CLEAN, (HTTPTOOLS, GRANIAN), (
        "absolute-form to another authority", "absolute-form of another scheme", "an absolute target with a user",
        "an absolute target to another port", "a fragment", "two fragments",
    )),
    # The server puts lengths, lines and chunks right, and shows us the result.
    (CLEAN, (GRANIAN,), ("two framings", "two framings, other order")),
    (CLEAN, (H11, GRANIAN, HYPERCORN), (
        "two equal lengths", "bare LF", "bare LF in a field", "LF alone before the body", "a chunk size with a space",
        "an extension in open quotes",
    )),
    (CLEAN, BY_H11, (
        "a list of lengths", "a folded line", "a line folded with a tab", "a folded Host", "a folded length",
        "a folded coding", "CR in an extension", "LF alone between trailers",
    )),
    # These know every method; where the next request begins does not depend on it.
    (CLEAN, (H11, GRANIAN, HYPERCORN), (
        "an unknown method", "a method in lower case", "a method that begins like one", "an unknown method with a body",
    )),
    # llhttp reads RTSP, and the server does not say so; it is forwarded as HTTP.
    (CLEAN, (HTTPTOOLS,), ("OPTIONS in RTSP",)),
    # Refused though there is nothing wrong with them.
    (REFUSED, ALL, ("no Host in HTTP/1.0",)),
    (REFUSED, BY_H11, ("line ends before a request",)),
    (REFUSED, (HTTPTOOLS,), ("a body of an upgrade",)),
    # Holes in time and space: the server waits for the rest, and we do not hear of it.
    (WAITED, ALL, (
        "nobody speaks", "a head that stops in its line", "a head that stops in its fields",
        "a head that stops before its end", "a head that dribbles",
    )),
    (WAITED, (HTTPTOOLS, GRANIAN), ("line ends only",)),
    (WAITED, (HTTPTOOLS,), ("a field without an end", "fields without an end", "a target without an end")),
    (WAITED, BY_H11, ("CR alone as line ends", "SSH", "SMTP", "Redis", "bytes without sense")),
    (WAITED, (HYPERCORN,), ("the preface of HTTP/2", "HTTP/2 without asking")),
)  # fmt: skip


def _by_name() -> dict[str, dict[str, Fate]]:
    found: dict[str, dict[str, Fate]] = {}
    for fate, servers, names in _WHY:
        for name in names:
            found.setdefault(name, {}).update(dict.fromkeys(servers, fate))
    return found


DIFFERENT: Final[Mapping[str, Mapping[str, Fate]]] = _by_name()
"""By name of the case, then by server."""

ANSWERED_500: Final = {
    GRANIAN: frozenset(
        {
            "a chunk size that is none",
            "a chunk size that overflows",
            "a negative chunk size",
            "a chunk longer than its size",
            "an extension without an end",
        }
    )
}
"""Answers that break before the server has sent their head: it answers 500 itself instead of closing."""
