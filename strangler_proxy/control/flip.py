"""The verb `flip`: stage and weight of one flag. Routing only at once; a move of the writer becomes an operation."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from strangler_proxy.control.known import check_revision, described, flag_of, open_operations, stream_of
from strangler_proxy.control.standings import current
from strangler_proxy.core.errors import RevisionMoved
from strangler_proxy.core.evidence_gate import evidence_gates
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import WAITED_LAG_S, Flip, Gate, only_behind, parse_stage, plan_flip
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import STAGE_TABLE, Move
from strangler_proxy.store import Store

_TRIES = 5
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Flipped:
    """What a flip did, or would do (`dry_run`). `after` is what the table says once it is done.

    `revision` is the one to be acknowledged. A cutover is only asked for: `operation` is set, the table is as it was.
    """

    before: Flag
    after: Flag
    flip: Flip
    revision: int
    wanted_stream: bool
    changed: bool = False
    dry_run: bool = False
    operation: Operation | None = None


async def flip(
    store: Store,
    key: str,
    stage_name: str,
    *,
    weight: int | None = None,
    by: str,
    reason: str = "",
    if_revision: int | None = None,
    dry_run: bool = False,
    patience_s: float = 0.0,
) -> Flipped:
    """Flip one flag. Raises UnknownName, BadWeight, StageSkipped, GateRefused, RevisionMoved; then nothing was changed.

    Without `if_revision` a change of *another* flag in the same moment is no obstacle; one of this flag is. Where
    nothing but a moment of lag is in the way, it is waited for, `patience_s` and `WAITED_LAG_S` at most.
    """
    stage = parse_stage(stage_name)
    first: Flag | None = None
    until, tries = time.monotonic() + min(patience_s, WAITED_LAG_S), 0
    while tries < _TRIES:
        table = await store.records.table()
        check_revision(table, if_revision)
        flag = flag_of(table, key)
        if first is not None and (first.stage, first.weight, first.owner) != (flag.stage, flag.weight, flag.owner):
            raise _flipped_meanwhile(flag)
        first = flag
        stream, _ = await stream_of(store, key)
        cutovers = [described(each) for each in await open_operations(store, key) if each.kind == "cutover"]
        given = (flag, stage, weight, stream, cutovers, await _evidence(store, key))
        if time.monotonic() < until and only_behind(*given):
            await asyncio.sleep(_LOOK_AGAIN_S)
            continue
        plan = plan_flip(*given)
        done = Flipped(
            before=flag,
            after=dataclasses.replace(flag, stage=plan.stage, weight=plan.weight),
            flip=plan,
            revision=table.revision,
            wanted_stream=stream.wanted,
            dry_run=dry_run,
        )
        if dry_run or not plan.changes(flag):
            return done
        if plan.move is Move.CUTOVER:
            return await _ask_for_cutover(store, done, by=by, reason=reason)
        try:
            revision = await store.switches.set_stage(
                key, stage=plan.stage, weight=plan.weight, by=by, reason=reason, expected_revision=table.revision
            )
        except RevisionMoved:
            if if_revision is not None:
                raise
            tries += 1
            continue
        return dataclasses.replace(done, revision=revision, changed=True)
    raise RevisionMoved(
        f"the flag table changes faster than a flip of {key} can be decided: nothing was done",
        next_command="strangler watch",
    )


async def _evidence(store: Store, key: str) -> Sequence[Gate]:
    """Conditions on the evidence of shadow mode, where the flag's declaration asks for it."""
    judging = await store.manifests.judging(key)
    return evidence_gates(judging, await current(store, key)) if judging.required else ()


async def _ask_for_cutover(store: Store, done: Flipped, *, by: str, reason: str) -> Flipped:
    to = STAGE_TABLE[done.flip.stage].writer
    args = {"to": to.value, "stage": done.flip.stage.value, "weight": str(done.flip.weight)}
    operation = await store.switches.request("cutover", done.before.key, args, by=by, reason=reason)
    after = dataclasses.replace(done.after, owner=to)
    return dataclasses.replace(done, operation=operation, after=after, changed=True)


def _flipped_meanwhile(flag: Flag) -> RevisionMoved:
    return RevisionMoved(
        f'flag "{flag.key}" was flipped in the same moment, by {flag.changed_by or "somebody"} to {flag.stage.value}'
        f" (weight {flag.weight}): nothing was done",
        next_command=f"strangler flag show {flag.key}",
    )
