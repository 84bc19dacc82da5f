"""Rules about money, states, keys, cursors and signatures. Pure; the words are http-api.md's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import TextChoices

from monolith.config.body import REQUIRED, check, optional_text, required_text
from monolith.config.moments import timestamp
from monolith.config.problem import FieldErrors, Problem

BAD_AMOUNT = "Enter an amount with at most two decimals, from 0.01 to 999999.99."
BAD_CURRENCY = "Must be one of EUR, GBP, USD."
BAD_ORDER_ID = "Must be a positive integer."
BAD_DATE = "Enter a date as YYYY-MM-DD."
BAD_LIMIT = "Must be from 1 to 100."
BAD_CURSOR = "Not a valid cursor."

CURRENCIES = ("EUR", "GBP", "USD")
CARD_TOKEN_CHARACTERS = 64
TEXT_CHARACTERS = 200
DEFAULT_LIMIT, LARGEST_LIMIT = 20, 100
KEY_LOCK = timedelta(seconds=30)
SIGNATURE_AGE_S = 300

LARGEST_ID = 2**63 - 1
_AMOUNT = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LIMIT = re.compile(r"[0-9]{1,3}")
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")
_MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


class IntentStatus(TextChoices):
    """States of a payment."""

    CREATED = "created"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    DECLINED = "declined"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


PAID = (IntentStatus.CAPTURED, IntentStatus.PARTIALLY_REFUNDED, IntentStatus.REFUNDED)
REFUNDABLE = (IntentStatus.CAPTURED, IntentStatus.PARTIALLY_REFUNDED)


class RefundStatus(TextChoices):
    """States of a refund."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntent:
    """A valid wish to be paid."""

    amount: Decimal
    currency: str
    card_token: str
    description: str
    order_id: int | None


def money(amount: Decimal) -> str:
    """Exactly two decimals.

    >>> money(Decimal("5"))
    '5.00'
    """
    return f"{amount:.2f}"


def parse_new_intent(body: dict[str, Any]) -> NewIntent:
    """Read the body of a creation; raises `Problem` `invalid` with every wrong field."""
    errors: FieldErrors = {}
    amount = _amount(body, errors)
    currency = required_text(body, "currency", errors)
    if "currency" not in errors and currency not in CURRENCIES:
        errors["currency"] = [BAD_CURRENCY]
    new = NewIntent(
        amount=amount,
        currency=currency,
        card_token=required_text(body, "card_token", errors, longest=CARD_TOKEN_CHARACTERS),
        description=optional_text(body, "description", errors, longest=TEXT_CHARACTERS),
        order_id=_order_id(body, errors),
    )
    check(errors)
    return new


def parse_refund(body: dict[str, Any]) -> tuple[Decimal, str]:
    """Read amount and reason of a refund; raises `Problem` `invalid`."""
    errors: FieldErrors = {}
    amount = _amount(body, errors)
    reason = optional_text(body, "reason", errors, longest=TEXT_CHARACTERS)
    check(errors)
    return amount, reason


def parse_date(body: dict[str, Any]) -> date:
    """Read the date of a settlement; raises `Problem` `invalid`."""
    errors: FieldErrors = {}
    text = required_text(body, "date", errors)
    day = date.min
    if "date" not in errors:
        try:
            day = date.fromisoformat(text) if _DATE.fullmatch(text) else date.min
        except ValueError:
            day = date.min
        if day == date.min:
            errors["date"] = [BAD_DATE]
    check(errors)
    return day


def parse_page(query: Mapping[str, str]) -> tuple[int, tuple[datetime, uuid.UUID] | None]:
    """Read `limit` and `after` of a list; raises `Problem` `invalid`."""
    errors: FieldErrors = {}
    limit, after = DEFAULT_LIMIT, None
    if "limit" in query:
        limit = int(query["limit"]) if _LIMIT.fullmatch(query["limit"]) else 0
        if not 1 <= limit <= LARGEST_LIMIT:
            errors["limit"] = [BAD_LIMIT]
    if "after" in query:
        after = read_cursor(query["after"])
        if after is None:
            errors["after"] = [BAD_CURSOR]
    check(errors)
    return limit, after


def make_cursor(created_at: datetime, intent_id: uuid.UUID) -> str:
    """Where a page ends: base64url of `CREATED_AT|ID` without padding."""
    text = f"{timestamp(created_at)}|{intent_id}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(text: str) -> tuple[datetime, uuid.UUID] | None:
    """What `make_cursor` wrote; None where it did not write this.

    >>> read_cursor("bm90IGEgY3Vyc29y") is None
    True
    """
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        moment, _, intent_id = raw.decode("ascii").partition("|")
        when = datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC)
    except (ValueError, binascii.Error):
        return None
    found = parse_uuid(intent_id)
    if found is None or make_cursor(when, found) != text:
        return None
    return when, found


def parse_uuid(text: str) -> uuid.UUID | None:
    """An id in its canonical form, else None."""
    return uuid.UUID(text) if _UUID.fullmatch(text) else None


def read_key(text: str | None) -> str:
    """The `Idempotency-Key`; raises `Problem` `idempotency_key_missing`."""
    if text is None or not _KEY.fullmatch(text):
        raise Problem("idempotency_key_missing")
    return text


def fingerprint(route: str, body: bytes) -> str:
    """What a key is for: sha256 of method, route and raw body.

    >>> fingerprint("payments.create", b"{}")[:8]
    '6eb2a8ad'
    """
    return hashlib.sha256(b"POST\n" + route.encode() + b"\n" + body).hexdigest()


def refund_id(intent_id: uuid.UUID, key: str) -> uuid.UUID:
    """The id of the refund that a key makes: the same at both sides, so that either goes on with it."""
    return uuid.uuid5(intent_id, f"refund:{key}")


def signature_holds(header: str, body: bytes, *, secret: str, now_s: float) -> bool:
    """Whether a webhook is the card processor's, and not older (or newer) than five minutes."""
    match = _SIGNATURE.fullmatch(header)
    if match is None or abs(now_s - int(match[1])) > SIGNATURE_AGE_S:
        return False
    expected = hmac.new(secret.encode(), f"{match[1]}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, match[2])


def _amount(body: dict[str, Any], errors: FieldErrors) -> Decimal:
    value = body.get("amount")
    if value is None or value == "":
        errors["amount"] = [REQUIRED]
    elif isinstance(value, str) and _AMOUNT.fullmatch(value) and Decimal(value) > 0:
        return Decimal(value).quantize(Decimal("0.01"))
    else:
        errors["amount"] = [BAD_AMOUNT]
    return Decimal(0)


def _order_id(body: dict[str, Any], errors: FieldErrors) -> int | None:
    value = body.get("order_id")
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= LARGEST_ID:
        errors["order_id"] = [BAD_ORDER_ID]
        return None
    return value
