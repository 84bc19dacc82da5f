"""Requests that are counted and not compared: what is told of them, and the ones that the sample left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strangler_proxy.core.headers import AnswerFields
from strangler_proxy.core.pair import NOT_SAMPLED, Seen
from strangler_proxy.forward import mirror_fields

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.mirror import Mirror
    from strangler_proxy.forward.mirror_targets import Target

_METHODS: Final = {method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_new_seen: Final = tuple.__new__
"""`Seen(...)` in half the time: one is made for each request."""


class Skipped:
    """A request that is not in the sample: it costs next to nothing, and is counted when it has ended."""

    __slots__ = ("fields", "mirror", "sent_at", "target")

    def __init__(self, mirror: Mirror, target: Target) -> None:
        self.mirror = mirror
        self.target = target
        self.fields: AnswerFields | None = None
        self.sent_at = 0.0

    def __repr__(self) -> str:
        return f"<Skipped {self.target.route}>"

    def sending(self, head: bytes) -> bytes:
        """The head for the control, as it is."""
        return head

    def add_body(self, part: bytes) -> None:
        """Nothing is kept."""

    def check(self, now: float) -> None:
        """It has no deadline."""

    def answered(self, status: int, fields: AnswerFields) -> None:
        """The head of the answer, for its content type; the body is not wanted."""
        self.fields = fields

    def seen(self, exchange: Exchange) -> Seen:
        """What the sink is told of it."""
        return seen(
            self.target,
            exchange.method,
            exchange.sent_target,
            signed_in_of(exchange),
            exchange.status,
            self.fields,
            NOT_SAMPLED,
        )


def signed_in_of(exchange: Exchange) -> bool:
    """Does a request carry Authorization or a session cookie?"""
    known = exchange.fields.signed_in
    return mirror_fields.signed_in(exchange.fields) if known is None else known


def seen(
    target: Target,
    method: bytes,
    path: bytes,
    signed_in: bool,
    status: int,
    fields: AnswerFields | None,
    fate: str,
    control_ms: float = 0.0,
    candidate_ms: float = 0.0,
) -> Seen:
    """A request as the sink counts it. Times in milliseconds, where they were taken."""
    return _new_seen(
        Seen,
        (
            target.flag,
            target.route,
            _METHODS.get(method) or method.decode("ascii", "replace"),
            path.partition(b"?")[0] if b"?" in path else path,
            signed_in,
            status,
            b"" if fields is None else (fields.compared or mirror_fields.compared(fields))[1],
            fate,
            control_ms,
            candidate_ms,
        ),
    )
