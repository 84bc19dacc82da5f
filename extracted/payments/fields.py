"""What a request may hold: from JSON and query to values of the field, or every wrong field at once.

Pure. The texts are those of docs/reference/http-api.md, word for word.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NoReturn

from extracted.payments.intent import format_time
from extracted.payments.money import ZERO, parse_amount
from extracted.payments.problem import Code, Problem

REQUIRED = "This field is required."
NOT_A_STRING = "Must be a string."
NOT_AN_AMOUNT = "Enter an amount with at most two decimals, from 0.01 to 999999.99."
NOT_A_CURRENCY = "Must be one of EUR, GBP, USD."
NOT_AN_ORDER_ID = "Must be a positive integer."
NOT_A_DATE = "Enter a date as YYYY-MM-DD."
NOT_A_LIMIT = "Must be from 1 to 100."
NOT_A_CURSOR = "Not a valid cursor."

CURRENCIES = ("EUR", "GBP", "USD")
CARD_TOKEN_CHARACTERS = 64
TEXT_CHARACTERS = 200
LARGEST_LIMIT = 100
DEFAULT_LIMIT = 20

_BIGINT_MAX = 2**63 - 1
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LIMIT = re.compile(r"[0-9]{1,3}")
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,200}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Cursor = tuple[datetime, uuid.UUID]
Field = Callable[[Any], tuple[Any, str]]
"""Takes the JSON value (None when missing) and gives the cleaned value and what is wrong with it (empty: nothing)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIntent:
    """`POST /api/payments/intents`, valid."""

    amount: Decimal
    currency: str
    card_token: str
    description: str
    order_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRefund:
    """`POST /api/payments/intents/ID/refunds`, valid."""

    amount: Decimal
    reason: str


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises `Problem(malformed_body)` for anything else: other JSON, `NaN`, a byte order mark, bytes that are
    not UTF-8, nesting or numbers beyond what the parser takes, or nothing at all.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Problem(Code.MALFORMED_BODY) from None
    if not isinstance(value, dict):
        raise Problem(Code.MALFORMED_BODY)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def parse_intent(body: Mapping[str, Any]) -> NewIntent:
    """Read the body of a new intent, or raise `Problem(invalid)`."""
    return NewIntent(
        **_clean(
            body,
            amount=_amount,
            currency=_currency,
            card_token=_required_text(CARD_TOKEN_CHARACTERS),
            description=_optional_text(TEXT_CHARACTERS),
            order_id=_order_id,
        )
    )


def parse_refund(body: Mapping[str, Any]) -> NewRefund:
    """Read the body of a new refund, or raise `Problem(invalid)`."""
    return NewRefund(**_clean(body, amount=_amount, reason=_optional_text(TEXT_CHARACTERS)))


def parse_date(body: Mapping[str, Any]) -> str:
    """Read the day of a settlement, `YYYY-MM-DD`, or raise `Problem(invalid)`."""
    day: str = _clean(body, date=_date)["date"]
    return day


def parse_uuid(text: str) -> uuid.UUID:
    """An id in a path, in its canonical form; raises `Problem(not_found)`."""
    if not _UUID.fullmatch(text):
        raise Problem(Code.NOT_FOUND)
    return uuid.UUID(text)


def parse_page(query: Mapping[str, str]) -> tuple[int, Cursor | None]:
    """`limit` and `after` of a list, or raise `Problem(invalid)`."""
    limit_text, after_text = query.get("limit"), query.get("after")
    limit = DEFAULT_LIMIT if limit_text is None else int(limit_text) if _LIMIT.fullmatch(limit_text) else 0
    after = None if after_text is None else parse_cursor(after_text)
    errors: dict[str, list[str]] = {}
    if not 1 <= limit <= LARGEST_LIMIT:
        errors["limit"] = [NOT_A_LIMIT]
    if after_text is not None and after is None:
        errors["after"] = [NOT_A_CURSOR]
    if errors:
        raise Problem(Code.INVALID, errors=errors)
    return limit, after


def format_cursor(created_at: datetime, intent_id: uuid.UUID) -> str:
    """The cursor that goes on after that intent: base64url without padding of `CREATED_AT|ID`."""
    text = f"{format_time(created_at)}|{intent_id}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode("ascii")


def parse_cursor(text: str) -> Cursor | None:
    """What `format_cursor` made; None for anything else."""
    if not _CURSOR.fullmatch(text):
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        moment, _, intent_id = decoded.partition("|")
        if not _TIME.fullmatch(moment) or not _UUID.fullmatch(intent_id):
            return None
        found = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC), uuid.UUID(intent_id)
    except (ValueError, binascii.Error):
        return None
    return found if format_cursor(*found) == text else None


def _clean(body: Mapping[str, Any], **fields: Field) -> dict[str, Any]:
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, field in fields.items():
        values[name], wrong = field(body.get(name))
        if wrong:
            errors[name] = [wrong]
    if errors:
        raise Problem(Code.INVALID, errors=errors)
    return values


def _text(value: Any) -> tuple[str, str]:
    if value is None or value == "":
        return "", REQUIRED
    # A NUL or half of a surrogate pair can be written in JSON but not stored as text.
    if not isinstance(value, str) or _UNSTORABLE.search(value):
        return "", NOT_A_STRING
    return value, ""


def _required_text(longest: int) -> Field:
    def field(value: Any) -> tuple[str, str]:
        text, wrong = _text(value)
        return text, wrong or (f"Must have at most {longest} characters." if len(text) > longest else "")

    return field


def _optional_text(longest: int) -> Field:
    required = _required_text(longest)

    def field(value: Any) -> tuple[str, str]:
        return ("", "") if value is None or value == "" else required(value)

    return field


def _amount(value: Any) -> tuple[Decimal, str]:
    if value is None or value == "":
        return ZERO, REQUIRED
    amount = parse_amount(value) if isinstance(value, str) else None
    return (ZERO, NOT_AN_AMOUNT) if amount is None else (amount, "")


def _currency(value: Any) -> tuple[str, str]:
    text, wrong = _text(value)
    return text, wrong or ("" if text in CURRENCIES else NOT_A_CURRENCY)


def _order_id(value: Any) -> tuple[int | None, str]:
    if value is None:
        return None, ""
    if type(value) is not int or not 1 <= value <= _BIGINT_MAX:
        return None, NOT_AN_ORDER_ID
    return value, ""


def _date(value: Any) -> tuple[str, str]:
    text, wrong = _text(value)
    return text, wrong or ("" if _is_date(text) else NOT_A_DATE)


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        return date.fromisoformat(text) > date.min
    except ValueError:
        return False
