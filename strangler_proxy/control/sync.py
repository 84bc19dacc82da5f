"""The verbs `sync start` and `sync stop`: whether a flag's rows are kept in step. Workers do it."""

from __future__ import annotations

from strangler_proxy.control.known import flag_of
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.flag import Flag
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


def _with_data(flag: Flag) -> Flag:
    if not flag.owns_data:
        raise GateRefused(
            f'flag "{flag.key}" owns no data: there is nothing to keep in step',
            next_command=f"strangler flag show {flag.key}",
        )
    return flag
