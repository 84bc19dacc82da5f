"""One request's life: read, decided, perhaps held, sent, answered. Every way out goes through `_finish` once.

Nothing here awaits. Callbacks of the two connections, of the pool, the gate and the sweep drive it, all on the loop's
thread; `phase` says whose turn it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from strangler_proxy.core.breaker import Outcome
from strangler_proxy.core.decision import Decision, Reason, Refusal
from strangler_proxy.core.errors import MalformedFields, MalformedTarget
from strangler_proxy.core.fence import Replay
from strangler_proxy.core.headers import AnswerFields, RequestFields, trailer_lines
from strangler_proxy.core.stage import Origin
from strangler_proxy.forward import errors, retry, waiting
from strangler_proxy.forward.access_log import log_request
from strangler_proxy.forward.admission import enter
from strangler_proxy.forward.answer import answer_head
from strangler_proxy.forward.edge import Edge
from strangler_proxy.forward.errors import Problem
from strangler_proxy.forward.guard import admit
from strangler_proxy.forward.phase import ANSWERING, CONNECTING, DONE, HELD, NEW, SENT, Phase
from strangler_proxy.forward.refusal import refuse
from strangler_proxy.forward.replay import KeptBody, head_to_send, meet_fence, read_fence
from strangler_proxy.forward.runtime import FlagRuntime, Lane, RouteRuntime
from strangler_proxy.forward.settling import settle, settle_answered
from strangler_proxy.forward.tunnel import inform

if TYPE_CHECKING:
    from strangler_proxy.forward.cluster import Member
    from strangler_proxy.forward.context import Context
    from strangler_proxy.forward.downstream import Downstream
    from strangler_proxy.forward.mirror_copy import Copy
    from strangler_proxy.forward.mirror_seen import Skipped
    from strangler_proxy.forward.pool import EndpointPool
    from strangler_proxy.forward.upstream import UpstreamConnection

_REFUSALS = {Refusal.KILLED_WITH_MOVED_DATA: errors.KILLED, Refusal.RETIRED: errors.RETIRED}


@dataclass(slots=True, eq=False, repr=False)
class Exchange:
    """One request and its answer. `problem`, where set before `begin`, is what it gets without being read further.

    Slots, because reading a default from the class costs six times as much: every attribute has an annotation.
    """

    context: Context
    downstream: Downstream
    method: bytes
    target: bytes
    raw_fields: list[tuple[bytes, bytes]]
    version_10: bool
    keep_alive: bool
    safe: bool
    fields: RequestFields = field(init=False)
    runtime: RouteRuntime = field(init=False)
    generation: RouteRuntime = field(init=False)
    edge: Edge = field(init=False)
    decision: Decision = field(init=False)
    lane: Lane | None = None
    entered: Lane | None = None
    permit: int = 0
    member: Member | None = None
    avoid: Member | None = None
    sent: bool = False
    pool: EndpointPool | None = None
    upstream: UpstreamConnection | None = None
    served_by: Origin = Origin.MONOLITH
    phase: Phase = NEW
    problem: Problem | None = None
    request_id: bytes = b""
    sent_target: bytes = b""
    head: bytes = b""
    chunked: bool = False
    has_body: bool = False
    body_complete: bool = True
    body_complete_read: bool = False
    body_bytes: int = 0
    body_lost: bool = False
    kept: KeptBody | None = None
    reused: bool = False
    retried_stale: bool = False
    attempts: int = 0
    answer_chunked: bool = False
    status: int = 0
    moved: bool = False
    deadline: float = 0.0
    hold_until: float = 0.0
    held_at: float = 0.0
    held_s: float = 0.0
    backoff_s: float = 0.02
    timer: asyncio.TimerHandle | None = None
    counted: FlagRuntime | None = None
    forced: Origin | None = None
    replay: Replay | None = None
    replayed_epoch: int = 0
    told_why: bool = False
    trailers: list[tuple[bytes, bytes]] | None = None
    early: list[bytes] | None = None
    fallen_back: bool = False
    stale: bool = False
    retry_after_s: int = 0
    tunnel: bool = False
    copy: Copy | Skipped | None = None
    switched: bytes = b""
    interim: int = 0
    outgoing: list[bytes] = field(default_factory=list)
    started: float = field(default_factory=monotonic)

    def __repr__(self) -> str:
        return f"<Exchange {self.method.decode()} {self.phase.value} served_by={self.served_by.value}>"

    def begin(self) -> None:
        """Read and guard the head, then send the request where it belongs. Nothing was forwarded before this."""
        if self.problem is not None:
            self.refuse(self.problem)
            return
        try:
            problem = admit(self)
        except (MalformedFields, MalformedTarget) as error:
            self.refuse(errors.MALFORMED, detail=f"The request was refused: {error.message}.")
            return
        if problem is not None:
            self.refuse(problem)
        else:
            self.proceed()

    def match(self) -> None:
        """Find the route in the table that is served now."""
        state = self.context.state
        self.generation = state.unmatched
        self.runtime, self.sent_target = self.context.router.match(
            self.method, self.target, self.fields, self.raw_fields
        )

    def proceed(self) -> None:
        """Decide by the newest table, and act: refuse, hold or send."""
        if self.generation is not self.context.state.unmatched:
            self.match()
        decision = self.context.router.decide(self)
        if decision.mirror is not None and self.context.mirror is not None:
            self.context.mirror.consider(self, decision)
        if decision.refuse is not None:
            self.refuse(_REFUSALS[decision.refuse])
        elif decision.hold:
            self.forced = None
            waiting.hold(self)
        else:
            if self.forced is not None and self.runtime.compiled is not None:
                decision = self.runtime.towards(self.forced, Reason.OWNER)
            self.send(decision)

    # The request's body.

    def feed(self, part: bytes) -> None:
        """A part of the body arrived."""
        if self.phase is DONE:
            return
        self.moved = True
        self.body_bytes += len(part)
        if self.body_bytes > self.context.options.max_body_bytes:
            self.refuse(errors.BODY_TOO_LARGE)
            return
        if self.copy is not None:
            self.copy.add_body(part)
        if self.chunked:
            self._add(b"%x\r\n%b\r\n" % (len(part), part))
        else:
            self._add(part)

    def body_done(self) -> None:
        """The body has arrived in full, trailers included."""
        if self.body_complete or self.phase is DONE:
            return
        self.body_complete = True
        if self.chunked:
            self._add(b"0\r\n%b\r\n" % b"".join(trailer_lines(self.trailers or ())))
        if self.phase is SENT:
            self.deadline = monotonic() + self.runtime.timeouts.first_byte_s
            self.moved = False
            if self.copy is not None:
                self.copy.sent_at = monotonic()

    def catch_up(self) -> None:
        """Take in the body that arrived while this request waited for the ones before it."""
        early, self.early = self.early, None
        for part in early or ():
            self.feed(part)
        if self.body_complete_read:
            self.body_done()
        self.flush()

    def _add(self, part: bytes) -> None:
        if self.kept is not None and not self.kept.add(part):
            self._drop_kept()
        self.outgoing.append(part)

    def flush(self) -> None:
        """Write to the upstream what has arrived; without one, stop reading once enough waits here."""
        upstream = self.upstream
        if upstream is None:
            if self.body_bytes > self.context.options.replay_body_bytes:
                self.downstream.pause_body()
            return
        outgoing = self.outgoing
        if outgoing:
            if self.kept is None and self.body_bytes:
                self.body_lost = True
            upstream.transport.write(b"".join(outgoing) if len(outgoing) > 1 else outgoing[0])
            outgoing.clear()

    def can_resend(self) -> bool:
        """Is everything that was sent still here, so that it can be sent once more?"""
        return not self.body_lost

    def pause_body(self) -> None:
        """The upstream is slower than the client."""
        self.downstream.pause_body()

    def resume_body(self) -> None:
        """The upstream takes more."""
        self.moved = True
        self.downstream.resume_body()

    # Towards the upstream.

    def send(self, decision: Decision) -> None:
        """Send it to where a decision leads; `flush` writes it."""
        context = self.context
        self.decision = decision
        self.served_by = decision.serve
        runtime = self.runtime
        lane = runtime.lanes.get(id(decision))
        if lane is None:
            lane = runtime.lane(decision, context.pools, context.metrics)
        self.lane = lane
        if not self.safe and runtime.flag_runtime is not None and self.counted is None:
            self.counted = runtime.flag_runtime
            self.counted.unsafe_in_flight += 1
        pool = enter(self, lane)
        if pool is None:
            return
        self.pool = pool
        connection = pool.take() if pool.idle else None
        if connection is not None:
            self.attach(connection, reused=True)
        else:
            self.connect()

    def connect(self) -> None:
        """Ask the pool for a new connection."""
        timeouts = self.runtime.timeouts
        self.phase = CONNECTING
        self.deadline = monotonic() + timeouts.connect_s + self.context.options.pool_wait_s
        assert self.pool is not None
        self.pool.connect(self, timeouts.connect_s)

    def attach(self, connection: UpstreamConnection, *, reused: bool) -> None:
        """Send the request on this connection; `flush` writes it."""
        self.upstream = connection
        self.sent = True
        self.reused = reused
        self.phase = SENT
        self.moved = False
        self.deadline = (self.started if self.deadline == 0.0 else monotonic()) + self.runtime.timeouts.first_byte_s
        connection.begin(self, self.method == b"HEAD")
        head = self.head if self.replay is None and self.copy is None else head_to_send(self)
        if not self.has_body:
            self.outgoing = [head]
        else:
            self.outgoing = [head, *(self.outgoing if self.kept is None else self.kept.parts)]
            self.downstream.resume_body()

    def connect_failed(self, problem: Problem) -> None:
        """No connection was to be had."""
        retry.connect_failed(self, problem)

    def upstream_lost(self, *, heard: bool, malformed: bool) -> None:
        """The connection broke, or its bytes made no sense, before the answer's end. `heard`: some of it had come."""
        self.upstream = None
        retry.upstream_lost(self, heard=heard, malformed=malformed)

    def released(self) -> None:
        """The hold is over, or the table is newer: ask the owner that it names."""
        if self.phase is HELD:
            self.forced = None
            waiting.go_on(self)

    def check(self, now: float) -> None:
        """Look at the deadlines; the sweep calls it a few times a second."""
        waiting.check(self, now)
        if self.copy is not None:
            self.copy.check(now)

    # The answer.

    def informed(self, connection: UpstreamConnection, status: int, raw: list[tuple[bytes, bytes]]) -> None:
        """An interim answer."""
        inform(self, connection, status, raw)

    def answered(self, connection: UpstreamConnection, status: int, answer: AnswerFields, bodiless: bool) -> None:
        """The head of the answer: one that met the fence goes no further, any other goes to the client."""
        if answer.coded:
            self.answer_malformed(connection)
            return
        fence = read_fence(status, answer.fence) if answer.fence else None
        if fence is not None:
            self.upstream = None
            connection.detach()
            self.uncount()
            settle(self, Outcome.NEUTRAL)
            meet_fence(self, fence)
            self.flush()
            return
        if status >= 500 and retry.replaced(self, connection, status):
            return
        self.phase = ANSWERING
        self.status = status
        if self.kept is not None:
            self._drop_kept()
        if self.copy is not None:
            connection.tap = self.copy.answered(status, answer)
        connection.until_eof = not bodiless and not answer.chunked and answer.content_length < 0
        self.begin_answer(connection, status, answer, bodiless)

    def begin_answer(self, connection: UpstreamConnection, status: int, answer: AnswerFields, bodiless: bool) -> None:
        """Write the head for this client."""
        connection.out.append(answer_head(self, status, answer, bodiless=bodiless))

    def answer_malformed(self, connection: UpstreamConnection) -> None:
        """The head of the answer cannot be trusted."""
        self.upstream = None
        connection.detach()
        retry.failed(self, errors.MALFORMED_ANSWER, answered=True)

    def end_body(self, connection: UpstreamConnection) -> None:
        """The body's end, with its trailers, in this client's framing."""
        if self.answer_chunked:
            connection.out.append(b"0\r\n%b\r\n" % b"".join(trailer_lines(connection.trailers)))
            connection.trailers = []

    def answer_ended(self, *, by_eof: bool = False) -> None:
        """The answer is with the client's connection in full."""
        self.upstream = None
        settle_answered(self)
        if by_eof and self.answer_chunked:
            self.downstream.transport.write(b"0\r\n\r\n")
        copy, self.copy = self.copy, None
        self.finish(close=not self.keep_alive)
        if copy is not None:
            copy.mirror.ended(self, copy)

    # Ways out.

    def refuse(self, problem: Problem, detail: str = "") -> None:
        """Answer it ourselves; where the answer has begun already, break the connection so that nobody is misled."""
        refuse(self, problem, detail)

    def client_left(self) -> None:
        """Nobody waits for the answer any more."""
        waiting.client_left(self)

    def leave_upstream(self, outcome: str) -> None:
        """Take the request away from wherever it is or waits: `refused` or `left`."""
        waiting.leave_upstream(self, outcome)

    def _drop_kept(self) -> None:
        if self.kept is not None:
            self.kept.drop()
            self.kept = None

    def uncount(self) -> None:
        """It is at no upstream any more."""
        if self.counted is not None:
            self.counted.unsafe_in_flight -= 1
            self.counted = None

    def finish(self, *, close: bool) -> None:
        """The end of its life, whatever it was."""
        self.phase = DONE
        if self.counted is not None:
            self.uncount()
        if self.entered is not None:
            settle(self, Outcome.NEUTRAL)
        if self.kept is not None:
            self._drop_kept()
        elapsed_s = monotonic() - self.started
        if self.lane is not None:
            self.lane.series.observe(self.status, elapsed_s)
        if self.context.options.access_log:
            log_request(self, elapsed_s)
        if self.copy is not None:
            self.copy.mirror.lost(self, self.copy)
        self.downstream.exchange_done(self, close or not self.body_complete)
