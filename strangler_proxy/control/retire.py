"""The verb `retire`: end the way back, drop the old tables, or undo it. Workers do it; this is what is known before."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass

from strangler_proxy.control import answers
from strangler_proxy.control.answers import Json, answer
from strangler_proxy.control.bodies import RetireBody
from strangler_proxy.control.known import described, flag_of, open_operations, stream_of
from strangler_proxy.control.retired import retired_of
from strangler_proxy.control.verbs import Call
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.retire import Condition, conditions_of_flag, nobody_works, unmet
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store

DEFAULT_AFTER_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of the request: an operation to follow, or (no data to set aside) a change that is done.

    `conditions` are those that the control plane can tell; a worker adds what the databases say.
    """

    flag: str
    conditions: Sequence[Condition]
    operation: Operation | None = None
    revision: int | None = None


async def retire(store: Store, key: str, body: RetireBody, *, by: str) -> Asked:
    """Ask to retire a flag, or to go on with it. Raises UnknownName, GateRefused with everything that is missing."""
    table = await store.records.table()
    flag = flag_of(table, key)
    if not body.dry_run and body.confirm != key:
        raise GateRefused(
            f'retiring "{key}" ends the way back to the monolith: look at what it would do first, then confirm it',
            next_command=f"strangler retire {key} --dry-run",
        )
    conditions: tuple[Condition, ...] = ()
    days = await _after_days(store, flag, body)
    if flag.stage is not Stage.RETIRED:
        stream, _ = await stream_of(store, key) if flag.owns_data else (None, None)
        open_now = [described(each) for each in await open_operations(store, key)]
        conditions = conditions_of_flag(
            flag, stream, table.routes, open_now, after_days=days, now=dt.datetime.now(dt.UTC)
        )
        alone = stream is None or nobody_works(stream) or flag.stage is not Stage.EXTRACTED
        if alone and unmet(conditions):
            raise _refused(key, conditions, asked_nobody=flag.owns_data)
    if not flag.owns_data:
        return await _without_data(store, flag, conditions, body, by=by)
    args = {
        "conditions": json.dumps([each.to_json() for each in conditions]),
        "after_days": f"{days:g}",
        "without_census": "yes" if body.without_census else "",
        "dump": body.dump_dir,
        "dry_run": "yes" if body.dry_run else "",
    }
    operation = await store.switches.request("retire", key, args, by=by, reason=body.reason)
    return Asked(flag=key, conditions=conditions, operation=operation)


async def drop_tables(store: Store, key: str, body: RetireBody, *, by: str) -> Asked:
    """Ask to drop the old tables. Raises UnknownName, GateRefused."""
    flag = _with_data(flag_of(await store.records.table(), key))
    if not body.dry_run and body.confirm != key:
        raise GateRefused(
            f'dropping the old tables of "{key}" cannot be undone: only the dump is left then',
            next_command=f"strangler retire {key} --drop-tables --dry-run",
        )
    conditions = [
        Condition(
            met=flag.stage is Stage.RETIRED,
            says=f"the stage is {flag.stage.value}",
            command=f"strangler retire {key} --dry-run",
        ),
        *[
            Condition(met=False, says=f"{described(each)} is not over yet", command="strangler watch")
            for each in await open_operations(store, key)
        ],
    ]
    if unmet(conditions):
        raise _refused(key, conditions, asked_nobody=True)
    args = {
        "conditions": json.dumps([each.to_json() for each in conditions]),
        "accept_touches": "yes" if body.accept_touches else "",
        "dry_run": "yes" if body.dry_run else "",
    }
    operation = await store.switches.request("retire_drop", key, args, by=by, reason=body.reason)
    return Asked(flag=key, conditions=conditions, operation=operation)


async def undo(store: Store, key: str, body: RetireBody, *, by: str) -> Asked:
    """Ask for the way back to `extracted`. Raises UnknownName, GateRefused."""
    flag = flag_of(await store.records.table(), key)
    if body.confirm != key:
        raise GateRefused(
            f'undoing brings the old tables of "{key}" back, and the stage to extracted; the service stays the owner',
            next_command=f"strangler retire {key} --undo --confirm {key}",
        )
    if not flag.owns_data:
        if flag.stage is not Stage.RETIRED:
            raise GateRefused(f'flag "{key}" is not retired', next_command=f"strangler status {key}")
        revision = await _set_stage(store, flag, Stage.EXTRACTED, body, by=by)
        return Asked(flag=key, conditions=(), revision=revision)
    if under_way := await open_operations(store, key):
        raise GateRefused(f"{described(under_way[0])} is not over yet", next_command="strangler watch")
    operation = await store.switches.request("retire_undo", key, {}, by=by, reason=body.reason)
    return Asked(flag=key, conditions=(), operation=operation)


async def retire_flag(call: Call) -> Json:
    """`POST /v1/flags/KEY/retire`."""
    body, key = call.read(RetireBody), call.path["key"]
    verb = {"retire": retire, "drop": drop_tables, "undo": undo}[body.action]
    asked = await verb(call.store, key, body, by=call.actor)
    return answer(
        flag=key,
        action=body.action,
        dry_run=body.dry_run,
        conditions=[each.to_json() for each in asked.conditions],
        operation=None if asked.operation is None else answers.operation_answer(asked.operation),
        revision=asked.revision,
    )


async def show_retired(call: Call) -> Json:
    """`GET /v1/flags/KEY/retire`: the old tables by the monolith's names, and what became of them."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    tables = [] if not flag.owns_data else (await call.store.manifests.manifest(flag.key)).tables
    found = await retired_of(call.store, flag)
    return answer(
        flag=flag.key,
        stage=flag.stage.value,
        tables=[table.monolith for table in tables],
        retired=answers.retired_answer(found),
    )


async def _after_days(store: Store, flag: Flag, body: RetireBody) -> float:
    if body.after_days is not None:
        return body.after_days
    if not flag.owns_data:
        return DEFAULT_AFTER_DAYS
    return (await store.manifests.manifest(flag.key)).retire_after_days


async def _without_data(
    store: Store, flag: Flag, conditions: Sequence[Condition], body: RetireBody, *, by: str
) -> Asked:
    """Routing only: there is nothing to set aside, so it is done at once."""
    if body.dry_run or flag.stage is Stage.RETIRED:
        return Asked(flag=flag.key, conditions=conditions)
    return Asked(
        flag=flag.key, conditions=conditions, revision=await _set_stage(store, flag, Stage.RETIRED, body, by=by)
    )


async def _set_stage(store: Store, flag: Flag, stage: Stage, body: RetireBody, *, by: str) -> int:
    return await store.switches.set_stage(
        flag.key, stage=stage, weight=0, by=by, reason=body.reason, expected_revision=None
    )


def _refused(key: str, conditions: Sequence[Condition], *, asked_nobody: bool) -> GateRefused:
    lines = [f"- {says}" for says in unmet(conditions)]
    if asked_nobody:
        lines.append("- what the databases say was not asked: that makes sense when the rest is met")
    return GateRefused(
        f'flag "{key}" cannot do that now, nothing was changed:\n' + "\n".join(lines),
        next_command=next((each.command for each in conditions if not each.met and each.command), None),
    )


def _with_data(flag: Flag) -> Flag:
    if not flag.owns_data:
        raise GateRefused(
            f'flag "{flag.key}" owns no data: there are no tables to drop', next_command=f"strangler status {flag.key}"
        )
    return flag
