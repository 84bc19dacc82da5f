"""Idempotency keys: the row that is written with what it protects, and the answer that is told again.

`claim`, `lock` and `store` are called inside the transaction of their caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection
from django.utils import timezone

from monolith.config.problem import Answer, Problem
from monolith.payments.asked import Asked
from monolith.payments.models import IdempotencyKey
from monolith.payments.rules import KEY_LOCK, fingerprint

RELEASED = datetime(1970, 1, 1, tzinfo=UTC)
"""`locked_at` of a key that anybody who has it may go on with."""

_INSERT = """
INSERT INTO payments_idempotencykey (user_id, key, fingerprint, locked_at)
VALUES (%s, %s, %s, CASE WHEN %s THEN now() ELSE %s END)
ON CONFLICT (user_id, key) DO NOTHING
RETURNING true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`stored` is the final answer, if there is one; else the key is ours. `resumed`: somebody began before."""

    stored: Answer | None = None
    resumed: bool = False


def claim(asked: Asked, key: str, route: str) -> Claim:
    """Take a key for a request to `route`.

    Raises `Problem`: `idempotency_key_reused`, or `in_progress` while another holds it.
    """
    wanted = fingerprint(route, asked.body)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [asked.user_id, key, wanted, asked.exclusive, RELEASED])
        if cursor.fetchone():
            return Claim()
    row = _locked(asked.user_id, key)
    if row.fingerprint != wanted:
        raise Problem("idempotency_key_reused")
    if row.response_status is not None:
        return Claim(stored=_replay(row))
    if not asked.resume and row.locked_at > timezone.now() - KEY_LOCK:
        raise Problem("in_progress")
    _rows(asked.user_id, key).update(locked_at=timezone.now() if asked.exclusive else RELEASED)
    return Claim(resumed=True)


def lock(user_id: int, key: str) -> Answer | None:
    """Hold the key until the end of the transaction; the answer, if another has stored one meanwhile."""
    row = _locked(user_id, key)
    return None if row.response_status is None else _replay(row)


def store(user_id: int, key: str, answer: Answer) -> Answer:
    """Keep a final answer, to be told again byte for byte."""
    _rows(user_id, key).update(response_status=answer.status, response_body=answer.text)
    return answer


def release(user_id: int, key: str) -> None:
    """Nobody holds the key any more: the retry that a 503 invites goes on at once."""
    _rows(user_id, key).filter(response_status=None).update(locked_at=RELEASED)


def _rows(user_id: int, key: str):
    return IdempotencyKey.objects.filter(user_id=user_id, key=key)


def _locked(user_id: int, key: str) -> IdempotencyKey:
    return _rows(user_id, key).select_for_update().get()


def _replay(row: IdempotencyKey) -> Answer:
    return Answer(status=row.response_status, text=row.response_body, headers={"Idempotent-Replay": "true"})
