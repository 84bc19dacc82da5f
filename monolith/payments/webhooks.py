"""What the card processor tells of its own accord: deduplicated by event id, effect and row in one transaction."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from monolith.config.api import NO_CONTENT
from monolith.config.body import parse_object
from monolith.config.problem import Answer, Problem, encode
from monolith.payments import capture
from monolith.payments.models import Intent
from monolith.payments.processor import Outcome
from monolith.payments.rules import IntentStatus, money, parse_uuid, signature_holds

CHARGE_SUCCEEDED = "charge.succeeded"

_INSERT = """
INSERT INTO payments_webhookevent (id, kind, payload) VALUES (%s, %s, %s::text::jsonb)
ON CONFLICT (id) DO NOTHING RETURNING true
"""


def receive(signature: str, body: bytes, content_type: str) -> Answer:
    """The answer of `POST /api/payments/webhooks/card-processor`; raises `Problem` `bad_signature` and such."""
    secret = settings.ENVIRONMENT.processor_webhook_secret
    if not signature_holds(signature, body, secret=secret, now_s=time.time()):
        raise Problem("bad_signature")
    event = parse_object(body, content_type)
    event_id, kind, data = event.get("id"), event.get("kind"), event.get("data")
    if not (_is_text(event_id, 64) and _is_text(kind, 40) and isinstance(data, dict)):
        raise Problem("malformed_body")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, [event_id, kind, encode(event)])
            new = cursor.fetchone() is not None
        if new and kind == CHARGE_SUCCEEDED:
            _record_charge(data)
    return NO_CONTENT


def _record_charge(data: dict[str, Any]) -> None:
    intent_id = parse_uuid(str(data.get("reference")))
    if intent_id is None or not _is_text(data.get("id"), 64):
        return
    intent = Intent.objects.filter(pk=intent_id, status=IntentStatus.CAPTURING).first()
    if intent is None or (money(intent.amount), intent.currency) != (data.get("amount"), data.get("currency")):
        return
    capture.record(intent.pk, Outcome(succeeded=True, reference=data["id"]))


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= longest and "\x00" not in value
