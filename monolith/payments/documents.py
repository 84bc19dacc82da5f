"""Payments as they are told."""

from __future__ import annotations

from typing import Any

from monolith.config.moments import timestamp
from monolith.payments.models import Intent, Refund, Settlement
from monolith.payments.rules import money


def intent_document(intent: Intent) -> dict[str, Any]:
    """The `Intent` of docs/reference/http-api.md, refunds included (oldest first)."""
    refunds = sorted(intent.refunds.all(), key=lambda refund: (refund.created_at, refund.id))
    return {
        "id": str(intent.id),
        "order_id": intent.order_id,
        "amount": money(intent.amount),
        "currency": intent.currency,
        "status": str(intent.status),
        "captured_amount": money(intent.captured_amount),
        "refunded_amount": money(intent.refunded_amount),
        "description": intent.description,
        "created_at": timestamp(intent.created_at),
        "refunds": [refund_document(refund) for refund in refunds],
    }


def refund_document(refund: Refund) -> dict[str, Any]:
    """The `Refund` of docs/reference/http-api.md."""
    return {
        "id": str(refund.id),
        "amount": money(refund.amount),
        "status": str(refund.status),
        "reason": refund.reason,
        "created_at": timestamp(refund.created_at),
    }


def settlement_document(row: Settlement) -> dict[str, Any]:
    """One currency of a settlement."""
    return {
        "currency": row.currency,
        "captured_total": money(row.captured_total),
        "refunded_total": money(row.refunded_total),
        "payments": row.payments,
    }
