"""The answers that the middleware gives in place of the code's own: fenced (409), in part (500), not now (503).

Plain Python 3.9 and standard library only; shared by the Django and the Starlette parts.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

from strangler_proxy.contrib.ownership import OwnershipRecord
from strangler_proxy.contrib.record import FenceRecord
from strangler_proxy.core.fence import FENCE_HEADER, FENCE_STATUS, Replay

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 1


class FencedAfterHeaders(RuntimeError):
    """A streamed answer met the fence after its headers had left: the connection is broken off, so that nobody takes
    the half for the whole."""


@dataclass(frozen=True)
class Refusal:
    """A finished answer: status, problem+json body, headers."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    replay: str = "unknown"
    """Label of `strangler_fence_met_total`."""


def fenced(record: FenceRecord, ownership: OwnershipRecord | None) -> Refusal:
    """The answer of a request that met the fence; 503 where the ownership record could not be read or is missing.

    500 without the fence header where something was committed that nobody can go on from: neither the proxy nor a
    client's library sends a 500 once more, and a second time would do the committed part twice.
    """
    if record.replay() is Replay.NO:
        return _in_part()
    if ownership is None:
        return not_now("ownership-unknown", "Who may write here is not known at the moment. Try again.")
    answer = ownership.fence(record.replay())
    detail = "Another system owns this data now; the proxy sends this there."
    body = problem_body(FENCE_STATUS, "fenced", "Fenced", detail)
    headers = {FENCE_HEADER: answer.encode(), "Content-Type": PROBLEM_JSON, "Cache-Control": "no-store"}
    return Refusal(status=FENCE_STATUS, body=body, headers=headers, replay=answer.replay.value)


def _in_part() -> Refusal:
    detail = "A part of this request was committed before its data moved, the rest was not. Look before you repeat it."
    body = problem_body(500, "fenced-in-part", "Done in part", detail)
    headers = {"Content-Type": PROBLEM_JSON, "Cache-Control": "no-store"}
    return Refusal(status=500, body=body, headers=headers, replay=Replay.NO.value)


def log_refusal(logger: logging.Logger, record: FenceRecord, refusal: Refusal, *, method: str, route: str) -> None:
    """The line of a request that met the fence: an error where a part of it was committed."""
    met = record.met
    assert met is not None
    facts = {"flag": met.flag, "table": met.table, "replay": refusal.replay, "method": method, "route": route}
    if record.replay() is Replay.NO:
        logger.error("fence.met_after_commit", extra={**facts, "commits": dict(record.commits)})
    else:
        logger.info("fence.met", extra=facts)


def not_now(code: str, detail: str) -> Refusal:
    """503 with Retry-After."""
    headers = {"Content-Type": PROBLEM_JSON, "Cache-Control": "no-store", "Retry-After": str(RETRY_AFTER_S)}
    return Refusal(status=503, body=problem_body(503, code, "Service unavailable", detail), headers=headers)


def problem_body(status: int, code: str, title: str, detail: str) -> bytes:
    """A problem of this toolkit (RFC 9457) as JSON."""
    problem = {"type": f"urn:strangler:problem:{code}", "title": title, "status": status, "code": code}
    return json.dumps({**problem, "detail": detail}).encode()
