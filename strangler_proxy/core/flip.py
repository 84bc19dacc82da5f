"""What a flip may do: the move it amounts to, the weight it ends with, and the gates in its way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from strangler_proxy.core.bucketing import BUCKETS
from strangler_proxy.core.errors import BadWeight, GateRefused, StageSkipped, StranglerError, UnknownName
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.pause import Pause
from strangler_proxy.core.stage import Move, Origin, Stage, move

LAG_LIMIT_S = 1.0
"""A stream further behind than this is not fit to serve from."""

WAITED_LAG_S = 10.0
"""Flips and cutovers wait for a lag up to this, and as long, before anything is changed: most are one slow moment."""

REPORT_LIMIT_S = 15.0
"""A stream whose worker has been silent for longer counts as not running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What is known of a flag's stream of rows.

    `mode` as the worker published it (`snapshot`, `catch-up`, `live`, `stopped`; empty: never). `source` is the side
    that is read. `lag_s` None means that the worker could not tell. `verified`: both sides were found equal (None: not
    looked yet). `age_s`: since the worker's last word. `paused`: nothing is carried over until it is resumed.
    """

    wanted: bool = False
    mode: str = ""
    source: Origin | None = None
    lag_s: float | None = None
    stuck: int = 0
    verified: bool | None = None
    age_s: float | None = None
    error: str = ""
    paused: Pause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A flip that may be done. `gates` are the conditions that were looked at, as sentences; all are met."""

    move: Move
    stage: Stage
    weight: int
    gates: tuple[str, ...] = ()

    def changes(self, flag: Flag) -> bool:
        """Is there anything to do?"""
        return (flag.stage, flag.weight) != (self.stage, self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition of a flip: what was found, and whether that is good enough."""

    met: bool
    says: str


def parse_stage(text: str) -> Stage:
    """The stage of that name. Raises UnknownName with all of them."""
    try:
        return Stage(text)
    except ValueError:
        known = ", ".join(stage.value for stage in Stage)
        raise UnknownName(
            f'there is no stage "{text}": stages are {known}', next_command="strangler flip --help"
        ) from None


def plan_flip(
    flag: Flag,
    stage: Stage,
    weight: int | None,
    stream: Stream,
    open_operations: Sequence[str] = (),
    evidence: Sequence[Gate] = (),
) -> Flip:
    """Decide a flip of a flag. Raises BadWeight, StageSkipped or GateRefused (with every gate that is not met).

    `weight` 0..10000 is for `canary` only; None keeps the weight within `canary` and starts at 0 when entering it.
    `open_operations` describe cutovers that are not over. `evidence` are conditions on the evidence of shadow mode,
    which count for flips that send more to extracted.
    """
    kind = move(flag.stage, stage, owns_data=flag.owns_data)
    _refuse_move(flag, stage, kind)
    flip = Flip(move=kind, stage=stage, weight=_weight(flag, stage, weight))
    if not flip.changes(flag) and not open_operations:
        return flip
    asked = tuple(evidence) if sends_more(flag, flip) else ()
    gates = gates_of(flag, flip, stream, open_operations)
    if all(gate.met for gate in gates) and not all(gate.met for gate in asked):
        way_on = f"strangler shadow report {flag.key}"
    else:
        way_on = _way_on(flag, stream, open_operations)
    gates += asked
    missed = [gate.says for gate in gates if not gate.met]
    if missed:
        raise GateRefused(
            f'flag "{flag.key}" cannot go to {stage.value} now:\n' + "\n".join(f"- {says}" for says in missed),
            next_command=way_on,
        )
    return Flip(move=kind, stage=stage, weight=flip.weight, gates=tuple(gate.says for gate in gates))


def only_behind(
    flag: Flag,
    stage: Stage,
    weight: int | None,
    stream: Stream,
    open_operations: Sequence[str] = (),
    evidence: Sequence[Gate] = (),
) -> bool:
    """Is a lag that may well be over in a moment all that is in the way of this flip?"""
    if stream.lag_s is None or not LAG_LIMIT_S <= stream.lag_s < WAITED_LAG_S:
        return False
    caught_up = dataclasses.replace(stream, lag_s=0.0)
    try:
        plan_flip(flag, stage, weight, caught_up, open_operations, evidence)
    except StranglerError:
        return False
    try:
        plan_flip(flag, stage, weight, stream, open_operations, evidence)
    except GateRefused:
        return True
    return False


def gates_of(flag: Flag, flip: Flip, stream: Stream, open_operations: Sequence[str] = ()) -> tuple[Gate, ...]:
    """All conditions of a flip, met or not."""
    gates = [Gate(met=False, says=f"{each} is not over yet") for each in open_operations]
    if flag.hold is not None and not open_operations:
        gates.append(Gate(met=False, says=f"cutover {flag.hold.cutover_id} holds requests"))
    if needs_stream(flag, flip):
        limit_s = WAITED_LAG_S if flip.move is Move.CUTOVER else LAG_LIMIT_S
        gates += _stream_gates(flag, stream, may_be_stuck=flip.stage is Stage.SHADOW, lag_limit_s=limit_s)
    return tuple(gates)


def needs_stream(flag: Flag, flip: Flip) -> bool:
    """Does this flip need the other side's rows to be in step? Only one that sends more there does."""
    if not flag.owns_data:
        return False
    if flip.move is Move.CUTOVER:
        return True
    if flip.stage is Stage.CANARY and flag.stage is Stage.CANARY:
        return flip.weight > flag.weight
    return flip.stage.position > flag.stage.position


def sends_more(flag: Flag, flip: Flip) -> bool:
    """Is more served by extracted after this flip than before?"""
    if flip.stage is Stage.CANARY and flag.stage is Stage.CANARY:
        return flip.weight > flag.weight
    return flip.stage in (Stage.CANARY, Stage.EXTRACTED) and flip.stage.position > flag.stage.position


def not_ready(flag: Flag, stream: Stream) -> tuple[str, ...]:
    """What keeps a stream from being fit for everything, a cutover included; empty where it is ready."""
    missing = [gate.says for gate in _stream_gates(flag, stream, may_be_stuck=False) if not gate.met]
    if not missing and stream.verified is not True:
        missing.append("not verified yet" if stream.verified is None else "the last verification found differences")
    return tuple(missing)


def _stream_gates(flag: Flag, stream: Stream, *, may_be_stuck: bool, lag_limit_s: float = LAG_LIMIT_S) -> list[Gate]:
    if not stream.wanted:
        return [Gate(met=False, says="rows are not being kept in step: the stream was never started")]
    if stream.paused is not None:
        gates = [Gate(met=False, says=f"the stream is {stream.paused}")]
        return gates + ([Gate(met=False, says=f"{stream.stuck} stuck keys, needed are 0")] if stream.stuck else [])
    if stream.age_s is None or not stream.mode:
        return [Gate(met=False, says="no worker has taken up the stream yet (is `strangler worker` running?)")]
    if stream.age_s > REPORT_LIMIT_S:
        return [
            Gate(
                met=False,
                says=f"no worker has reported on the stream for {stream.age_s:.0f} s (is `strangler worker` running?)",
            )
        ]
    gates = [
        Gate(met=stream.source is flag.owner, says=_source_sentence(flag, stream)),
        Gate(met=stream.mode == "live", says=f'stream mode is "{stream.mode}", needed is "live"'),
    ]
    if stream.lag_s is None:
        gates.append(Gate(met=False, says="the stream's lag is not known"))
    else:
        says = f"lag is {stream.lag_s:.2f} s, needed is less than {lag_limit_s:g} s"
        gates.append(Gate(met=stream.lag_s < lag_limit_s, says=says))
    if stream.stuck or not may_be_stuck:
        gates.append(Gate(met=stream.stuck == 0 or may_be_stuck, says=f"{stream.stuck} stuck keys, needed are 0"))
    if stream.error and not all(gate.met for gate in gates):
        gates.append(Gate(met=False, says=f"the stream failed last with: {stream.error}"))
    return gates


def _source_sentence(flag: Flag, stream: Stream) -> str:
    source = "nothing" if stream.source is None else stream.source.value
    return f"the stream reads {source}, the owner is {flag.owner.value}"


def _refuse_move(flag: Flag, stage: Stage, kind: Move) -> None:
    if kind is Move.FINAL:
        raise StageSkipped(
            f'flag "{flag.key}" is retired, and no flip leads out of that',
            next_command=f"strangler retire {flag.key} --undo",
        )
    if kind is Move.RETIRE:
        raise StageSkipped(
            f"a flip does not retire: it ends the way back, so it has a verb of its own; "
            f'flag "{flag.key}" stays at {flag.stage.value}',
            next_command=f"strangler retire {flag.key} --dry-run",
        )
    if kind is Move.SKIPS:
        following = list(Stage)[flag.stage.position + 1]
        raise StageSkipped(
            f'flag "{flag.key}" is at {flag.stage.value}: {stage.value} would skip a stage, next is {following.value}',
            next_command=f"strangler flip {flag.key} {following.value}",
        )


def _weight(flag: Flag, stage: Stage, weight: int | None) -> int:
    if weight is not None and not 0 <= weight <= BUCKETS:
        raise BadWeight(
            f'flag "{flag.key}": weight {weight} is outside 0..10000 (0 % .. 100 %)',
            next_command=f"strangler flip {flag.key} canary --weight 5%",
        )
    if stage is Stage.CANARY:
        return (flag.weight if flag.stage is Stage.CANARY else 0) if weight is None else weight
    if weight:
        raise BadWeight(
            f'flag "{flag.key}": a weight counts at canary only, not at {stage.value}',
            next_command=f"strangler flip {flag.key} {stage.value}",
        )
    return 0


def _way_on(flag: Flag, stream: Stream, open_operations: Sequence[str]) -> str:
    if open_operations or flag.hold is not None:
        return "strangler watch"
    if stream.wanted and stream.paused is not None:
        return f"strangler sync resume {flag.key}"
    return f"strangler sync {'status' if stream.wanted else 'start'} {flag.key}"


def next_commands(flag: Flag, *, wanted: bool) -> tuple[str, ...]:
    """What a person would do next with this flag: forward first, then back."""
    key = flag.key
    back = f"strangler flip {key} monolith"
    if flag.owns_data and not wanted and flag.stage is Stage.MONOLITH:
        return (f"strangler sync start {key}", f"strangler flip {key} shadow")
    match flag.stage:
        case Stage.MONOLITH:
            return (f"strangler flip {key} shadow",)
        case Stage.SHADOW:
            return (f"strangler flip {key} canary --weight 5%", back)
        case Stage.CANARY if flag.weight < BUCKETS:
            return (f"strangler flip {key} canary --weight {_next_weight(flag.weight)}", f"strangler flip {key} shadow")
        case Stage.CANARY:
            return (f"strangler flip {key} extracted", f"strangler flip {key} shadow")
        case Stage.EXTRACTED:
            return (f"strangler flip {key} canary --weight 100%", back)
        case Stage.RETIRED:
            return (f"strangler retire {key} --drop-tables --dry-run", f"strangler retire {key} --undo")


def _next_weight(weight: int) -> str:
    following = next((step for step in (500, 2_500, 5_000, 10_000) if step > weight), BUCKETS)
    return percent(following)


def percent(weight: int) -> str:
    """A weight for people.

    >>> percent(2500), percent(1), percent(0)
    ('25%', '0.01%', '0%')
    """
    return f"{weight / 100:.2f}".rstrip("0").rstrip(".") + "%"
