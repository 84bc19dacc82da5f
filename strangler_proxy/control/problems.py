"""Errors as problem+json (RFC 9457): status, a word for programs, the exit code, and the command that comes next."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

from strangler_proxy.core.errors import (
    BadWeight,
    DeclarationError,
    GateRefused,
    NotAcknowledged,
    RevisionMoved,
    StageSkipped,
    StoreUnavailable,
    StranglerError,
    UnknownName,
)

_STATUS: dict[type[StranglerError], tuple[int, str]] = {
    UnknownName: (404, "unknown_name"),
    BadWeight: (422, "bad_weight"),
    StageSkipped: (409, "stage_skipped"),
    GateRefused: (409, "gate_refused"),
    RevisionMoved: (412, "revision_moved"),
    DeclarationError: (422, "bad_declaration"),
    StoreUnavailable: (503, "store_unavailable"),
    NotAcknowledged: (504, "not_acknowledged"),
}


class CallRefused(StranglerError):
    """A call that is refused before its verb is reached."""

    def __init__(
        self, status: int, code: str, message: str, *, exit_code: int = 1, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.exit_code = exit_code
        self.headers = headers or {}


def problem(error: StranglerError) -> JSONResponse:
    """The answer to a call that failed."""
    if isinstance(error, CallRefused):
        status, code, headers = error.status, error.code, error.headers
    else:
        status, code = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "error"))
        headers = {"Retry-After": "2"} if status == 503 else {}
    document: dict[str, Any] = {
        "type": f"urn:strangler:problem:{code.replace('_', '-')}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": error.message,
        "exit_code": error.exit_code,
        "next_command": error.next_command,
    }
    if isinstance(error, DeclarationError):
        document["problems"] = list(error.problems)
    return JSONResponse(document, status_code=status, headers=headers, media_type="application/problem+json")


def bad_body(error: ValidationError) -> CallRefused:
    """All wrong fields of a body at once."""
    wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
    return CallRefused(400, "bad_body", wrong, exit_code=2)
