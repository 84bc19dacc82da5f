"""What a request's body may hold: from JSON to values of the field, or every wrong field at once.

Pure. The texts are those of docs/reference/http-api.md, word for word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from extracted.auth.problem import Code, Problem

REQUIRED = "This field is required."
NOT_A_STRING = "Must be a string."
NOT_AN_EMAIL = "Enter a valid email address."
PASSWORD_TOO_SHORT = "This password is too short. It must contain at least 10 characters."
PASSWORD_NUMERIC = "This password is entirely numeric."

EMAIL_CHARACTERS = 254
LOCAL_PART_CHARACTERS = 64
NAME_CHARACTERS = 150
PASSWORD_CHARACTERS = 10

_EMAIL = re.compile(rf"[^@\s]{{1,{LOCAL_PART_CHARACTERS}}}@[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Field = Callable[[Any], tuple[str, list[str]]]
"""Takes the JSON value (None when missing) and gives the cleaned value and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """`POST /api/auth/register`, valid."""

    email: str
    password: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`POST /api/auth/token`, well-formed; `email` is normalised, not necessarily an address."""

    email: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChange:
    """`POST /api/auth/password`, valid."""

    current_password: str
    new_password: str


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


def normalise_email(text: str) -> str:
    """The form in which addresses are stored and compared.

    >>> normalise_email(" Ada@Example.COM ")
    'ada@example.com'
    """
    return text.strip().lower()


def is_email(text: str) -> bool:
    """Whether a normalised address is one by the rule of the page.

    >>> is_email("ada@example.com"), is_email("ada@localhost"), is_email("a b@example.com")
    (True, False, False)
    """
    return len(text) <= EMAIL_CHARACTERS and _EMAIL.fullmatch(text) is not None


def parse_registration(body: Mapping[str, Any]) -> Registration:
    """Read the body of a registration, or raise `Problem(invalid)`."""
    return Registration(**_clean(body, email=_email, password=_new_password, name=_name))


def parse_credentials(body: Mapping[str, Any]) -> Credentials:
    """Read the body of a sign-in, or raise `Problem(invalid)`."""
    return Credentials(**_clean(body, email=_address, password=_text))


def parse_password_change(body: Mapping[str, Any]) -> PasswordChange:
    """Read the body of a password change, or raise `Problem(invalid)`."""
    return PasswordChange(**_clean(body, current_password=_text, new_password=_new_password))


def parse_refresh_token(body: Mapping[str, Any]) -> str:
    """Read the refresh token of a body, or raise `Problem(invalid)`."""
    return _clean(body, refresh_token=_text)["refresh_token"]


def parse_name(body: Mapping[str, Any]) -> str:
    """Read the name of a body, stripped, or raise `Problem(invalid)`."""
    return _clean(body, name=_name)["name"]


def _clean(body: Mapping[str, Any], **fields: Field) -> dict[str, str]:
    values: dict[str, str] = {}
    errors: dict[str, list[str]] = {}
    for name, field in fields.items():
        values[name], wrong = field(body.get(name))
        if wrong:
            errors[name] = wrong
    if errors:
        raise Problem(Code.INVALID, errors=errors)
    return values


def _text(value: Any) -> tuple[str, list[str]]:
    if value is None or value == "":
        return "", [REQUIRED]
    # A NUL or half of a surrogate pair can be written in JSON but not stored as text.
    if not isinstance(value, str) or _UNSTORABLE.search(value):
        return "", [NOT_A_STRING]
    return value, []


def _stripped(value: Any) -> tuple[str, list[str]]:
    text, wrong = _text(value)
    text = text.strip()
    return text, wrong or ([] if text else [REQUIRED])


def _address(value: Any) -> tuple[str, list[str]]:
    text, wrong = _stripped(value)
    return normalise_email(text), wrong


def _email(value: Any) -> tuple[str, list[str]]:
    address, wrong = _address(value)
    return address, wrong or ([] if is_email(address) else [NOT_AN_EMAIL])


def _name(value: Any) -> tuple[str, list[str]]:
    text, wrong = _stripped(value)
    if len(text) > NAME_CHARACTERS:
        wrong = [f"Must have at most {NAME_CHARACTERS} characters."]
    return text, wrong


def _new_password(value: Any) -> tuple[str, list[str]]:
    text, wrong = _text(value)
    if not wrong:
        if len(text) < PASSWORD_CHARACTERS:
            wrong.append(PASSWORD_TOO_SHORT)
        if text.isdigit():
            wrong.append(PASSWORD_NUMERIC)
    return text, wrong
