"""The errors a client can meet: a closed table of codes, and the exception that carries one.

Codes, titles and details are those of docs/reference/http-api.md, word for word. The last five are not
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
    """What is fixed for one code: HTTP status, title, and the detail unless the case gives its own."""

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
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MALFORMED_BODY = "malformed_body"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID = "invalid"
    EMAIL_TAKEN = "email_taken"
    INVALID_CREDENTIALS = "invalid_credentials"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    INVALID_REFRESH_TOKEN = "invalid_refresh_token"
    BODY_TOO_LARGE = "body_too_large"
    BUSY = "busy"
    NOT_YET_REPLICATED = "not_yet_replicated"
    UNAVAILABLE = "unavailable"
    INTERNAL_ERROR = "internal_error"


KINDS: Mapping[Code, Kind] = {
    Code.NOT_AUTHENTICATED: _kind(401, "Not authenticated", "Send an access token.", WWW_Authenticate="Bearer"),
    Code.INVALID_TOKEN: _kind(
        401, "Invalid token", "The access token is not valid or has expired.", WWW_Authenticate="Bearer"
    ),
    Code.NOT_FOUND: _kind(404, "Not found", "There is nothing here."),
    Code.METHOD_NOT_ALLOWED: _kind(405, "Method not allowed", "This path does not take this method."),
    Code.MALFORMED_BODY: _kind(400, "Malformed body", "The body is not a JSON object."),
    Code.UNSUPPORTED_MEDIA_TYPE: _kind(415, "Unsupported media type", "Send application/json."),
    Code.INVALID: _kind(400, "Invalid", "Some fields are not valid."),
    Code.EMAIL_TAKEN: _kind(409, "E-mail address taken", "An account with this e-mail address exists."),
    Code.INVALID_CREDENTIALS: _kind(401, "Invalid credentials", "E-mail address or password is wrong."),
    Code.TOO_MANY_ATTEMPTS: _kind(429, "Too many attempts", "Too many failed attempts. Try again later."),
    Code.INVALID_REFRESH_TOKEN: _kind(401, "Invalid refresh token", "The refresh token is not valid or has expired."),
    Code.BODY_TOO_LARGE: _kind(413, "Body too large", "The body is too large."),
    Code.BUSY: _kind(503, "Busy", "Too many sign-ins at once. Try again.", Retry_After="1"),
    Code.NOT_YET_REPLICATED: _kind(503, "Not yet replicated", "The account has not arrived here yet.", Retry_After="1"),
    Code.UNAVAILABLE: _kind(503, "Unavailable", "The service cannot reach its database. Try again.", Retry_After="1"),
    Code.INTERNAL_ERROR: _kind(500, "Internal error", "The service failed."),
}
"""The table. A `Retry-After` of `too_many_attempts` depends on the case and is given by the raiser."""


class Problem(Exception):
    """A request that is answered with a problem document instead of what it asked for.

    `errors` belongs to `invalid` alone: field -> texts, all wrong fields at once.
    """

    def __init__(
        self,
        code: Code,
        *,
        detail: str | None = None,
        errors: FieldErrors | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code.value)
        self.code = code
        self.kind = KINDS[code]
        self.detail = self.kind.detail if detail is None else detail
        self.errors = errors
        self.headers: dict[str, str] = {**self.kind.headers, **(headers or {})}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    def document(self) -> dict[str, Any]:
        """The body, before it is JSON.

        >>> Problem(Code.NOT_FOUND).document()["type"]
        'urn:shop:problem:not_found'
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
