"""What became of a charge or a refund, put into the books: once, whoever hears it first.

The request, a request that goes on, the card processor's webhook and the sweeper may all hear of it. Whoever is
first records it and its event in one transaction; the others find it recorded.
"""

from __future__ import annotations

import uuid

from extracted.payments.card_processor import Outcome
from extracted.payments.intent import Intent, IntentStatus, Refund, RefundStatus, status_after_refunds
from extracted.payments.money import format_amount
from extracted.payments.store import Books

CAPTURED = "payment.captured"
REFUNDED = "payment.refunded"


async def record_charge(books: Books, intent_id: uuid.UUID, outcome: Outcome) -> Intent:
    """The intent with the outcome in it; unchanged when it was not `capturing` any more."""
    intent = await books.hold_intent(intent_id)
    if intent is None:
        raise LookupError(f"intent {intent_id} was there a moment ago")
    if intent.status is not IntentStatus.CAPTURING:
        return intent
    if outcome.succeeded:
        await books.record_capture(intent_id, outcome.id)
        await books.publish(
            CAPTURED,
            {
                "intent_id": str(intent.id),
                "order_id": intent.order_ref,
                "user_id": intent.customer_id,
                "amount": format_amount(intent.amount),
                "currency": intent.currency,
            },
        )
    else:
        await books.record_decline(intent_id)
    return await books.must_read(intent_id)


async def record_refund(books: Books, intent_id: uuid.UUID, refund_id: uuid.UUID, outcome: Outcome) -> Refund:
    """The refund with the outcome in it, and the intent's total; unchanged when it was not `pending` any more."""
    intent = await books.hold_intent(intent_id)
    refund = intent.refund(refund_id) if intent else None
    if intent is None or refund is None:
        raise LookupError(f"refund {refund_id} was there a moment ago")
    if refund.status is not RefundStatus.PENDING:
        return refund
    status = RefundStatus.SUCCEEDED if outcome.succeeded else RefundStatus.FAILED
    await books.record_refund(refund_id, status, outcome.id)
    if outcome.succeeded:
        refunded = intent.refunded_amount + refund.amount
        await books.record_refunded(intent_id, refunded, status_after_refunds(intent.captured_amount, refunded))
        await books.publish(
            REFUNDED,
            {
                "intent_id": str(intent.id),
                "refund_id": str(refund.id),
                "order_id": intent.order_ref,
                "user_id": intent.customer_id,
                "amount": format_amount(refund.amount),
                "currency": intent.currency,
            },
        )
    recorded = (await books.must_read(intent_id)).refund(refund_id)
    if recorded is None:
        raise LookupError(f"refund {refund_id} was there a moment ago")
    return recorded
