"""What the mirror is told at its start, and why a request that could have been mirrored was not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.bucketing import BUCKETS
from strangler_proxy.core.route import Cluster

QUEUE_FULL: Final = "queue_full"
MEMORY_FULL: Final = "memory_full"
BODY_TOO_LARGE: Final = "body_too_large"
ANSWER_TOO_LARGE: Final = "answer_too_large"
TOO_LONG: Final = "too_long"
UPGRADE: Final = "upgrade"
NOT_DECLARED_SAFE: Final = "not_declared_safe"
NO_PROOF: Final = "no_proof"
CANDIDATE_DOWN: Final = "candidate_down"
CLIENT_LEFT: Final = "client_left"
NO_ANSWER: Final = "no_answer"
EARLY_ANSWER: Final = "early_answer"
REPLAYED: Final = "replayed"
STAGE_CHANGED: Final = "stage_changed"
KILLED: Final = "killed"
STOPPED: Final = "stopped"
"""Reasons of drops; docs/reference/metrics.md says what each means."""

_BREAKER: Final = BreakerPolicy(failures=5, share=50, window_s=2.0, open_s=5.0, trials=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOptions:
    """Bounds of the mirror of one process. Seconds, bytes and counts as the names say.

    `secret` signs the marks, 16 bytes at least. `candidate`: the cluster that gets copies of what no route matches,
    None: they are not mirrored. `share` 0..10000 of what flags and routes let through is mirrored; `sticky`: the same
    subjects always, else drawn for each request. `queue_limit` copies wait at once, and with those under way they have
    `memory_bytes` together. `connection_limit` copies are under way to one cluster at once; a copy that waited, or was
    under way, for `deadline_s` is given up. Answers that take longer than `answer_s` are not compared. `sweep_s`: how
    often deadlines are looked at.
    """

    secret: bytes
    candidate: Cluster | None = None
    share: int = BUCKETS
    sticky: bool = False
    queue_limit: int = 1_000
    memory_bytes: int = 64 << 20
    body_bytes: int = 1 << 20
    answer_bytes: int = 1 << 20
    answer_s: float = 60.0
    connection_limit: int = 64
    connect_s: float = 2.0
    deadline_s: float = 10.0
    keep_alive_s: float = 1.5
    sweep_s: float = 0.25
    max_header_bytes: int = 65_536
    max_header_count: int = 128
    breaker: BreakerPolicy = _BREAKER
