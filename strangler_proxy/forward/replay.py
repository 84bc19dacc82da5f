"""What happens when a request meets the fence: learn who the owner is, and send it there; never tell the client.

A fenced answer says that the database refused the write. With `replay=safe` nothing was committed, with `resume` an
effect may have happened and the owner goes on from the recorded state; either way the request is sent once more,
once an epoch. Where both sides are fenced (a cutover is between its fence and its opening), it waits with back-off and
tries the sides in turn: the fence makes a try at the wrong one harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strangler_proxy.core.epoch import Ownership, learn
from strangler_proxy.core.fence import FENCE_STATUS, FenceAnswer, Replay
from strangler_proxy.forward.errors import FENCED
from strangler_proxy.forward.metrics import FENCED as FENCED_TOTAL
from strangler_proxy.forward.waiting import back_off

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.state import ProxyState


class KeptBody:
    """A request's body, kept until the answer's head, so that it can be sent once more. Bounded, alone and together."""

    __slots__ = ("limit", "parts", "size", "state")

    def __init__(self, state: ProxyState, limit: int) -> None:
        self.state = state
        self.limit = limit
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> bool:
        """Keep a part; False where a bound would be passed (nothing is kept then, drop it)."""
        size = len(part)
        if self.size + size > self.limit or self.state.kept_bytes + size > self.state.options.replay_total_bytes:
            return False
        self.parts.append(part)
        self.size += size
        self.state.kept_bytes += size
        return True

    def drop(self) -> None:
        """Give the memory back."""
        self.state.kept_bytes -= self.size
        self.size = 0
        self.parts = []


def head_to_send(exchange: Exchange) -> bytes:
    """The head with what this attempt adds: that it is a replay, and what the mirror asks of a write."""
    head = exchange.head
    if exchange.replay is not None:
        head = b"%bX-Strangler-Replay: %b\r\n\r\n" % (head[:-2], exchange.replay.value.encode())
    return head if exchange.copy is None else exchange.copy.sending(head)


def read_fence(status: int, value: bytes) -> FenceAnswer | None:
    """The fence that an answer met, None for every other answer."""
    if status != FENCE_STATUS or not value:
        return None
    return FenceAnswer.parse(value.decode("latin-1"))


def meet_fence(exchange: Exchange, fence: FenceAnswer) -> None:
    """Act on a fenced answer. The upstream connection is detached already; nothing was sent to the client."""
    state, metrics = exchange.context.state, exchange.context.metrics
    told = state.table.flags.get(fence.flag)
    if told is not None:
        known = Ownership(owner=told.owner, epoch=told.owner_epoch)
        state.learned(fence.flag, learn(known, exchange.served_by, fence))
    flag = exchange.runtime.flag
    if flag is None or flag.key != fence.flag or not flag.owns_data:
        metrics.count(FENCED_TOTAL, flag=fence.flag, outcome="outside")
        exchange.refuse(FENCED, detail="A write outside of the moved part met data that has moved. Try again.")
    elif fence.replay is Replay.NO or not exchange.can_resend():
        metrics.count(FENCED_TOTAL, flag=fence.flag, outcome="refused")
        exchange.refuse(FENCED)
    else:
        _resend(exchange, fence)


def _resend(exchange: Exchange, fence: FenceAnswer) -> None:
    state, metrics = exchange.context.state, exchange.context.metrics
    if exchange.replay is not Replay.RESUME:
        exchange.replay = fence.replay
    answered_by = exchange.served_by
    flag = state.table.flags.get(fence.flag)
    if flag is not None and flag.owner is not answered_by and flag.owner_epoch > exchange.replayed_epoch:
        exchange.replayed_epoch = flag.owner_epoch
        exchange.forced = flag.owner
        metrics.count(FENCED_TOTAL, flag=fence.flag, outcome="replayed")
        exchange.proceed()
    else:
        exchange.forced = answered_by.other
        metrics.count(FENCED_TOTAL, flag=fence.flag, outcome="waited")
        back_off(exchange)
