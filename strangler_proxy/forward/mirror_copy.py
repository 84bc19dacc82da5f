"""A request that may be mirrored: what is kept of it while it is answered, and how its copy is written.

The tap holds references to parts that went by, within the mirror's budget; as soon as something forbids mirroring it
lets go of all of them, and only the reason (`fate`) stays, to be counted when the request has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.headers import AnswerFields
from strangler_proxy.core.pair import Answer
from strangler_proxy.core.route import Endpoint
from strangler_proxy.core.shadow_wire import (
    RECORDED_HEADER,
    SHADOW_HEADER,
    TOO_LARGE,
    ShadowRole,
    digest_of,
    proven,
)
from strangler_proxy.forward import mirror_fields
from strangler_proxy.forward.mirror_bytes import whole
from strangler_proxy.forward.mirror_options import ANSWER_TOO_LARGE, BODY_TOO_LARGE, MEMORY_FULL, TOO_LONG

if TYPE_CHECKING:
    from strangler_proxy.forward.mirror import Mirror
    from strangler_proxy.forward.mirror_connection import Reply
    from strangler_proxy.forward.mirror_targets import Target

_CHUNKED: Final = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
"""How `guard` ends the head of a request whose body has no length."""
_STREAMS: Final = b"text/event-stream"
_OVERHEAD_BYTES: Final = 1_024
"""What a copy costs beside its bytes, about."""


class Copy:
    """Of one request; `fate` empty as long as it is to be mirrored. An errand of the mirror once its answer has ended.

    `sent_at` is when it went to the control (its body's last part, if it has one), `answer_bytes` the length of the
    answer's body, `skip` what stands before it in the first of its `parts`.
    """

    __slots__ = (
        "answer_bytes",
        "body",
        "body_bytes",
        "control_ms",
        "fate",
        "fields",
        "head",
        "head_only",
        "held",
        "id",
        "method",
        "mirror",
        "parts",
        "queued_at",
        "record_id",
        "recorded",
        "safe",
        "sent_at",
        "sent_target",
        "signed_in",
        "skip",
        "status",
        "target",
    )

    head: bytes
    sent_target: bytes
    status: int
    signed_in: bool
    queued_at: float
    """These are set when its answer has ended, whatever became of it."""

    def __init__(self, mirror: Mirror, target: Target, method: bytes, safe: bool, fate: str) -> None:
        self.mirror = mirror
        self.target = target
        self.method = method
        self.safe = safe
        self.fate = fate
        self.head_only = method == b"HEAD"
        self.body: list[bytes] | None = None
        self.parts: list[bytes] = []
        self.fields: AnswerFields | None = None
        self.id = self.record_id = ""
        self.recorded: Sequence[str] = ()
        self.answer_bytes = self.body_bytes = self.skip = self.held = 0
        self.sent_at = self.control_ms = 0.0

    def __repr__(self) -> str:
        return f"<Copy {self.method.decode('latin-1')} {self.fate or 'mirrored'} held={self.held}>"

    # While the control answers.

    def sending(self, head: bytes) -> bytes:
        """The head for the control: an unsafe request that is to be mirrored asks it to report its effects."""
        self.sent_at = monotonic()
        if self.safe or self.fate:
            return head
        mirror = self.mirror
        self.record_id = mirror.marks.new_id()
        value = mirror.marks.value(ShadowRole.RECORD, self.record_id, self.target.named)
        return b"%b%b: %b\r\n\r\n" % (head[:-2], SHADOW_HEADER.encode(), value.encode())

    def add_body(self, part: bytes) -> None:
        """A part of the request's body goes by."""
        if self.fate:
            return
        body = self.body
        if body is None:
            body = self.body = []
        size = len(part)
        self.body_bytes += size
        if self.body_bytes > self.mirror.options.body_bytes:
            self.give_up(BODY_TOO_LARGE)
        elif self._takes(size):
            body.append(part)

    def answered(self, status: int, fields: AnswerFields) -> Copy | None:
        """The head of the answer that the client gets; itself where the body is wanted too."""
        self.status = status
        self.fields = fields
        if self.fate or self.head_only:
            return None
        if fields.content_length > self.mirror.options.answer_bytes:
            self.give_up(ANSWER_TOO_LARGE)
            return None
        if fields.content_length < 0 and mirror_fields.compared(fields)[1].lower().startswith(_STREAMS):
            self.give_up(TOO_LONG)
            return None
        return self

    def tap(self, part: bytes, skip: int = 0) -> None:
        """A part of the answer's body goes by; `skip` bytes before it are not body (in the first part only)."""
        size = len(part)
        self.answer_bytes += size - skip
        if self.fate:
            return
        if self.answer_bytes > self.mirror.options.answer_bytes:
            self.give_up(ANSWER_TOO_LARGE)
        elif self.mirror.memory.take(size):
            self.held += size
            self.parts.append(part)
            if skip:
                self.skip = skip
        else:
            self.give_up(MEMORY_FULL)

    def check(self, now: float) -> None:
        """Look whether its answer takes too long to be worth comparing; the sweep calls this."""
        if not self.fate and self.sent_at and now - self.sent_at > self.mirror.options.answer_s:
            self.give_up(TOO_LONG)

    def give_up(self, reason: str) -> None:
        """It will not be mirrored: let go of what is held."""
        self.fate = reason
        self.let_go()

    def let_go(self) -> None:
        """Give the memory back."""
        if self.held:
            self.mirror.memory.release(self.held)
            self.held = 0
        self.parts = []
        self.body = None

    def _takes(self, size: int) -> bool:
        if not self.mirror.memory.take(size):
            self.give_up(MEMORY_FULL)
            return False
        self.held += size
        return True

    # When the control has answered.

    def hold_heads(self) -> bool:
        """Count what it holds beside bodies; False where there is no room."""
        size = len(self.head) + len(self.sent_target) + _OVERHEAD_BYTES
        if not self.mirror.memory.take(size):
            self.give_up(MEMORY_FULL)
            return False
        self.held += size
        return True

    def read_effects(self) -> None:
        """Keep the effects that the control reported, where it proved them."""
        fields = self.fields
        if not self.record_id or fields is None or not fields.shadow:
            return
        values, proof = mirror_fields.effects(fields), mirror_fields.proof(fields)
        if proven(
            self.mirror.marks.keys, id=self.record_id, role=ShadowRole.RECORD, effects_values=values, proof=proof
        ):
            self.recorded = values

    def control(self) -> Answer:
        """What the control answered."""
        assert self.fields is not None
        return Answer(
            status=self.status,
            fields=mirror_fields.raw_fields(self.fields),
            body=whole(self.parts, self.skip),
            body_bytes=self.answer_bytes,
            duration_ms=self.control_ms,
            effects=", ".join(self.recorded).encode("latin-1"),
            code_version=mirror_fields.code_version(self.fields),
        )

    # As an errand.

    def fits(self, endpoint: Endpoint) -> bool:
        """A write goes only where capturing is proved."""
        return self.safe or self.mirror.proofs.holds(self.target.flag, endpoint, monotonic())

    def write(self) -> list[bytes]:
        """The request as the control had it, with the mark; a body in one piece."""
        mirror = self.mirror
        id = self.id = mirror.marks.new_id()
        head, body = self.head, self.body
        chunked = head.endswith(_CHUNKED)
        if body is None and not self.recorded and not chunked:
            return [mirror.marks.marked(head, id, self.target.named)]
        sent = b"".join(body or ())
        recorded = () if self.recorded == [TOO_LARGE] else self.recorded
        value = mirror.marks.value(
            ShadowRole.MIRROR, self.id, self.target.named, body_sha256=digest_of(sent), recorded=recorded
        )
        lines = b"".join(b"%b: %b\r\n" % (RECORDED_HEADER.encode(), each.encode("latin-1")) for each in recorded)
        marked = b"%b%b%b: %b\r\n\r\n" % (head[:-2], lines, SHADOW_HEADER.encode(), value.encode())
        if chunked:
            chunk = (b"%x\r\n" % len(sent), sent, b"\r\n") if sent else ()
            return [marked, *chunk, b"0\r\n\r\n"]
        return [marked, sent]

    def replied(self, reply: Reply) -> None:
        """The candidate's answer is there, or will never be."""
        self.mirror.compared(self, reply)

    def dropped(self, reason: str) -> None:
        """It was never sent, or its answer is not waited for."""
        self.mirror.dropped(self, reason)
