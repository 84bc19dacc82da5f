"""Observations: one side's answer to one request, frozen, as it arrived.

An observation keeps every field of the answer (bounded); what is compared is chosen later, when two are judged, so that
a rule may still ask for a field that is left out by default.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from strangler_proxy.core.stage import Origin

FIELDS_KEPT = 200
FIELD_CHARS = 16_384


class Failure(enum.Enum):
    """Why a side gave no answer that can be compared."""

    REFUSED = "refused"  # no connection
    TIMEOUT = "timeout"  # its deadline passed
    RESET = "reset"  # it closed before the answer was whole
    GARBAGE = "garbage"  # what it sent is no HTTP
    TOO_LARGE = "too_large"  # it sent more than a body may have
    UNPROVEN = "unproven"  # it gave no proof, or a forged one, that effects were captured


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something a request did beside answering: a row written, a mail, a task, a message, an outgoing call.

    `kind` is a short word (`row`, `mail`, `task`, `message`, `call`, `cache`); `detail` is a JSON value as
    `document.read_json` gives it.
    """

    kind: str
    detail: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One side's answer.

    `fields` in the order of arrival, names in lower case. `body` are the bytes as sent (still content-coded), cut to
    what was kept; `body_bytes` and `body_digest` (SHA-256, hex) are of the whole body, the digest empty where the rest
    was not read. `effects` is None where nothing captured them. `duration_ms` until the last byte.
    """

    origin: Origin
    status: int = 0
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    body_bytes: int = 0
    body_digest: str = ""
    truncated: bool = False
    duration_ms: float = 0.0
    effects: tuple[Effect, ...] | None = None
    code_version: str = ""
    failure: Failure | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    def values(self, name: str) -> list[str]:
        """All values of a field, by its name in lower case, in the order of arrival."""
        return [value for key, value in self.fields if key == name]

    def first(self, name: str) -> str:
        """The first value of a field, empty if there is none."""
        return next((value for key, value in self.fields if key == name), "")

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case.

        >>> answered(origin=Origin.MONOLITH, status=200, fields=[(b"Content-Type", b"Text/HTML; charset=x")],
        ...          body=b"").content_type
        'text/html'
        """
        return self.first("content-type").partition(";")[0].strip().lower()

    @property
    def status_class(self) -> str:
        """`2xx` and the like; `error` where there is no status."""
        return status_class(self.status)


def status_class(status: int) -> str:
    """`2xx` and the like; `error` for what is no status.

    >>> status_class(404), status_class(0)
    ('4xx', 'error')
    """
    return f"{status // 100}xx" if 100 <= status <= 599 else "error"


def answered(
    *,
    origin: Origin,
    status: int,
    fields: Iterable[tuple[bytes, bytes]],
    body: bytes,
    body_bytes: int | None = None,
    truncated: bool = False,
    duration_ms: float = 0.0,
    effects: tuple[Effect, ...] | None = None,
    code_version: str = "",
) -> Observation:
    """An observation of an answer that arrived; of a body that was cut off no digest is known."""
    kept: list[tuple[str, str]] = []
    notes: tuple[str, ...] = ()
    for name, value in fields:
        if len(kept) == FIELDS_KEPT:
            notes = (f"only the first {FIELDS_KEPT} fields are kept",)
            break
        kept.append((name.decode("latin-1").lower(), value.decode("latin-1")[:FIELD_CHARS].strip()))
    return Observation(
        origin=origin,
        status=status,
        fields=tuple(kept),
        body=body,
        body_bytes=len(body) if body_bytes is None else body_bytes,
        body_digest="" if truncated else hashlib.sha256(body).hexdigest(),
        truncated=truncated,
        duration_ms=duration_ms,
        effects=effects,
        code_version=code_version,
        notes=notes,
    )


def failed(*, origin: Origin, failure: Failure, duration_ms: float = 0.0, code_version: str = "") -> Observation:
    """An observation of a side that gave no answer."""
    return Observation(origin=origin, failure=failure, duration_ms=duration_ms, code_version=code_version)
