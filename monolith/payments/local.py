"""Payments with the ORM: the seam's local implementation. Answers as the HTTP routes do, bytes included."""

from __future__ import annotations

from collections.abc import Callable

from monolith.config.ownership import require_owner
from monolith.config.problem import Answer, Problem
from monolith.payments import capture, intents, refunding
from monolith.payments.asked import FLAG, Asked


class LocalPayments:
    """`Problem` becomes an answer, told by the owner only; the fence is left to the seam.

    Keys are not held exclusively: a call that a cutover interrupts is gone on with at the other side at once, and the
    card processor's own key makes a second call harmless.
    """

    def create(self, user_id: int, body: bytes, key: str) -> Answer:
        """`POST /api/payments/intents` with scope `orders`."""
        return _answer(lambda: intents.create(_asked(user_id, body, key, intents.ORDERS)))

    def capture(self, user_id: int, intent_id: str, key: str) -> Answer:
        """`POST /api/payments/intents/ID/capture`."""
        return _answer(lambda: capture.capture(_asked(user_id, b"{}", key), intent_id))

    def refund(self, user_id: int, intent_id: str, body: bytes, key: str) -> Answer:
        """`POST /api/payments/intents/ID/refunds`."""
        return _answer(lambda: refunding.refund(_asked(user_id, body, key), intent_id))

    def read(self, user_id: int, intent_id: str) -> Answer:
        """`GET /api/payments/intents/ID`."""
        return _answer(lambda: intents.read(user_id, intent_id), safe=True)

    def page(self, user_id: int, limit: int) -> Answer:
        """`GET /api/payments/intents?limit=N`."""
        return _answer(lambda: intents.page(user_id, {"limit": str(limit)}), safe=True)


def _asked(user_id: int, body: bytes, key: str, *scopes: str) -> Asked:
    return Asked(user_id=user_id, scopes=frozenset(scopes), key=key, body=body, exclusive=False)


def _answer(run: Callable[[], Answer], *, safe: bool = False) -> Answer:
    try:
        return run()
    except Problem as problem:
        if not safe:
            require_owner(FLAG)
        return problem.answer()
