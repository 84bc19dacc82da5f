"""Rules about e-mail addresses, names, passwords and attempts. Pure; the words are http-api.md's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monolith.config.body import REQUIRED, check, required_text, too_long
from monolith.config.problem import FieldErrors

BAD_EMAIL = "Enter a valid email address."
SHORT_PASSWORD = "This password is too short. It must contain at least 10 characters."
NUMERIC_PASSWORD = "This password is entirely numeric."
EMAIL_CHARACTERS = 254
NAME_CHARACTERS = 150
PASSWORD_CHARACTERS = 10

FAILURES = 5
WINDOW = timedelta(seconds=300)

_EMAIL = re.compile(r"[^@\s]{1,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A valid registration; `email` is normalised."""

    email: str
    password: str
    name: str


def normalise_email(text: str) -> str:
    """The form in which addresses are stored and compared.

    >>> normalise_email(" Ada@Example.COM ")
    'ada@example.com'
    """
    return text.strip().lower()


def is_email(text: str) -> bool:
    """Whether a normalised address is valid: the shop's own rule, the same on both sides.

    >>> is_email("ada@example.com"), is_email("ada@localhost")
    (True, False)
    """
    return len(text) <= EMAIL_CHARACTERS and _EMAIL.fullmatch(text) is not None


def password_problems(password: str) -> list[str]:
    """What is wrong with a new password; empty when nothing is."""
    problems = []
    if len(password) < PASSWORD_CHARACTERS:
        problems.append(SHORT_PASSWORD)
    if password.isdigit():
        problems.append(NUMERIC_PASSWORD)
    return problems


def parse_registration(body: dict[str, Any]) -> Registration:
    """Read a registration; raises `Problem` `invalid` with every wrong field."""
    errors: FieldErrors = {}
    email = normalise_email(_stripped(body, "email", errors))
    if "email" not in errors and not is_email(email):
        errors["email"] = [BAD_EMAIL]
    password = new_password(body, "password", errors)
    name = parse_name(body, errors)
    check(errors)
    return Registration(email=email, password=password, name=name)


def parse_credentials(body: dict[str, Any]) -> tuple[str, str]:
    """Read an e-mail address and a password; neither needs to be valid, both must be there."""
    errors: FieldErrors = {}
    email = normalise_email(_stripped(body, "email", errors))
    password = required_text(body, "password", errors)
    check(errors)
    return email, password


def new_password(body: dict[str, Any], field: str, errors: FieldErrors) -> str:
    """Read a new password; problems go into `errors`."""
    password = required_text(body, field, errors)
    if field not in errors and (problems := password_problems(password)):
        errors[field] = problems
    return password


def parse_name(body: dict[str, Any], errors: FieldErrors) -> str:
    """Read a name, stripped; problems go into `errors`."""
    name = _stripped(body, "name", errors)
    if len(name) > NAME_CHARACTERS:
        errors["name"] = [too_long(NAME_CHARACTERS)]
    return name


def retry_after_s(failures: Sequence[datetime], now: datetime) -> int | None:
    """Seconds to wait when the failures inside the window are too many, else None. At least 1."""
    recent = sorted(moment for moment in failures if moment > now - WINDOW)
    if len(recent) < FAILURES:
        return None
    left = recent[-FAILURES] + WINDOW - now
    return max(1, -(-left // timedelta(seconds=1)))


def _stripped(body: dict[str, Any], field: str, errors: FieldErrors) -> str:
    text = required_text(body, field, errors).strip()
    if not text and field not in errors:
        errors[field] = [REQUIRED]
    return text
