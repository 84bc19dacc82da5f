"""The seam of payments: what the rest of the shop may use. Local or remote, by the ownership record of flag `payments`.

None of these may be called inside a transaction: commit first, then call. Keys are derived from the order, so that
a second call, at either side, finds what the first one did.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from monolith.config.problem import Answer, Problem, encode, refusal
from monolith.payments.asked import FLAG
from monolith.payments.capture import CAPTURED
from monolith.payments.local import LocalPayments
from monolith.payments.refunding import REFUNDED
from monolith.payments.remote import RemotePayments
from monolith.payments.rules import CARD_TOKEN_CHARACTERS, TEXT_CHARACTERS, IntentStatus, RefundStatus, money
from strangler_proxy.contrib.django.seam import Seam

__all__ = [
    "CAPTURED",
    "CARD_TOKEN_CHARACTERS",
    "REFUNDED",
    "IntentStatus",
    "Payment",
    "PaymentApi",
    "RefundStatus",
    "money",
    "pay",
    "payments_of",
    "read",
    "refund",
]

PaymentApi = LocalPayments | RemotePayments

_seam: Seam[PaymentApi] = Seam(flag=FLAG, local=LocalPayments, remote=RemotePayments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as both sides tell it; `document` is the whole of it."""

    id: str
    order_id: int | None
    amount: Decimal
    captured_amount: Decimal
    refunded_amount: Decimal
    currency: str
    status: str
    description: str
    created_at: datetime
    document: dict[str, Any]

    @property
    def label(self) -> str:
        """The status in words."""
        return self.status.replace("_", " ")


def pay(
    *, user_id: int, order_id: int, amount: Decimal, currency: str, card_token: str, description: str, key: str
) -> Payment:
    """Make a payment for a committed order and charge the card.

    `key` names this attempt. Raises `Problem`: `card_declined`, `idempotency_key_reused` (another card under this
    key), `in_progress`, `processor_unavailable`, `service_unavailable`; the last three may be tried again.
    """
    body = encode(
        {
            "amount": money(amount),
            "currency": currency,
            "card_token": card_token,
            "description": description[:TEXT_CHARACTERS],
            "order_id": order_id,
        }
    ).encode()
    made = _call(lambda api: api.create(user_id, body, f"{key}:create"))
    return _payment(_call(lambda api: api.capture(user_id, made["id"], f"{key}:capture")))


def refund(*, user_id: int, payment_id: str, amount: Decimal, reason: str, key: str) -> dict[str, Any]:
    """Give money back; the refund's document (its `status` may be `failed`).

    Raises `Problem`: `not_refundable`, `refund_too_large`, or as `pay` those that may be tried again.
    """
    body = encode({"amount": money(amount), "reason": reason[:TEXT_CHARACTERS]}).encode()
    return _call(lambda api: api.refund(user_id, payment_id, body, key))


def read(user_id: int, payment_id: str) -> Payment:
    """One payment of that user, fresh; raises `Problem`."""
    return _payment(_call(lambda api: api.read(user_id, payment_id), effect=False))


def payments_of(user_id: int, *, limit: int = 20) -> list[Payment]:
    """The newest payments of that user, fresh; raises `Problem`."""
    page = _call(lambda api: api.page(user_id, limit), effect=False)
    return [_payment(document) for document in page["results"]]


def _call(use: Callable[[PaymentApi], Answer], *, effect: bool = True) -> dict[str, Any]:
    answer = _seam.call(use, effect=effect)
    if answer.status >= 400:
        raise refusal(answer)
    try:
        document: dict[str, Any] = json.loads(answer.text)
    except ValueError as error:
        raise Problem("service_unavailable") from error
    return document


def _payment(document: dict[str, Any]) -> Payment:
    return Payment(
        id=document["id"],
        order_id=document["order_id"],
        amount=Decimal(document["amount"]),
        captured_amount=Decimal(document["captured_amount"]),
        refunded_amount=Decimal(document["refunded_amount"]),
        currency=document["currency"],
        status=document["status"],
        description=document["description"],
        created_at=datetime.fromisoformat(document["created_at"]),
        document=document,
    )
