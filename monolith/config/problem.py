"""Errors of the JSON API as values: code, status, words, and how they are written (RFC 9457).

The words are those of docs/reference/http-api.md; a test compares the table with that page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

PROBLEM_JSON = "application/problem+json"
JSON = "application/json"

FieldErrors = dict[str, list[str]]

KINDS: Mapping[str, tuple[int, str, str]] = MappingProxyType(
    {
        "not_authenticated": (401, "Not authenticated", "Send an access token."),
        "invalid_token": (401, "Invalid token", "The access token is not valid or has expired."),
        "forbidden": (403, "Forbidden", "This token may not do that."),
        "not_found": (404, "Not found", "There is nothing here."),
        "method_not_allowed": (405, "Method not allowed", "This path does not take {method}."),
        "malformed_body": (400, "Malformed body", "The body is not a JSON object."),
        "unsupported_media_type": (415, "Unsupported media type", "Send application/json."),
        "invalid": (400, "Invalid", "Some fields are not valid."),
        "email_taken": (409, "E-mail address taken", "An account with this e-mail address exists."),
        "invalid_credentials": (401, "Invalid credentials", "E-mail address or password is wrong."),
        "too_many_attempts": (429, "Too many attempts", "Too many failed attempts. Try again later."),
        "invalid_refresh_token": (401, "Invalid refresh token", "The refresh token is not valid or has expired."),
        "idempotency_key_missing": (
            400,
            "Idempotency-Key missing",
            "Send an Idempotency-Key of 1 to 255 printable ASCII characters.",
        ),
        "idempotency_key_reused": (
            422,
            "Idempotency-Key reused",
            "This Idempotency-Key was used with another request.",
        ),
        "in_progress": (409, "In progress", "A request with this Idempotency-Key is being processed."),
        "not_capturable": (409, "Not capturable", "A payment that is {status} cannot be captured."),
        "card_declined": (402, "Card declined", "The card was declined."),
        "not_refundable": (409, "Not refundable", "A payment that is {status} cannot be refunded."),
        "refund_too_large": (422, "Refund too large", "At most {amount} {currency} can be refunded."),
        "processor_unavailable": (
            503,
            "Card processor unavailable",
            "The card processor did not answer. Try again with the same Idempotency-Key.",
        ),
        "bad_signature": (400, "Bad signature", "The signature does not match."),
        "body_too_large": (413, "Body too large", "The body is too large."),
        # The shop's own, on routes that do not move:
        "server_error": (500, "Server error", "Something went wrong on our side."),
        "csrf_failed": (403, "CSRF check failed", "Send the CSRF token of this session."),
        "bad_request": (400, "Bad request", "The request cannot be understood."),
        "empty_cart": (409, "Empty cart", "There is nothing to order."),
        "out_of_stock": (409, "Out of stock", "There is not enough of {product}."),
        "not_payable": (409, "Not payable", "An order that is {status} cannot be paid."),
        "other_card": (409, "Another card", "This order is already being paid with another card."),
        "order_not_refundable": (409, "Not refundable", "An order that is {status} cannot be refunded."),
        "service_unavailable": (503, "Service unavailable", "A part of the shop did not answer. Try again."),
    }
)

RETRY_AFTER_S: Mapping[str, int] = MappingProxyType(
    {"in_progress": 1, "processor_unavailable": 2, "service_unavailable": 2}
)
_CHALLENGED = frozenset({"not_authenticated", "invalid_token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A finished HTTP answer: status, exact body text, extra headers."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        """Errors are problem+json, the rest plain JSON."""
        return PROBLEM_JSON if self.status >= 400 else JSON


class Problem(Exception):
    """An error answer of the JSON API.

    `code` is one of `KINDS`; `words` fill the detail's blanks, or `detail` replaces it; `errors` is for `invalid` only.

    >>> Problem("not_capturable", status_word="declined").answer().status
    409
    """

    def __init__(
        self,
        code: str,
        *,
        errors: FieldErrors | None = None,
        headers: Mapping[str, str] | None = None,
        status_word: str = "",
        detail: str = "",
        **words: str,
    ) -> None:
        self.code = code
        self.status, self.title, template = KINDS[code]
        self.detail = detail or (template.format(status=status_word, **words) if "{" in template else template)
        self.errors = errors
        self.headers = dict(headers or {})
        if code in RETRY_AFTER_S:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S[code]))
        if code in _CHALLENGED:
            self.headers["WWW-Authenticate"] = "Bearer"
        super().__init__(f"{self.status} {code}: {self.detail}")

    def body(self) -> dict[str, Any]:
        """The problem+json object."""
        body: dict[str, Any] = {
            "type": f"urn:shop:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.errors is not None:
            body["errors"] = self.errors
        return body

    def answer(self) -> Answer:
        """The whole answer, ready to send or to store."""
        return Answer(status=self.status, text=encode(self.body()), headers=self.headers)


def refusal(answer: Answer) -> Problem:
    """The `Problem` that an error answer of another side is, words kept; `service_unavailable` for an unknown one."""
    try:
        body = json.loads(answer.text)
        code = body["code"]
        if KINDS[code][0] != answer.status:
            raise ValueError(code)
        problem = Problem(code, errors=body.get("errors"), headers=answer.headers, detail=str(body["detail"]))
    except (ValueError, KeyError, TypeError):
        return Problem("service_unavailable")
    return problem


def encode(value: Any) -> str:
    """JSON as it is sent and stored: compact, not ASCII-escaped, no NaN."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
