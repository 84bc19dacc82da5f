"""Asking a side once more: the same safe request, over the mirror's connections."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer, Pair
from strangler_proxy.core.route import Endpoint
from strangler_proxy.forward.mirror_targets import named_in_marks

if TYPE_CHECKING:
    from strangler_proxy.forward.mirror import Mirror
    from strangler_proxy.forward.mirror_connection import Reply

_FRAMING: Final = (b"transfer-encoding", b"content-length")


class Ask:
    """An errand of the mirror; `answer` is done exactly once, unless whoever waited for it has gone."""

    __slots__ = ("_mirror", "_pair", "answer", "head_only", "marked", "queued_at", "safe")

    def __init__(self, mirror: Mirror, pair: Pair, *, marked: bool, loop: asyncio.AbstractEventLoop) -> None:
        self._mirror = mirror
        self._pair = pair
        self.marked = marked
        self.safe = True
        self.head_only = pair.method == "HEAD"
        self.queued_at = monotonic()
        self.answer: asyncio.Future[Answer] = loop.create_future()

    def fits(self, endpoint: Endpoint) -> bool:
        """Safe requests go anywhere."""
        return True

    def write(self) -> list[bytes]:
        """The request as it went to the control; a body that had no length gets one."""
        pair = self._pair
        lines = [b"%b: %b\r\n" % (name, value) for name, value in pair.fields if name.lower() not in _FRAMING]
        if len(lines) < len(pair.fields):
            lines.append(b"Content-Length: %d\r\n" % len(pair.body))
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (pair.method.encode("ascii"), pair.target, b"".join(lines))
        if self.marked:
            head = self._mirror.marks.marked(head, self._mirror.marks.new_id(), named_in_marks(pair.flag))
        return [head, pair.body]

    def replied(self, reply: Reply) -> None:
        """It was sent, or could not be; this came of it."""
        if not self.answer.done():
            self.answer.set_result(reply.answer())

    def dropped(self, reason: str) -> None:
        """It was never sent: nobody knows what would have come of it."""
        if not self.answer.done():
            self.answer.set_result(Answer(failure=Failure.REFUSED))
