"""Payments through the proxy: the seam's remote implementation, in the customer's name."""

from __future__ import annotations

from monolith.accounts.api import seam_token
from monolith.config import remote
from monolith.config.problem import Answer
from monolith.payments.intents import ORDERS

INTENTS = "/api/payments/intents"


class RemotePayments:
    """The same calls as `LocalPayments`. Every one is repeatable: by its key, or as it only reads."""

    def create(self, user_id: int, body: bytes, key: str) -> Answer:
        """`POST /api/payments/intents` with scope `orders`."""
        return self._post(INTENTS, seam_token(user_id, ORDERS), body, key)

    def capture(self, user_id: int, intent_id: str, key: str) -> Answer:
        """`POST /api/payments/intents/ID/capture`."""
        return self._post(f"{INTENTS}/{intent_id}/capture", seam_token(user_id), b"{}", key)

    def refund(self, user_id: int, intent_id: str, body: bytes, key: str) -> Answer:
        """`POST /api/payments/intents/ID/refunds`."""
        return self._post(f"{INTENTS}/{intent_id}/refunds", seam_token(user_id), body, key)

    def read(self, user_id: int, intent_id: str) -> Answer:
        """`GET /api/payments/intents/ID`."""
        return remote.call("GET", f"{INTENTS}/{intent_id}", token=seam_token(user_id), repeatable=True)

    def page(self, user_id: int, limit: int) -> Answer:
        """`GET /api/payments/intents?limit=N`."""
        return remote.call("GET", f"{INTENTS}?limit={limit}", token=seam_token(user_id), repeatable=True)

    def _post(self, path: str, token: str, body: bytes, key: str) -> Answer:
        return remote.call("POST", path, body=body, token=token, key=key, repeatable=True)
