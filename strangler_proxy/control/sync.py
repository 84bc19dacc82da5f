"""The verbs of `sync`: whether a flag's rows are kept in step, that they are equal, what a cutover would do."""

from __future__ import annotations

from strangler_proxy.control.known import described, flag_of, open_operations, stream_of
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import not_ready
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store


async def start(store: Store, key: str, *, by: str, reason: str = "") -> Operation | None:
    """Ask for the stream of a flag; None where it is wanted already. Raises UnknownName, GateRefused."""
    flag = _with_data(flag_of(await store.records.table(), key))
    if flag.stage is Stage.RETIRED:
        raise GateRefused(
            f'flag "{key}" is retired: its rows are not copied any more', next_command=f"strangler status {key}"
        )
    if key in await store.sync.wanted():
        return None
    return await store.switches.request("sync_start", key, {}, by=by, reason=reason)


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
    return await store.switches.request("sync_verify", key, {"repair": "yes"} if repair else {}, by=by, reason=reason)


async def rehearse(store: Store, key: str, *, by: str, reason: str = "") -> Operation:
    """Ask for a cutover that stops short of its decision: it holds requests, and says for how long.

    Raises UnknownName, GateRefused with everything that would refuse the cutover itself.
    """
    flag = await _running(store, key)
    stream, _ = await stream_of(store.sync, key)
    missing = [f"{described(each)} is not over yet" for each in await open_operations(store, key)]
    missing += not_ready(flag, stream)
    if missing:
        raise GateRefused(
            f'flag "{key}" cannot rehearse a cutover now:\n' + "\n".join(f"- {says}" for says in missing),
            next_command=f"strangler sync status {key}",
        )
    args = {"to": flag.owner.other.value, "rehearse": "yes"}
    return await store.switches.request("cutover", key, args, by=by, reason=reason)


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
