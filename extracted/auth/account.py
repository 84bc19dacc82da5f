"""An account, as it is stored and as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A row of `account`. `password_hash` is in Django's encoded format and never shown, not even in a repr."""

    id: int
    email: str
    password_hash: str = field(repr=False)
    name: str
    is_active: bool
    created_at: datetime


def user_document(account: Account) -> dict[str, Any]:
    """The `User` of docs/reference/http-api.md."""
    return {
        "id": account.id,
        "email": account.email,
        "name": account.name,
        "created_at": format_time(account.created_at),
    }


def format_time(moment: datetime) -> str:
    """UTC, microseconds, `Z`. `moment` is aware.

    >>> format_time(datetime(2026, 11, 22, 12, tzinfo=UTC))
    '2026-11-22T12:00:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
