"""A payment and its refunds: what they are, and what may be done in which state. Pure."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from extracted.payments.money import ZERO, format_amount


class IntentStatus(enum.StrEnum):
    """States of an intent. `capturing`: the card processor was or will be asked, the outcome is not recorded."""

    CREATED = "created"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    DECLINED = "declined"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


class RefundStatus(enum.StrEnum):
    """States of a refund. `pending`: as `capturing` of an intent; it counts against what is left."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


CAPTURABLE = frozenset({IntentStatus.CREATED})
REFUNDABLE = frozenset({IntentStatus.CAPTURED, IntentStatus.PARTIALLY_REFUNDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A row of `refund`."""

    id: uuid.UUID
    intent_id: uuid.UUID
    amount: Decimal
    status: RefundStatus
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A row of `intent` with its refunds, oldest first. `card_token` is never shown, not even in a repr."""

    id: uuid.UUID
    customer_id: int
    order_ref: int | None
    amount: Decimal
    currency: str
    status: IntentStatus
    captured_amount: Decimal
    refunded_amount: Decimal
    card_token: str = field(repr=False)
    description: str
    processor_charge_id: str | None
    created_at: datetime
    refunds: tuple[Refund, ...] = ()

    @property
    def refundable(self) -> Decimal:
        """What is left to be refunded: pending refunds count as if they had succeeded."""
        pending = sum((refund.amount for refund in self.refunds if refund.status is RefundStatus.PENDING), ZERO)
        return self.captured_amount - self.refunded_amount - pending

    def refund(self, refund_id: uuid.UUID) -> Refund | None:
        """The refund with that id, if it is one of this intent's."""
        return next((refund for refund in self.refunds if refund.id == refund_id), None)


def status_after_refunds(captured: Decimal, refunded: Decimal) -> IntentStatus:
    """The status of an intent of which so much was captured and refunded.

    >>> status_after_refunds(Decimal(10), Decimal(10)).value
    'refunded'
    """
    if refunded <= ZERO:
        return IntentStatus.CAPTURED
    return IntentStatus.REFUNDED if refunded >= captured else IntentStatus.PARTIALLY_REFUNDED


def refund_id_for(intent_id: uuid.UUID, key: str) -> uuid.UUID:
    """The id of the refund that an Idempotency-Key makes.

    Known from the key alone, so that a request that goes on from a recorded state, at either side, finds what
    it began.
    """
    return uuid.uuid5(intent_id, f"refund:{key}")


def intent_document(intent: Intent) -> dict[str, object]:
    """The `Intent` of docs/reference/http-api.md."""
    return {
        "id": str(intent.id),
        "order_id": intent.order_ref,
        "amount": format_amount(intent.amount),
        "currency": intent.currency,
        "status": intent.status.value,
        "captured_amount": format_amount(intent.captured_amount),
        "refunded_amount": format_amount(intent.refunded_amount),
        "description": intent.description,
        "created_at": format_time(intent.created_at),
        "refunds": _refund_documents(intent.refunds),
    }


def refund_document(refund: Refund) -> dict[str, object]:
    """The `Refund` of docs/reference/http-api.md."""
    return {
        "id": str(refund.id),
        "amount": format_amount(refund.amount),
        "status": refund.status.value,
        "reason": refund.reason,
        "created_at": format_time(refund.created_at),
    }


def _refund_documents(refunds: Iterable[Refund]) -> list[dict[str, object]]:
    return [refund_document(refund) for refund in refunds]


def format_time(moment: datetime) -> str:
    """UTC, microseconds, `Z`. `moment` is aware.

    >>> format_time(datetime(2026, 11, 22, 12, tzinfo=UTC))
    '2026-11-22T12:00:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
