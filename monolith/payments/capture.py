"""Capturing: intent, then the card processor with the intent's key, then the record. Resumable at every point.

The processor is never called inside a transaction. Whoever comes later (the same key, the webhook, the sweeper, the
other side after a cutover) goes on from the state `capturing`.
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from monolith.config.api import ok
from monolith.config.problem import Answer, Problem
from monolith.payments import keys, processor
from monolith.payments.asked import Asked, own_intent
from monolith.payments.documents import intent_document
from monolith.payments.models import Intent
from monolith.payments.processor import Outcome, ProcessorUnavailable
from monolith.payments.rules import IntentStatus, money, read_key
from strangler_proxy.contrib.django import outbox
from strangler_proxy.contrib.record import resumable

CAPTURED = "payment.captured"


def capture(asked: Asked, intent_text: str) -> Answer:
    """The answer of `POST /api/payments/intents/ID/capture`; raises `Problem` for what is not stored."""
    intent_id = own_intent(asked.user_id, intent_text)
    key = read_key(asked.key)
    with transaction.atomic():
        claim = keys.claim(asked, key, f"payments.capture:{intent_id}")
        if claim.stored is not None:
            return claim.stored
        if asked.body:
            asked.document()
        intent = Intent.objects.select_for_update().get(pk=intent_id)
        if not claim.resumed:
            if intent.status != IntentStatus.CREATED:
                refused = Problem("not_capturable", status_word=str(intent.status)).answer()
                return keys.store(asked.user_id, key, refused)
            _set(intent, status=IntentStatus.CAPTURING)
    with resumable():
        outcome = None
        if intent.status == IntentStatus.CAPTURING:
            try:
                outcome = charge(intent)
            except ProcessorUnavailable as error:
                keys.release(asked.user_id, key)
                raise Problem("processor_unavailable") from error
        return _conclude(asked.user_id, key, intent_id, outcome)


def charge(intent: Intent) -> Outcome:
    """Ask the processor; raises `ProcessorUnavailable`."""
    return processor.charge(intent.pk, amount=intent.amount, currency=intent.currency, source=intent.card_token)


@transaction.atomic
def record(intent_id: UUID, outcome: Outcome) -> Intent:
    """Write what became of an intent that is still `capturing`, with its event; any other state stays."""
    intent = Intent.objects.select_for_update().get(pk=intent_id)
    if intent.status != IntentStatus.CAPTURING:
        return intent
    if not outcome.succeeded:
        return _set(intent, status=IntentStatus.DECLINED)
    _set(
        intent,
        status=IntentStatus.CAPTURED,
        captured_amount=intent.amount,
        processor_charge_id=outcome.reference,
    )
    event = {
        "intent_id": str(intent.pk),
        "order_id": intent.order_id,
        "user_id": intent.user_id,
        "amount": money(intent.captured_amount),
        "currency": intent.currency,
    }
    outbox.enqueue(CAPTURED, event)
    return intent


@transaction.atomic
def _conclude(user_id: int, key: str, intent_id: UUID, outcome: Outcome | None) -> Answer:
    stored = keys.lock(user_id, key)
    if stored is not None:
        return stored
    intent = Intent.objects.get(pk=intent_id) if outcome is None else record(intent_id, outcome)
    declined = intent.status == IntentStatus.DECLINED
    answer = Problem("card_declined").answer() if declined else ok(intent_document(intent))
    return keys.store(user_id, key, answer)


def _set(intent: Intent, **changes: object) -> Intent:
    Intent.objects.filter(pk=intent.pk).update(updated_at=Now(), **changes)
    for name, value in changes.items():
        setattr(intent, name, value)
    return intent
