"""What a switch does to a flag, as values; the real store and its twin share it."""

from __future__ import annotations

import dataclasses
import datetime as dt

from strangler_proxy.core.epoch import Ownership, newer
from strangler_proxy.core.errors import DeclarationError, GateRefused, RevisionMoved, UnknownName
from strangler_proxy.core.flag import Flag, Hold
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Stage
from strangler_proxy.store.documents import Document, flag_document

LIVE_S = 3.0
"""A proxy is live while its heartbeat is younger, by the control database's clock."""

LEASE_S = 10.0
"""How long a claimed operation stays with a worker that does not renew it."""

OPEN_STATUSES = ("queued", "running")


def unknown_flag(key: str) -> UnknownName:
    """The error for a flag that does not exist."""
    return UnknownName(f'there is no flag "{key}"', next_command="strangler flag list")


def check_revision(current: int, expected: int | None) -> None:
    """Raises RevisionMoved where the caller saw another revision than the current one."""
    if expected is not None and expected != current:
        raise RevisionMoved(
            f"the flag table is at revision {current}, not {expected}: it was changed meanwhile",
            next_command="strangler status",
        )


def already_open(flag: str, kind: str, operation_id: int) -> GateRefused:
    """The error for a second operation of a kind."""
    return GateRefused(
        f'operation {operation_id} ({kind}) of flag "{flag}" is not over yet', next_command=f"strangler status {flag}"
    )


def withdrawn_by(by: str, reason: str) -> str:
    """What a withdrawn operation says of its end."""
    return f"withdrawn by {by or 'unknown'}, before a worker had taken it" + (f": {reason}" if reason else "")


def not_withdrawn(operation_id: int, known: Operation | None) -> UnknownName | GateRefused:
    """The error for an operation that cannot be taken back."""
    if known is None:
        return UnknownName(f"there is no operation {operation_id}", next_command="strangler operation list")
    how = "a worker has taken it" if known.status == "running" else f"it is over ({known.status})"
    return GateRefused(
        f"operation {operation_id} ({known.kind} of {known.flag}) cannot be withdrawn: {how}",
        next_command=f"strangler operation show {operation_id}",
    )


def held(flag: Flag, cutover_id: str, deadline_at: dt.datetime) -> Flag:
    """The flag with a cutover's hold; a leftover of another cutover is replaced."""
    return dataclasses.replace(flag, hold=Hold(cutover_id=cutover_id, deadline_at=deadline_at))


def released(flag: Flag, ownership: Ownership, *, stage: str | None, weight: int | None) -> Flag:
    """The flag without its hold and with the newest grant; the flag itself where `ownership` is an older grant."""
    if ownership.epoch < flag.owner_epoch:
        return flag
    known = Ownership(owner=flag.owner, epoch=flag.owner_epoch)
    grant = newer(known, ownership)
    return dataclasses.replace(
        flag,
        hold=None,
        owner=grant.owner,
        owner_epoch=grant.epoch,
        stage=flag.stage if stage is None else Stage(stage),
        weight=flag.weight if weight is None else weight,
        replicated_through=None if grant.owner is not flag.owner else flag.replicated_through,
    )


def staged(flag: Flag, stage: Stage, weight: int) -> Flag:
    """The flag at another stage or weight. Raises GateRefused while a cutover holds, DeclarationError (weight)."""
    if flag.hold is not None:
        raise GateRefused(
            f'a cutover of flag "{flag.key}" holds requests: stage and weight can change when it is over',
            next_command=f"strangler status {flag.key}",
        )
    if not 0 <= weight <= 10_000:
        raise DeclarationError([f'flag "{flag.key}": weight {weight} is outside 0..10000'])
    return dataclasses.replace(flag, stage=stage, weight=weight)


def stamped(before: Flag, after: Flag, *, at: dt.datetime, by: str, reason: str) -> Flag:
    """Who, when and why, where the change is one that people ask about: stage, weight or owner."""
    if (before.stage, before.weight, before.owner) == (after.stage, after.weight, after.owner):
        return after
    return dataclasses.replace(after, changed_at=at, changed_by=by, reason=reason)


def difference(before: Flag, after: Flag) -> tuple[Document, Document]:
    """The switched fields that differ, before and after, as an audit entry keeps them."""
    unsaid = {"changed_at", "changed_by", "reason", "replicated_through"}
    old, new = flag_document(before), flag_document(after)
    names = [name for name in old if name not in unsaid and old[name] != new[name]]
    return {name: old[name] for name in names}, {name: new[name] for name in names}
