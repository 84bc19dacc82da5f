"""The verb `status`: what serves what, who owns, and who has taken it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strangler_proxy.control.known import OPEN, flag_of, stream_of
from strangler_proxy.control.retired import retired_of
from strangler_proxy.control.standings import Standings
from strangler_proxy.core.evidence_gate import Standing
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import Stream
from strangler_proxy.core.ports import Heartbeat, Operation
from strangler_proxy.core.retire import Retired
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagState:
    """One flag with its stream (as judged, and as the worker published it) and its operations that are not over.

    `evidence` is None where the stage mirrors nothing, or the evidence cannot be read.
    """

    flag: Flag
    stream: Stream
    published: Mapping[str, object] | None
    operations: Sequence[Operation]
    evidence: Standing | None = None
    retired: Retired | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that `strangler status` shows. `live` holds the names of proxies that are live now."""

    table: RoutingTable
    flags: Sequence[FlagState]
    proxies: Sequence[Heartbeat]
    live: frozenset[str]


async def status(store: Store, key: str | None = None, *, standings: Standings | None = None) -> Status:
    """The state of all flags, or of one; with their evidence where `standings` know it. Raises UnknownName."""
    table = await store.records.table()
    wanted = list(table.flags.values()) if key is None else [flag_of(table, key)]
    open_now = [each for each in await store.records.operations(key, 50) if each.status in OPEN]
    evidence = {} if standings is None else await standings.of_mirrored(table)
    flags = []
    for flag in wanted:
        stream, published = await stream_of(store, flag.key) if flag.owns_data else (Stream(), None)
        mine = [each for each in open_now if each.flag == flag.key]
        flags.append(
            FlagState(
                flag=flag,
                stream=stream,
                published=published,
                operations=mine,
                evidence=evidence.get(flag.key),
                retired=await retired_of(store, flag),
            )
        )
    live = frozenset(proxy.proxy_id for proxy in await store.flags.live_proxies())
    return Status(table=table, flags=flags, proxies=await store.records.proxies(), live=live)
