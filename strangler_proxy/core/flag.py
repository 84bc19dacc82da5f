"""Flags: the rows that flip."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from strangler_proxy.core.stage import Origin, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A cutover asks proxies to keep unsafe requests of a flag waiting.

    `deadline_at` is UTC by the source database's clock: past it the cutover is aborted by whoever sees it.
    """

    cutover_id: str
    deadline_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One capability's switch, as the table says it.

    `weight` 0..10000 counts in `canary` only. `owner` and `owner_epoch` are copies of the ownership record beside
    the data (the truth), and mean something only where `owns_data`. `allow` and `deny` are targeting keys that are
    always, or never, served by extracted (safe requests). `mirror_sample` 0..10000 of eligible requests.
    `replicated_through`: source clock up to which the side that is not the owner is complete, None if unknown.
    """

    key: str
    stage: Stage
    weight: int = 0
    salt: str = ""
    owns_data: bool = False
    owner: Origin = Origin.MONOLITH
    owner_epoch: int = 0
    hold: Hold | None = None
    allow: frozenset[str] = field(default_factory=frozenset)
    deny: frozenset[str] = field(default_factory=frozenset)
    fallback_safe: bool = True
    mirror_sample: int = 10_000
    replicated_through: dt.datetime | None = None
    changed_at: dt.datetime | None = None
    changed_by: str = ""
    reason: str = ""
