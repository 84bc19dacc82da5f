"""Reading a JSON request body: pure, strict, one place."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from monolith.config.problem import FieldErrors, Problem

REQUIRED = "This field is required."
NOT_A_STRING = "Must be a string."

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Can be written in JSON, but not stored as text."""


def parse_object(raw: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object in `raw`.

    Raises `Problem`: `unsupported_media_type` where a body has another content type, `malformed_body` where
    it is not UTF-8 JSON with an object at the top.

    >>> parse_object(b'{"a": 1}', "application/json; charset=utf-8")
    {'a': 1}
    """
    if raw and content_type.split(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed_body") from error
    if not isinstance(value, dict):
        raise Problem("malformed_body")
    return value


def required_text(body: dict[str, Any], name: str, errors: FieldErrors, *, longest: int | None = None) -> str:
    """The non-empty string `name` of `body`; what is wrong goes into `errors` and `""` comes back."""
    value = body.get(name)
    if value is None or value == "":
        errors[name] = [REQUIRED]
    elif not isinstance(value, str) or _UNSTORABLE.search(value):
        errors[name] = [NOT_A_STRING]
    elif longest is not None and len(value) > longest:
        errors[name] = [too_long(longest)]
    else:
        return value
    return ""


def optional_text(body: dict[str, Any], name: str, errors: FieldErrors, *, longest: int) -> str:
    """The string `name` of `body`, `""` where it is missing or null."""
    if body.get(name) in (None, ""):
        return ""
    return required_text(body, name, errors, longest=longest)


def too_long(longest: int) -> str:
    """The words for a text with more than `longest` characters."""
    return f"Must have at most {longest} characters."


def check(errors: FieldErrors) -> None:
    """Raise `invalid` with all of `errors`, if there are any."""
    if errors:
        raise Problem("invalid", errors=errors)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
