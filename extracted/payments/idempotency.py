"""One Idempotency-Key, one effect: what a request with a key may do. Pure.

The rules are those of docs/reference/http-api.md; the rows are in `books`.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass

from extracted.payments.problem import Code, Problem

LOCK_S = 30
"""A key without an answer is another request's for so long after `locked_at`."""

FINAL_PROBLEMS = frozenset({Code.CARD_DECLINED, Code.NOT_CAPTURABLE, Code.NOT_REFUNDABLE, Code.REFUND_TOO_LARGE})
"""Problems that are stored under the key; all others leave it as it was."""

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A final answer: what is sent, and stored byte for byte."""

    status: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A row of `idempotency_key`. `locked`: its `locked_at` is younger than `LOCK_S`."""

    fingerprint: str
    answer: Answer | None
    locked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request with a key: whose, which, for what, and whether the proxy says that it was begun elsewhere.

    `key` is as it came: it is checked after the path's id is.
    """

    customer_id: int
    key: str
    fingerprint: str
    resume: bool


class Next(enum.Enum):
    """What a request with a key does now."""

    BEGIN = "begin"  # nobody has used the key
    REPLAY = "replay"  # answer what is stored
    GO_ON = "go on"  # somebody began and is gone: from the recorded state


def next_step(ask: Ask, row: KeyRow | None) -> Next:
    """Decide; raises `Problem(idempotency_key_reused)` or `Problem(in_progress)`."""
    if row is None:
        return Next.BEGIN
    if row.fingerprint != ask.fingerprint:
        raise Problem(Code.IDEMPOTENCY_KEY_REUSED)
    if row.answer is not None:
        return Next.REPLAY
    if row.locked and not ask.resume:
        raise Problem(Code.IN_PROGRESS)
    return Next.GO_ON


def check_key(text: str) -> None:
    """Raise `Problem(idempotency_key_missing)` unless this may be a key."""
    if not _KEY.fullmatch(text):
        raise Problem(Code.IDEMPOTENCY_KEY_MISSING)


def fingerprint(method: str, route: str, body: bytes) -> str:
    """The sha256 in hex of what was asked; the same at both sides.

    >>> fingerprint("POST", "payments.create", b"{}")[:8]
    '2c307255'
    """
    return hashlib.sha256(f"{method}\n{route}\n".encode() + body).hexdigest()
