"""What the card processor tells by itself: signed, at least once, in any order."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from extracted.payments.card_processor import Outcome
from extracted.payments.fields import parse_object
from extracted.payments.money import parse_amount
from extracted.payments.outcome import record_charge
from extracted.payments.problem import Code, Problem
from extracted.payments.store import Store

SIGNATURE_HEADER = "processor-signature"
TOLERANCE_S = 300
"""A signature older than that, or from further ahead, may be a copy."""

CHARGE_SUCCEEDED = "charge.succeeded"
ID_CHARACTERS = 64
KIND_CHARACTERS = 40

_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")
_UNSTORABLE = re.compile(r"\\u0000|[\ud800-\udfff]")
"""Can be written in JSON, but not stored as jsonb."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A charge that succeeded, as its event tells it."""

    id: str
    intent_id: uuid.UUID
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `charge` is there when it tells of a charge that succeeded for an intent."""

    id: str
    kind: str
    payload: Mapping[str, Any] = field(repr=False)
    charge: Charge | None


def check_signature(header: str, body: bytes, *, secret: str, now_s: float) -> None:
    """Raise `Problem(bad_signature)` unless the secret signed this body within `TOLERANCE_S` of now (Unix time)."""
    match = _SIGNATURE.fullmatch(header.strip())
    if match is None:
        raise Problem(Code.BAD_SIGNATURE)
    moment, given = match.groups()
    expected = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, given) or abs(now_s - int(moment)) > TOLERANCE_S:
        raise Problem(Code.BAD_SIGNATURE)


def parse_event(body: bytes) -> Event:
    """Read an event; raises `Problem(malformed_body)`."""
    payload = parse_object(body)
    event_id, kind, data = payload.get("id"), payload.get("kind"), payload.get("data")
    if not _is_text(event_id, ID_CHARACTERS) or not _is_text(kind, KIND_CHARACTERS) or not isinstance(data, dict):
        raise Problem(Code.MALFORMED_BODY)
    if _UNSTORABLE.search(json.dumps(payload, ensure_ascii=False)):
        raise Problem(Code.MALFORMED_BODY)
    charge = _parse_charge(data) if kind == CHARGE_SUCCEEDED else None
    return Event(id=str(event_id), kind=str(kind), payload=payload, charge=charge)


def _parse_charge(data: Mapping[str, Any]) -> Charge | None:
    charge_id, reference, amount, currency = (data.get(name) for name in ("id", "reference", "amount", "currency"))
    parsed = parse_amount(amount) if isinstance(amount, str) else None
    if not isinstance(reference, str) or not _UUID.fullmatch(reference) or parsed is None:
        return None
    if not _is_text(charge_id, ID_CHARACTERS) or not isinstance(currency, str):
        return None
    return Charge(id=str(charge_id), intent_id=uuid.UUID(reference), amount=parsed, currency=currency)


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= longest and value.isprintable()


async def receive(store: Store, event: Event) -> bool:
    """Note an event and its effect in one transaction; False when it has come before: then nothing is done."""
    async with store.transaction() as books:
        if not await books.insert_webhook_event(event.id, event.kind, event.payload):
            return False
        charge = event.charge
        if charge is not None:
            intent = await books.read_intent(charge.intent_id)
            if intent is not None and (intent.amount, intent.currency) == (charge.amount, charge.currency):
                await record_charge(books, charge.intent_id, Outcome(id=charge.id, succeeded=True))
        return True
