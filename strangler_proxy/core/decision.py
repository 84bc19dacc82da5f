"""THE decision: which origin serves a request, whether it is held, mirrored or refused, and why.

One function for every engine, the dry run and `strangler why`. Precedence:
owner (unsafe requests of a flag that owns data) > kill switch > trusted override > deny and allow lists >
read your writes > bucket > stage default.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import SAFE_METHODS, Cluster
from strangler_proxy.core.stage import STAGE_TABLE, Mirror, Origin, Serve, Stage
from strangler_proxy.core.table import CompiledRoute


class Reason(enum.Enum):
    """Why a request goes where it goes."""

    NO_ROUTE = "no route matches: default cluster"
    OWNER = "unsafe request: goes to the owner of the data"
    KILLED = "kill switch"
    OVERRIDE = "trusted override"
    DENIED = "targeting key is on the deny list"
    ALLOWED = "targeting key is on the allow list"
    OWN_WRITE = "read your writes: the copy is not complete yet"
    BUCKET = "bucket against weight"
    STAGE = "stage"


class Refusal(enum.Enum):
    """Why a request is answered 503 by the proxy itself."""

    KILLED_WITH_MOVED_DATA = "killed, and extracted owns the data"
    RETIRED = "retired: the monolith's copy is dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with one request. Interned per route: compare by identity or value.

    `mirror` is the origin that may get a copy (subject to sampling), `hold` that a cutover is going on and the request
    has to wait, `refuse` that the proxy answers 503 itself.
    """

    serve: Origin
    cluster: Cluster
    mirror: Origin | None
    reason: Reason
    hold: bool = False
    refuse: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a request beyond its route.

    `bucket` 0..9999 of its targeting key; `killed`: the flag's kill switch is on; `override`: origin asked for by a
    trusted caller; `own_write`: this subject wrote lately and the copy is not known to hold it.
    """

    method: str
    bucket: int
    targeting_key: str = ""
    killed: bool = False
    override: Origin | None = None
    own_write: bool = False


def is_safe(method: str) -> bool:
    """RFC 9110 9.2.1; unknown methods are unsafe."""
    return method in SAFE_METHODS


def decide(compiled: CompiledRoute, facts: Facts) -> Decision:
    """Decide one request of a matched route. Pure, total, allocation-free after the first of its kind."""
    flag = compiled.flag
    safe = facts.method in SAFE_METHODS
    hold = False
    refuse: Refusal | None = None
    if flag.owns_data and not safe:
        serve, reason = flag.owner, Reason.OWNER
        hold = flag.hold is not None
        if facts.killed and serve is Origin.EXTRACTED:
            reason, refuse, hold = Reason.KILLED, Refusal.KILLED_WITH_MOVED_DATA, False
    elif flag.stage is Stage.RETIRED:
        serve, reason = Origin.EXTRACTED, Reason.STAGE
        if facts.killed:
            reason, refuse = Reason.KILLED, Refusal.RETIRED
    elif facts.killed:
        serve, reason = Origin.MONOLITH, Reason.KILLED
    elif facts.override is not None:
        serve, reason = facts.override, Reason.OVERRIDE
    else:
        serve, reason = _by_stage(flag, facts, safe=safe)
    if flag.stage is Stage.RETIRED and serve is Origin.MONOLITH:
        refuse = Refusal.RETIRED
    return _intern(compiled, serve, reason, hold, refuse)


def _by_stage(flag: Flag, facts: Facts, *, safe: bool) -> tuple[Origin, Reason]:
    row = STAGE_TABLE[flag.stage]
    wanted = row.safe if safe else row.unsafe
    if facts.targeting_key in flag.deny:
        return Origin.MONOLITH, Reason.DENIED
    if facts.targeting_key in flag.allow:
        return Origin.EXTRACTED, Reason.ALLOWED
    if facts.own_write and flag.owns_data:
        return flag.owner, Reason.OWN_WRITE
    if wanted is Serve.BY_WEIGHT:
        return (Origin.EXTRACTED if facts.bucket < flag.weight else Origin.MONOLITH), Reason.BUCKET
    return (Origin.EXTRACTED if wanted is Serve.EXTRACTED else Origin.MONOLITH), Reason.STAGE


def _intern(compiled: CompiledRoute, serve: Origin, reason: Reason, hold: bool, refuse: Refusal | None) -> Decision:
    key = (serve, reason, hold, refuse)
    found = compiled.decisions.get(key)
    if found is None:
        mirrors = STAGE_TABLE[compiled.flag.stage].mirror is Mirror.OTHER and refuse is None
        found = Decision(
            serve=serve,
            cluster=compiled.clusters[serve],
            mirror=serve.other if mirrors else None,
            reason=reason,
            hold=hold,
            refuse=refuse,
        )
        compiled.decisions[key] = found
    assert isinstance(found, Decision)
    return found
