"""A request to payments, from wherever it came: the HTTP route or the seam."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from monolith.config.body import parse_object
from monolith.config.problem import Problem
from monolith.payments.models import Intent
from monolith.payments.rules import parse_uuid

FLAG = "payments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who asks, with which key, and what was sent.

    `body` is kept raw: it is part of the key's fingerprint. `resume`: go on from the recorded state at once.
    `exclusive`: while no answer is stored, others with this key get `in_progress` for 30 s.
    """

    user_id: int
    scopes: frozenset[str] = frozenset()
    key: str | None = None
    body: bytes = b""
    content_type: str = "application/json"
    resume: bool = False
    exclusive: bool = True

    def document(self) -> dict[str, object]:
        """The JSON object that was sent; raises `Problem`."""
        return parse_object(self.body, self.content_type)


def own_intent(user_id: int, text: str) -> UUID:
    """The id of that user's payment; raises `Problem` `not_found` for any other."""
    intent_id = parse_uuid(text)
    if intent_id is None or not Intent.objects.filter(pk=intent_id, user_id=user_id).exists():
        raise Problem("not_found")
    return intent_id
