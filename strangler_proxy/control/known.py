"""What verbs look up before they decide: a flag, a route, a stream, open cutovers."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from strangler_proxy.core.errors import RevisionMoved, UnknownName
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import Stream
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.route import Route
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store import Store

OPEN = ("queued", "running")


def flag_of(table: RoutingTable, key: str) -> Flag:
    """The flag of that key. Raises UnknownName."""
    found = table.flags.get(key)
    if found is None:
        raise _unknown("flag", key, table.flags, "strangler flag list")
    return found


def route_of(table: RoutingTable, name: str) -> Route:
    """The route of that name. Raises UnknownName."""
    for route in table.routes:
        if route.name == name:
            return route
    raise _unknown("route", name, (route.name for route in table.routes), "strangler route list")


def check_revision(table: RoutingTable, expected: int | None) -> None:
    """Raises RevisionMoved where the caller saw another revision than the current one."""
    if expected is not None and expected != table.revision:
        raise RevisionMoved(
            f"the flag table is at revision {table.revision}, not {expected}: it was changed, and nothing was done",
            next_command="strangler status",
        )


def _unknown(kind: str, name: str, known: Iterable[str], command: str) -> UnknownName:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else f"; there are {', '.join(names[:20])}" if names else ""
    if not names:
        return UnknownName(f'there is no {kind} "{name}": nothing was applied yet', next_command="strangler apply")
    return UnknownName(f'there is no {kind} "{name}"{hint}', next_command=command)


async def stream_of(store: Store, key: str) -> tuple[Stream, Mapping[str, object] | None]:
    """The stream of a flag as the gates see it, and the worker's last words as they were published."""
    wanted = key in await store.sync.wanted()
    paused = (await store.pauses.paused()).get(key)
    published = await store.sync.status(key)
    if published is None:
        return Stream(wanted=wanted, paused=paused), None
    status, age_s = published
    return dataclasses.replace(_stream(status, wanted=wanted, age_s=age_s), paused=paused), status


def _stream(status: Mapping[str, Any], *, wanted: bool, age_s: float) -> Stream:
    """Read what a worker published; a worker of another release may leave fields out."""
    source = status.get("source")
    lag = status.get("lag_seconds")
    stuck, verified = status.get("stuck"), status.get("verified")
    return Stream(
        wanted=wanted,
        mode=str(status.get("mode") or ""),
        source=Origin(source) if source in ("monolith", "extracted") else None,
        lag_s=float(lag) if isinstance(lag, int | float) else None,
        stuck=int(stuck) if isinstance(stuck, int) else 0,
        verified=verified if isinstance(verified, bool) else None,
        age_s=age_s,
        error=str(status.get("error") or ""),
    )


async def open_operations(store: Store, key: str) -> Sequence[Operation]:
    """Operations of a flag that are not over."""
    return [each for each in await store.records.operations(key, 20) if each.status in OPEN]


def described(operation: Operation) -> str:
    """An open operation as a gate names it."""
    return f"operation {operation.id} ({operation.kind}, {operation.status}, by {operation.by or 'unknown'})"
