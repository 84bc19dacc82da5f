"""The errors a client can meet: a closed table of codes, and the exception that carries one.

Codes, titles and details are those of docs/reference/http-api.md, word for word. The last three are not
in that page: they answer for the service's own state, not for what the client asked.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FieldErrors = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is fixed for one code: HTTP status, title, headers, and the detail with its blanks."""

    status: int
    title: str
    detail: str
    headers: Mapping[str, str]


def _kind(status: int, title: str, detail: str, **headers: str) -> Kind:
    return Kind(
        status=status,
        title=title,
        detail=detail,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


class Code(enum.Enum):
    """Every problem code of the service."""

    NOT_AUTHENTICATED = "not_authenticated"
    INVALID_TOKEN = "invalid_token"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MALFORMED_BODY = "malformed_body"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID = "invalid"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IN_PROGRESS = "in_progress"
    NOT_CAPTURABLE = "not_capturable"
    CARD_DECLINED = "card_declined"
    NOT_REFUNDABLE = "not_refundable"
    REFUND_TOO_LARGE = "refund_too_large"
    PROCESSOR_UNAVAILABLE = "processor_unavailable"
    BAD_SIGNATURE = "bad_signature"
    BODY_TOO_LARGE = "body_too_large"
    UNAVAILABLE = "unavailable"
    INTERNAL_ERROR = "internal_error"


KINDS: Mapping[Code, Kind] = {
    Code.NOT_AUTHENTICATED: _kind(401, "Not authenticated", "Send an access token.", WWW_Authenticate="Bearer"),
    Code.INVALID_TOKEN: _kind(
        401, "Invalid token", "The access token is not valid or has expired.", WWW_Authenticate="Bearer"
    ),
    Code.FORBIDDEN: _kind(403, "Forbidden", "This token may not do that."),
    Code.NOT_FOUND: _kind(404, "Not found", "There is nothing here."),
    Code.METHOD_NOT_ALLOWED: _kind(405, "Method not allowed", "This path does not take {method}."),
    Code.MALFORMED_BODY: _kind(400, "Malformed body", "The body is not a JSON object."),
    Code.UNSUPPORTED_MEDIA_TYPE: _kind(415, "Unsupported media type", "Send application/json."),
    Code.INVALID: _kind(400, "Invalid", "Some fields are not valid."),
    Code.IDEMPOTENCY_KEY_MISSING: _kind(
        400, "Idempotency-Key missing", "Send an Idempotency-Key of 1 to 255 printable ASCII characters."
    ),
    Code.IDEMPOTENCY_KEY_REUSED: _kind(
        422, "Idempotency-Key reused", "This Idempotency-Key was used with another request."
    ),
    Code.IN_PROGRESS: _kind(
        409, "In progress", "A request with this Idempotency-Key is being processed.", Retry_After="1"
    ),
    Code.NOT_CAPTURABLE: _kind(409, "Not capturable", "A payment that is {status} cannot be captured."),
    Code.CARD_DECLINED: _kind(402, "Card declined", "The card was declined."),
    Code.NOT_REFUNDABLE: _kind(409, "Not refundable", "A payment that is {status} cannot be refunded."),
    Code.REFUND_TOO_LARGE: _kind(422, "Refund too large", "At most {amount} {currency} can be refunded."),
    Code.PROCESSOR_UNAVAILABLE: _kind(
        503,
        "Card processor unavailable",
        "The card processor did not answer. Try again with the same Idempotency-Key.",
        Retry_After="2",
    ),
    Code.BAD_SIGNATURE: _kind(400, "Bad signature", "The signature does not match."),
    Code.BODY_TOO_LARGE: _kind(413, "Body too large", "The body is too large."),
    Code.UNAVAILABLE: _kind(503, "Unavailable", "The service cannot reach its database. Try again.", Retry_After="1"),
    Code.INTERNAL_ERROR: _kind(500, "Internal error", "The service failed."),
}


class Problem(Exception):
    """A request that is answered with a problem document instead of what it asked for.

    `errors` belongs to `invalid` alone: field -> texts, all wrong fields at once. `words` fill the detail's
    blanks.
    """

    def __init__(
        self,
        code: Code,
        *,
        errors: FieldErrors | None = None,
        headers: Mapping[str, str] | None = None,
        **words: str,
    ) -> None:
        super().__init__(code.value)
        self.code = code
        self.kind = KINDS[code]
        self.detail = self.kind.detail.format(**words)
        self.errors = errors
        self.headers: dict[str, str] = {**self.kind.headers, **(headers or {})}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    def document(self) -> dict[str, Any]:
        """The body, before it is JSON.

        >>> Problem(Code.NOT_CAPTURABLE, status="declined").document()["detail"]
        'A payment that is declined cannot be captured.'
        """
        document: dict[str, Any] = {
            "type": f"urn:shop:problem:{self.code.value}",
            "title": self.kind.title,
            "status": self.kind.status,
            "code": self.code.value,
            "detail": self.detail,
        }
        if self.errors is not None:
            document["errors"] = {field: list(texts) for field, texts in self.errors.items()}
        return document
