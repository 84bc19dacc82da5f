"""The verbs of `sync`: whether a flag's rows are kept in step, that they are equal, what a cutover would do."""

from __future__ import annotations

from strangler_proxy.control.known import described, flag_of, open_operations, stream_of
from strangler_proxy.control.standings import current
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.evidence_gate import evidence_gates
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import Stream, not_ready
from strangler_proxy.core.pause import Pause
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store


async def start(store: Store, key: str, *, by: str, reason: str = "", replace: bool = False) -> Operation | None:
    """Ask for the stream of a flag; None where it is wanted already. Raises UnknownName, GateRefused.

    `replace`: rows that a first copy finds in the target go.
    """
    flag = _with_data(flag_of(await store.records.table(), key))
    if flag.stage is Stage.RETIRED and not (await store.manifests.manifest(key)).keep_copy:
        raise GateRefused(
            f'flag "{key}" is retired: its rows are not copied any more', next_command=f"strangler status {key}"
        )
    if key in await store.sync.wanted():
        await _not_paused(store, key, "is started already, and")
        return None
    args = {"replace": "yes"} if replace else {}
    return await store.switches.request("sync_start", key, args, by=by, reason=reason)


async def stop(store: Store, key: str, *, confirmed: bool, by: str, reason: str = "") -> Operation | None:
    """Ask to end the stream; None where there is none. Raises UnknownName, GateRefused (copies are served from it)."""
    flag = _with_data(flag_of(await store.records.table(), key))
    if key not in await store.sync.wanted():
        return None
    if flag.stage in (Stage.CANARY, Stage.EXTRACTED) and not confirmed:
        why = "safe requests are served from the copy" if flag.stage is Stage.CANARY else "the way back needs the copy"
        raise GateRefused(
            f'flag "{key}" is at {flag.stage.value}, and {why}: stopping its stream lets the copy grow old',
            next_command=f"strangler sync stop {key} --confirm {key}",
        )
    return await store.switches.request("sync_stop", key, {}, by=by, reason=reason)


async def verify(store: Store, key: str, *, repair: bool, by: str, reason: str = "") -> Operation:
    """Ask for a whole verification, from now on. Raises UnknownName, GateRefused (nothing is kept in step).

    `repair`: again until a pass is clean, as what differs is carried over once more.
    """
    await _running(store, key)
    await _not_paused(store, key, "cannot be verified: it")
    return await store.switches.request("sync_verify", key, {"repair": "yes"} if repair else {}, by=by, reason=reason)


async def rehearse(store: Store, key: str, *, by: str, reason: str = "") -> Operation:
    """Ask for a cutover that stops short of its decision: it holds requests, and says for how long.

    Raises UnknownName, GateRefused with everything that would refuse the cutover itself.
    """
    flag = await _running(store, key)
    missing, stream = await _missing(store, flag)
    if missing:
        raise GateRefused(
            f'flag "{key}" cannot rehearse a cutover now:\n' + "\n".join(f"- {says}" for says in missing),
            next_command=f"strangler sync {'status' if stream.paused is None else 'resume'} {key}",
        )
    args = {"to": flag.owner.other.value, "rehearse": "yes"}
    return await store.switches.request("cutover", key, args, by=by, reason=reason)


async def preflight(store: Store, key: str, *, by: str, reason: str = "") -> Operation:
    """Ask for everything that would refuse a cutover now; nobody is held. Raises UnknownName, GateRefused.

    What only the control plane knows goes with the request, so that the worker tells all of it at once.
    """
    flag = await _running(store, key)
    missing = [f"{described(each)} is not over yet" for each in await open_operations(store, key)]
    judging = await store.manifests.judging(key)
    if judging.required and flag.owner is Origin.MONOLITH:
        missing += [gate.says for gate in evidence_gates(judging, await current(store, key)) if not gate.met]
    args = {"to": flag.owner.other.value, "preflight": "yes", "missing": "\n".join(missing)}
    return await store.switches.request("cutover", key, args, by=by, reason=reason)


async def pause(store: Store, key: str, *, by: str, reason: str = "") -> Pause:
    """Pause the stream: changes are noted on, nothing is carried over. Raises UnknownName, GateRefused. Idempotent."""
    await _running(store, key)
    under_way = [each for each in await open_operations(store, key) if each.kind == "cutover"]
    if under_way:
        raise GateRefused(
            f"{described(under_way[0])} is not over yet, and needs the stream", next_command="strangler watch"
        )
    return await store.pauses.pause(key, by=by, reason=reason)


async def resume(store: Store, key: str, *, by: str, reason: str = "") -> Operation:
    """Ask a worker to look at capture and fence, mend them, and go on. Raises UnknownName, GateRefused. Idempotent."""
    await _running(store, key)
    return await store.switches.request("sync_resume", key, {}, by=by, reason=reason)


async def promote_copy(
    store: Store, key: str, *, accept_loss: bool, confirmed: bool, by: str, reason: str = ""
) -> Operation:
    """Ask to open the copy, for the day the owner's database is gone. Raises UnknownName, GateRefused.

    Cutovers that are not over do not keep it out: they may wait for the database that is gone.
    """
    flag = _with_data(flag_of(await store.records.table(), key))
    if flag.stage is Stage.RETIRED:
        raise GateRefused(f'flag "{key}" is retired: there is no copy', next_command=f"strangler status {key}")
    if not (accept_loss and confirmed):
        through = "an unknown time" if flag.replicated_through is None else flag.replicated_through.isoformat()
        raise GateRefused(
            f"promoting the copy of {flag.owner.other.value} gives up what {flag.owner.value} has written and not "
            f"handed on: the copy is complete through {through}",
            next_command=f"strangler sync promote-copy {key} --accept-loss --confirm {key}",
        )
    args = {"copy": flag.owner.other.value}
    return await store.switches.request("promote_copy", key, args, by=by, reason=reason)


async def _missing(store: Store, flag: Flag) -> tuple[list[str], Stream]:
    """Everything in a cutover's way that the control plane knows of."""
    stream, _ = await stream_of(store, flag.key)
    missing = [f"{described(each)} is not over yet" for each in await open_operations(store, flag.key)]
    if flag.stage is Stage.RETIRED:
        missing.append("the flag is retired: the writer stays where it is")
    return [*missing, *not_ready(flag, stream)], stream


async def _not_paused(store: Store, key: str, says: str) -> None:
    paused = (await store.pauses.paused()).get(key)
    if paused is not None:
        raise GateRefused(
            f'the stream of "{key}" {says} is {paused}',
            next_command=f"strangler sync resume {key}",
        )


async def _running(store: Store, key: str) -> Flag:
    flag = _with_data(flag_of(await store.records.table(), key))
    if key not in await store.sync.wanted():
        raise GateRefused(
            f'rows of "{key}" are not being kept in step: the stream was never started, or was stopped',
            next_command=f"strangler sync start {key}",
        )
    return flag


def _with_data(flag: Flag) -> Flag:
    if not flag.owns_data:
        raise GateRefused(
            f'flag "{flag.key}" owns no data: there is nothing to keep in step',
            next_command=f"strangler flag show {flag.key}",
        )
    return flag
