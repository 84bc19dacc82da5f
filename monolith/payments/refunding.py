"""Giving money back, whole or in part: the same three steps as a capture, per refund."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import Now

from monolith.config.api import ok
from monolith.config.problem import Answer, Problem
from monolith.payments import keys, processor
from monolith.payments.asked import Asked, own_intent
from monolith.payments.documents import refund_document
from monolith.payments.models import Intent, Refund
from monolith.payments.processor import Outcome, ProcessorUnavailable
from monolith.payments.rules import (
    REFUNDABLE,
    IntentStatus,
    RefundStatus,
    money,
    parse_refund,
    read_key,
    refund_id,
)
from strangler_proxy.contrib.django import outbox
from strangler_proxy.contrib.record import resumable

REFUNDED = "payment.refunded"


def refund(asked: Asked, intent_text: str) -> Answer:
    """The answer of `POST /api/payments/intents/ID/refunds`; raises `Problem` for what is not stored."""
    intent_id = own_intent(asked.user_id, intent_text)
    key = read_key(asked.key)
    with transaction.atomic():
        claim = keys.claim(asked, key, f"payments.refund:{intent_id}")
        if claim.stored is not None:
            return claim.stored
        amount, reason = parse_refund(asked.document())
        intent = Intent.objects.select_for_update().get(pk=intent_id)
        row = Refund.objects.filter(pk=refund_id(intent_id, key)).first()
        if row is None:
            refusal = _refusal(intent, amount)
            if refusal is not None:
                return keys.store(asked.user_id, key, refusal.answer())
            row = Refund.objects.create(pk=refund_id(intent_id, key), intent=intent, amount=amount, reason=reason)
    with resumable():
        outcome = None
        if row.status == RefundStatus.PENDING:
            try:
                outcome = give_back(row)
            except ProcessorUnavailable as error:
                keys.release(asked.user_id, key)
                raise Problem("processor_unavailable") from error
        return _conclude(asked.user_id, key, row.pk, outcome)


def give_back(row: Refund) -> Outcome:
    """Ask the processor; raises `ProcessorUnavailable`."""
    return processor.refund(row.pk, charge_id=row.intent.processor_charge_id or "", amount=row.amount)


@transaction.atomic
def record(refund_pk: UUID, outcome: Outcome) -> Refund:
    """Write what became of a refund that is still `pending`, with its event; any other state stays."""
    intent = Intent.objects.select_for_update().get(refunds=refund_pk)
    row = Refund.objects.select_for_update().get(pk=refund_pk)
    if row.status != RefundStatus.PENDING:
        return row
    row.status = RefundStatus.SUCCEEDED if outcome.succeeded else RefundStatus.FAILED
    row.processor_refund_id = outcome.reference
    Refund.objects.filter(pk=row.pk).update(
        status=row.status, processor_refund_id=row.processor_refund_id, updated_at=Now()
    )
    if outcome.succeeded:
        whole = intent.refunded_amount + row.amount >= intent.captured_amount
        Intent.objects.filter(pk=intent.pk).update(
            status=IntentStatus.REFUNDED if whole else IntentStatus.PARTIALLY_REFUNDED,
            refunded_amount=F("refunded_amount") + row.amount,
            updated_at=Now(),
        )
        _announce(intent, row)
    return row


@transaction.atomic
def _conclude(user_id: int, key: str, refund_pk: UUID, outcome: Outcome | None) -> Answer:
    stored = keys.lock(user_id, key)
    if stored is not None:
        return stored
    row = Refund.objects.get(pk=refund_pk) if outcome is None else record(refund_pk, outcome)
    return keys.store(user_id, key, ok(refund_document(row), 201))


def _refusal(intent: Intent, amount: Decimal) -> Problem | None:
    if intent.status not in REFUNDABLE:
        return Problem("not_refundable", status_word=str(intent.status))
    pending = intent.refunds.filter(status=RefundStatus.PENDING).aggregate(total=Sum("amount"))["total"]
    left = intent.captured_amount - intent.refunded_amount - (pending or 0)
    if amount > left:
        return Problem("refund_too_large", amount=money(left), currency=intent.currency)
    return None


def _announce(intent: Intent, row: Refund) -> None:
    event = {
        "intent_id": str(intent.pk),
        "refund_id": str(row.pk),
        "order_id": intent.order_id,
        "user_id": intent.user_id,
        "amount": money(row.amount),
        "currency": intent.currency,
    }
    outbox.enqueue(REFUNDED, event)
