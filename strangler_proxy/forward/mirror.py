"""The mirror: after the authoritative answer a copy goes to the other side, and both answers to whoever compares them.

Never in the way: what is kept of a request are references to what goes by, within a budget of bytes; a copy is queued
after the answer's last byte, and sent on connections of the mirror's own. When anything is full or broken the copy is
dropped and counted. Every request that could have been mirrored is told to the sink exactly once: as equal, as a pair,
as not sampled, or as dropped with a reason.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from strangler_proxy.core.bucketing import BUCKETS
from strangler_proxy.core.decision import Decision, is_safe
from strangler_proxy.core.fence import Replay
from strangler_proxy.core.headers import AnswerFields
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import EQUAL, NOT_SAMPLED, Answer, Pair, PairSink, Seen, Side
from strangler_proxy.core.shadow_wire import ShadowRole, proven
from strangler_proxy.core.stage import Origin
from strangler_proxy.forward import mirror_fields
from strangler_proxy.forward.mirror_ask import Ask
from strangler_proxy.forward.mirror_bytes import are_same
from strangler_proxy.forward.mirror_connection import Reply
from strangler_proxy.forward.mirror_copy import Copy
from strangler_proxy.forward.mirror_mark import Marks
from strangler_proxy.forward.mirror_memory import Memory
from strangler_proxy.forward.mirror_metrics import PAIRED
from strangler_proxy.forward.mirror_options import (
    BODY_TOO_LARGE,
    CANDIDATE_DOWN,
    CLIENT_LEFT,
    EARLY_ANSWER,
    KILLED,
    NO_ANSWER,
    QUEUE_FULL,
    REPLAYED,
    STAGE_CHANGED,
    TOO_LONG,
    UPGRADE,
    MirrorOptions,
)
from strangler_proxy.forward.mirror_proof import Proofs
from strangler_proxy.forward.mirror_seen import Skipped, seen, signed_in_of
from strangler_proxy.forward.mirror_targets import Targets

if TYPE_CHECKING:
    from strangler_proxy.forward.exchange import Exchange
    from strangler_proxy.forward.state import ProxyState

_LEFT: Final = 499
_TELL_AGAIN_S: Final = 10.0

log = structlog.get_logger("strangler_proxy.forward")


class Mirror:
    """Of one engine. It mirrors as soon as `sink` is set. Implements `core.pair.Asker`.

    `tally` counts by (flag, fate), a pair as `pair`; `asks` by side; `faults` are the mirror's own.
    """

    def __init__(self, state: ProxyState, options: MirrorOptions, sink: PairSink | None = None) -> None:
        self.options = options
        self.sink = sink
        self.marks = Marks(options.secret)
        self.memory = Memory(options.memory_bytes)
        self.targets = Targets(state, options, self.memory)
        self.proofs = Proofs()
        self.tally: dict[tuple[str, str], int] = {}
        self.asks: dict[Side, int] = {}
        self.faults = 0
        self._most_ms = options.deadline_s * 1e3
        self._told: dict[tuple[str, Origin], str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = self._scheduled = False
        self._told_fault_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Mirror queued={self.queued} under_way={self.under_way} held={self.memory.held}>"

    @property
    def queued(self) -> int:
        """Copies that wait."""
        return self.memory.waiting

    @property
    def under_way(self) -> int:
        """Copies that were sent and not answered yet."""
        return self.targets.under_way

    # While a request is answered.

    def consider(self, exchange: Exchange, decision: Decision) -> None:
        """Say whether a request is to be mirrored, and begin to keep what that takes. Called before it is sent."""
        if exchange.copy is not None or self.sink is None:
            return
        try:
            target = exchange.runtime.targets.get(id(decision))
            if (
                target is not None
                and target.sample >= BUCKETS
                and target.cluster.breaker.closed
                and exchange.safe
                and not (exchange.has_body or exchange.tunnel or exchange.runtime.killed)
            ):
                exchange.copy = Copy(self, target, exchange.method, True, "")
            else:
                exchange.copy = self._considered(exchange, decision)
        except Exception:  # noqa: BLE001 -- whatever goes wrong here is nothing to the request
            self._fault("consider")

    def _considered(self, exchange: Exchange, decision: Decision) -> Copy | Skipped | None:
        target = self.targets.find(exchange.runtime, decision)
        if target is None:
            return None
        safe = exchange.safe
        fate = ""
        if exchange.tunnel:
            fate = UPGRADE
        elif exchange.runtime.killed:
            fate = KILLED
        elif target.sample < BUCKETS and not self.targets.has_sampled(exchange, target):
            return Skipped(self, target)
        elif not target.cluster.breaker.closed and target.cluster.breaker.wait_s(monotonic()):
            fate = CANDIDATE_DOWN
        elif not safe:
            fate = self.proofs.why_not(target.flag, target.cluster.cluster.endpoints, monotonic())
        if exchange.has_body and not fate:
            if exchange.fields.content_length > self.options.body_bytes:
                fate = BODY_TOO_LARGE
            elif exchange.body_bytes:
                fate = STAGE_CHANGED
        return Copy(self, target, exchange.method, safe, fate)

    def _fault(self, part: str) -> None:
        """Say that the mirror itself has failed; now and then, not for each request."""
        self.faults += 1
        now = monotonic()
        if now - self._told_fault_at >= _TELL_AGAIN_S:
            self._told_fault_at = now
            log.exception("mirror.failed", part=part, faults=self.faults)

    # When it has ended.

    def lost(self, exchange: Exchange, copy: Copy | Skipped) -> None:
        """A request ended without an answer of its upstream that the client got in full."""
        if type(copy) is Skipped:
            self._skipped(exchange, copy)
            return
        assert type(copy) is Copy
        try:
            self._take_facts(exchange, copy)
            self._drop(copy, copy.fate or (CLIENT_LEFT if exchange.status == _LEFT else NO_ANSWER))
        except Exception:  # noqa: BLE001 -- as above
            copy.let_go()
            self._fault("lost")

    def ended(self, exchange: Exchange, copy: Copy | Skipped) -> None:
        """The client has the answer in full: queue the copy, or count why not."""
        if type(copy) is Skipped:
            self._skipped(exchange, copy)
            return
        assert type(copy) is Copy
        try:
            self._ended(exchange, copy)
        except Exception:  # noqa: BLE001 -- as above
            copy.let_go()
            self._fault("ended")

    def _skipped(self, exchange: Exchange, skipped: Skipped) -> None:
        """A request that the sample left out has ended, however."""
        try:
            self._count_fate(skipped.target.flag, NOT_SAMPLED)
            if self.sink is not None:
                self.sink.note(skipped.seen(exchange))
        except Exception:  # noqa: BLE001 -- as above
            self._fault("skip")

    def _ended(self, exchange: Exchange, copy: Copy) -> None:
        now = copy.queued_at = monotonic()
        copy.control_ms = (now - copy.sent_at) * 1e3
        self._take_facts(exchange, copy)
        fate = copy.fate
        if not fate and not (
            exchange.body_complete
            and copy.control_ms <= self._most_ms
            and exchange.decision is copy.target.decision
            and exchange.replay is None
        ):
            fate = self._why_not(exchange, copy)
        if fate:
            self._drop(copy, fate)
            return
        cluster = copy.target.cluster
        if cluster.forgotten:
            self._drop(copy, STAGE_CHANGED)
            return
        if self.memory.waiting >= self.options.queue_limit:
            self._drop(copy, QUEUE_FULL)
            return
        if not copy.hold_heads():
            self._drop(copy, copy.fate)
            return
        if not copy.safe:
            copy.read_effects()
        cluster.put(copy)
        if not self._scheduled:
            self._soon(exchange.context.loop)

    def _why_not(self, exchange: Exchange, copy: Copy) -> str:
        if not exchange.body_complete:
            return EARLY_ANSWER
        if copy.control_ms > self._most_ms:
            return TOO_LONG  # a candidate that takes as long would be called timed out
        decision = exchange.decision
        if decision is not copy.target.decision:
            target = self.targets.find(exchange.runtime, decision)
            if target is None:
                return STAGE_CHANGED
            copy.target = target
        return REPLAYED if exchange.replay is Replay.RESUME else ""

    def _take_facts(self, exchange: Exchange, copy: Copy) -> None:
        copy.status = exchange.status
        copy.head = exchange.head
        copy.sent_target = exchange.sent_target
        copy.signed_in = signed_in_of(exchange)

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what waits once the answers of this turn of the loop are written."""
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._pump)
            if self._timer is None:
                self._timer = loop.call_later(self.options.sweep_s, self._sweep, loop)

    def _pump(self) -> None:
        self._scheduled = False
        self.targets.pump()

    # When the candidate has answered.

    def compared(self, copy: Copy, reply: Reply) -> None:
        """Both answers are there: count them as equal where they are, byte for byte, else hand both on."""
        try:
            sink, effects = self.sink, ""
            if reply.failure is None and (reply.fields.shadow or not copy.safe):
                effects = self._prove(copy, reply)
            if sink is None:
                copy.let_go()
            elif sink.exact and self._is_equal(copy, reply, effects):
                copy.let_go()
                key = copy.target.flag, EQUAL
                self.tally[key] = self.tally.get(key, 0) + 1
                sink.note(self._seen(copy, EQUAL, (reply.ended - reply.sent) * 1e3))
            else:
                pair = self._pair(copy, reply, effects)
                copy.let_go()
                self._count_fate(copy.target.flag, PAIRED)
                sink.take(pair)
        except Exception:  # noqa: BLE001 -- as above
            copy.let_go()
            self._fault("compare")

    def dropped(self, copy: Copy, reason: str) -> None:
        """A copy was queued, and not sent after all."""
        self._drop(copy, reason)

    def _prove(self, copy: Copy, reply: Reply) -> str:
        """Check the proof, take note of it, and give the effects that it covers."""
        values = mirror_fields.effects(reply.fields)
        valid = proven(
            self.marks.keys,
            id=copy.id,
            role=ShadowRole.MIRROR,
            effects_values=values,
            proof=mirror_fields.proof(reply.fields),
        )
        flag, now = copy.target.flag, monotonic()
        if copy.safe:
            if valid:
                self.proofs.proved(flag, reply.endpoint, now)
        elif valid:
            self.proofs.kept(flag, reply.endpoint, now)
        else:
            self.proofs.withdrawn(flag, reply.endpoint, now)
            reply.failure = Failure.UNPROVEN
        return ", ".join(values) if valid else ""

    def _is_equal(self, copy: Copy, reply: Reply, effects: str) -> bool:
        ours, theirs = copy.fields, reply.fields
        if reply.failure is not None or ours is None or reply.status != copy.status or reply.size != copy.answer_bytes:
            return False
        if (ours.compared or mirror_fields.compared(ours))[0] != (theirs.compared or mirror_fields.compared(theirs))[0]:
            return False
        if ours.shadow or theirs.shadow:
            same = mirror_fields.are_same_effects(", ".join(copy.recorded), effects)
            if not same or not self._are_told(copy, theirs):
                return False
        return are_same(copy.parts, copy.skip, reply.parts, reply.skip)

    def _are_told(self, copy: Copy, theirs: AnswerFields) -> bool:
        """Has a pair told the sink of the code versions of both sides already?"""
        assert copy.fields is not None
        flag, origin = copy.target.flag, copy.target.decision.serve
        told = True
        for side, fields in ((origin, copy.fields), (origin.other, theirs)):
            version = mirror_fields.code_version(fields)
            if version and self._told.get((flag, side)) != version:
                self._told[flag, side] = version
                told = False
        return told

    def _pair(self, copy: Copy, reply: Reply, effects: str) -> Pair:
        target = copy.target
        return Pair(
            id=copy.id or self.marks.new_id(),
            flag=target.flag,
            route=target.route,
            method=copy.method.decode("ascii", "replace"),
            target=copy.sent_target,
            fields=mirror_fields.request_fields(copy.head),
            body=b"".join(copy.body or ()),
            safe=copy.safe,
            at=time.time() - (monotonic() - copy.queued_at),
            control_origin=target.decision.serve,
            control=copy.control(),
            candidate=reply.answer(effects),
        )

    def _drop(self, copy: Copy, reason: str) -> None:
        copy.let_go()
        self._count_fate(copy.target.flag, reason)
        if self.sink is not None:
            self.sink.note(self._seen(copy, reason, 0.0))

    def _seen(self, copy: Copy, fate: str, candidate_ms: float) -> Seen:
        return seen(
            copy.target,
            copy.method,
            copy.sent_target,
            copy.signed_in,
            copy.status,
            copy.fields,
            fate,
            copy.control_ms,
            candidate_ms,
        )

    def _count_fate(self, flag: str, fate: str) -> None:
        key = (flag, fate)
        self.tally[key] = self.tally.get(key, 0) + 1

    # Asking once more.

    async def ask(self, pair: Pair, side: Side) -> Answer:
        """The answer to the same safe request, now. Failures are in the answer; raises ValueError for unsafe ones.

        The control sees the request as the client's came; the candidate sees it marked, as every mirrored one.
        """
        if not pair.safe or not is_safe(pair.method):
            raise ValueError(f"{pair.method} is not safe: it is not asked a second time")
        self.asks[side] = self.asks.get(side, 0) + 1
        cluster = self.targets.of_side(pair, side)
        if cluster is None or self._closed:
            return Answer(failure=Failure.REFUSED)
        loop = asyncio.get_running_loop()
        ask = Ask(self, pair, marked=side is Side.CANDIDATE, loop=loop)
        cluster.put(ask)
        self._soon(loop)
        return await ask.answer

    # Upkeep.

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at deadlines, a few times a second from the first copy on."""
        self._timer = None if self._closed else loop.call_later(self.options.sweep_s, self._sweep, loop)
        self.targets.sweep(monotonic())

    async def drain(self, seconds: float) -> None:
        """Let what waits be sent and answered for `seconds` at most; then drop the rest. Asking goes on."""
        await self.targets.drain(seconds)
        await self.targets.clear()

    async def close(self) -> None:
        """Send no more, ask no more, close everything."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.targets.clear()
