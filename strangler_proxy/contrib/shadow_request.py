"""What to do with a request of shadow mode: run it captured, refuse it, or serve it as any other.

One rule for Django and Starlette. A mark that asks for `mirror` and does not hold is refused before any code runs: to
serve it would perform what was to be captured. One that asks for `record` and does not hold is served as any other
request, and reports nothing. Where no secret is configured nothing can be proved: reads are served, a mirrored write is
refused.

Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strangler_proxy.contrib.refusal import PROBLEM_JSON, Refusal, problem_body
from strangler_proxy.contrib.shadow_capture import Capture
from strangler_proxy.core import shadow_wire
from strangler_proxy.core.shadow_wire import (
    EFFECTS_HEADER,
    PROOF_HEADER,
    SeenIds,
    ShadowKeys,
    ShadowRequest,
    ShadowRole,
)

logger = logging.getLogger("strangler.shadow")

SECRET_VARIABLES = ("STRANGLER_SIGNING_SECRET", "STRANGLER_SHADOW_SECRET")
"""The first that is set; the first may be given as a file too (`STRANGLER_SIGNING_SECRET_FILE`)."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
BODY_BYTES = 8_388_608
"""Of a marked request at most."""


class Kind(enum.Enum):
    """How a request is served."""

    PLAIN = "plain"  # as if it had no mark
    CAPTURED = "captured"  # with a `Capture`, in the role of its mark
    REFUSED = "refused"  # 403; no code of the application runs


@dataclass(frozen=True)
class Judged:
    """What to do with a request; `request` is there where it is captured, `reason` where its mark does not hold."""

    kind: Kind
    request: ShadowRequest | None = None
    recorded: list[dict[str, Any]] = field(default_factory=list)
    undo: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""

    def capture(self) -> Capture:
        """A fresh capture of a request that is to be captured."""
        assert self.request is not None
        return Capture(self.request, self.recorded, self.undo)


PLAIN = Judged(kind=Kind.PLAIN)


def keys_from_environment() -> ShadowKeys | None:
    """The keys from the environment's secret, None where there is none. Raises ValueError for one that is too short."""
    file = os.environ.get("STRANGLER_SIGNING_SECRET_FILE")
    for name in SECRET_VARIABLES:
        if os.environ.get(name):
            return ShadowKeys(os.environ[name].encode())
        if file and name == SECRET_VARIABLES[0]:
            return ShadowKeys(Path(file).read_bytes().strip())
    return None


def judge(
    keys: ShadowKeys | None, seen: SeenIds, *, method: str, mark: str | None, recorded: Sequence[str], now: float
) -> Judged:
    """Read the mark of a request. `recorded` are the values of `X-Strangler-Recorded`, `now` Unix seconds.

    The body is for `fits_body` of the request, before any code sees it.
    """
    if mark is None:
        return PLAIN
    mirror = not mark.strip().startswith(f"role={ShadowRole.RECORD.value};")
    if keys is None:
        if mirror and method not in SAFE_METHODS:
            return _refused("no_secret")
        return PLAIN
    request = shadow_wire.read_request(keys, mark, now=now)
    if request is None:
        return _refused("forged_or_expired") if mirror else _ignored("forged_or_expired")
    if not seen.first(request.id, request.at):
        return _refused("replayed") if mirror else _ignored("replayed")
    if not request.fits_recorded(recorded):
        return _refused("recorded_changed") if mirror else _ignored("recorded_changed")
    try:
        effects = shadow_wire.decode_effects(recorded) if recorded else []
        undo = shadow_wire.decode_undo(recorded) if recorded else []
    except ValueError:  # too large, most of all: this side then has nothing to answer from
        effects, undo = [], []
    return Judged(kind=Kind.CAPTURED, request=request, recorded=effects, undo=undo)


def body_refused(judged: Judged, body: bytes) -> bool:
    """Is this not the body that was marked? Then a mirrored request is to be refused."""
    return judged.request is not None and not judged.request.fits_body(body)


def refused(reason: str) -> Refusal:
    """The 403 of a mirrored request whose mark does not hold."""
    detail = "This request is marked as mirrored, and its mark does not hold here. Nothing of it was run."
    headers = {"Content-Type": PROBLEM_JSON, "Cache-Control": "no-store"}
    body = problem_body(403, f"shadow-{reason.replace('_', '-')}", "Mark of shadow mode refused", detail)
    return Refusal(status=403, body=body, headers=headers)


def answer_fields(keys: ShadowKeys | None, capture: Capture) -> list[tuple[str, str]]:
    """The fields to add to the answer: effects and proof; none where something could not be captured.

    Freezes the effects: call it when the answer's first byte leaves.
    """
    values = capture.told()
    if keys is None or capture.unproven_reasons:
        logger.warning("shadow.unproven", extra={"reasons": sorted(set(capture.unproven_reasons))[:10]})
        return []
    proof = shadow_wire.proof_value(keys, capture.request, values)
    return [*((EFFECTS_HEADER, value) for value in values), (PROOF_HEADER, proof)]


def _refused(reason: str) -> Judged:
    logger.warning("shadow.refused", extra={"reason": reason})
    return Judged(kind=Kind.REFUSED, reason=reason)


def _ignored(reason: str) -> Judged:
    logger.warning("shadow.ignored", extra={"reason": reason})
    return Judged(kind=Kind.PLAIN, reason=reason)
