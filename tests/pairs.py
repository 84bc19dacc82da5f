"""Pairs as the mirror makes them, an asker that answers by a function, and a look at what a judge has kept."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import EQUAL, Answer, Pair, RawFields, Seen, Side
from strangler_proxy.core.stage import Origin

JSON_FIELDS: RawFields = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
SECRET = b"0123456789abcdef0123456789abcdef"
_ids = itertools.count(1)


def answer(
    body: object = b"",
    *,
    status: int = 200,
    fields: RawFields = JSON_FIELDS,
    duration_ms: float = 5.0,
    failure: Failure | None = None,
    version: str = "",
    truncated: bool = False,
    effects: bytes = b"",
) -> Answer:
    """An answer; a body that is not bytes is sent as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    if failure is not None:
        return Answer(failure=failure, duration_ms=duration_ms)
    return Answer(
        status=status,
        fields=fields,
        body=sent,
        body_bytes=len(sent),
        truncated=truncated,
        duration_ms=duration_ms,
        code_version=version,
        effects=effects,
    )


def pair(
    control: Answer,
    candidate: Answer,
    *,
    target: bytes = b"/items/42?page=1",
    method: str = "GET",
    fields: RawFields = ((b"Host", b"shop"),),
    flag: str = "shop",
    route: str = "items",
    at: float | None = None,
    body: bytes = b"",
) -> Pair:
    """A mirrored request with both answers."""
    return Pair(
        id=f"{next(_ids):032x}",
        flag=flag,
        route=route,
        method=method,
        target=target,
        fields=fields,
        body=body,
        safe=method in ("GET", "HEAD", "OPTIONS"),
        at=time.time() if at is None else at,
        control_origin=Origin.MONOLITH,
        control=control,
        candidate=candidate,
    )


def seen(fate: str = EQUAL, *, path: bytes = b"/items/42", flag: str = "shop", status: int = 200) -> Seen:
    """A request that needs no comparison."""
    return Seen(flag, "items", "GET", path, False, status, b"application/json", fate, 5.0, 6.0)


class Answering:
    """An asker. `answers` by side; `asked` is what it was asked, in order."""

    def __init__(self, answers: Callable[[Pair, Side], Answer]) -> None:
        self.answers = answers
        self.asked: list[tuple[Side, Pair]] = []

    async def ask(self, pair: Pair, side: Side) -> Answer:
        """The answer to the same request, now."""
        if not pair.safe:
            raise ValueError(f"{pair.method} is not safe")
        self.asked.append((side, pair))
        return self.answers(pair, side)

    def sides(self) -> Sequence[str]:
        """Whom it asked."""
        return [side.value for side, _ in self.asked]
