"""Pairs: a request with the answers of both sides, as bytes, before anything is judged.

The data plane makes them and hands them to a `PairSink`; `observation.answered` freezes an answer for comparing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.stage import Origin

RawFields = tuple[tuple[bytes, bytes], ...]

EQUAL: Final = "equal"
"""Fate of a mirrored request whose two answers are the same, byte for byte."""
NOT_SAMPLED: Final = "not_sampled"
"""Fate of an eligible request that the sample left out. Every other fate but EQUAL is the reason of a drop."""


class Side(enum.Enum):
    """Whom to ask once more."""

    CONTROL = "control"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One side's answer as it came.

    `body` is still content-coded and cut to what is kept, `body_bytes` counts all of it. `effects` is the value of the
    answer's effects header (empty: nothing captured them). `duration_ms` until the last byte.
    """

    status: int = 0
    fields: RawFields = ()
    body: bytes = b""
    body_bytes: int = 0
    truncated: bool = False
    duration_ms: float = 0.0
    failure: Failure | None = None
    effects: bytes = b""
    code_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A mirrored request and both answers. `fields` as they were sent to the control, credentials included.

    `id` is the mirror's own (32 hex digits), `at` Unix seconds, `control` the origin that answered the client. `flag`
    and `route` are empty where no table names them.
    """

    id: str
    flag: str
    route: str
    method: str
    target: bytes
    fields: RawFields
    body: bytes
    safe: bool
    at: float
    control_origin: Origin
    control: Answer
    candidate: Answer


class Seen(NamedTuple):
    """An eligible request that needs no comparison: equal, not sampled, or dropped (`fate`).

    `path` is raw and without the query; `content_type` raw, with parameters. Times are 0.0 where unknown. A tuple,
    because one is made for every request: a frozen dataclass costs five times as much.
    """

    flag: str
    route: str
    method: str
    path: bytes
    signed_in: bool
    status: int
    content_type: bytes
    fate: str
    control_ms: float = 0.0
    candidate_ms: float = 0.0


class PairSink(Protocol):
    """Who takes what the data plane has seen. Called on its event loop: never blocks, never raises, is bounded."""

    @property
    def exact(self) -> bool:
        """May equal answers be counted as `EQUAL` without looking at them? False where a rule asks for more.

        Read once for each mirrored request, just before `note` or `take`.
        """
        ...

    def note(self, seen: Seen) -> None:
        """Count one eligible request."""
        ...

    def take(self, pair: Pair) -> None:
        """Compare a pair; dropped, and counted as dropped, where too many wait."""
        ...


class Asker(Protocol):
    """Who asks a side of a pair once more, over the mirror's own connections."""

    async def ask(self, pair: Pair, side: Side) -> Answer:
        """The answer to the same safe request, now. Failures are in the answer; raises ValueError for unsafe ones."""
        ...
