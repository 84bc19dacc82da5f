"""What applying declarations means, as values: which capabilities change, and what their flags become."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.errors import DeclarationError, GateRefused
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.documents import Document, capability_document

TABLE_SUBJECT = "*"
"""Subject of audit entries that concern the table as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """All that is declared and switched at one revision."""

    revision: int
    default_cluster: str
    capabilities: Mapping[str, Capability]
    flags: Mapping[str, Flag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What an `apply` will write. Nothing to write: no capability, and the default cluster is the known one."""

    capabilities: tuple[Capability, ...]
    flags: Mapping[str, Flag]
    default_cluster: str
    default_changed: bool

    @property
    def empty(self) -> bool:
        """Is it all as it was?"""
        return not self.capabilities and not self.default_changed


def plan_apply(
    known: Declared,
    given: Sequence[Capability],
    default_cluster: str | None,
    *,
    at: dt.datetime,
    by: str,
    reason: str,
) -> Application:
    """What changes when `given` is applied. Raises DeclarationError with all problems, GateRefused during a cutover."""
    keys = [capability.key for capability in given]
    problems = [f'capability "{key}" is given twice' for key in sorted({k for k in keys if keys.count(k) > 1})]
    wanted = [normalised(capability) for capability in given]
    for capability in wanted:
        problems += _problems(capability, known.flags.get(capability.key))
    if problems:
        raise DeclarationError(problems)
    changed = tuple(c for c in wanted if known.capabilities.get(c.key) != c)
    default = known.default_cluster if default_cluster is None else default_cluster
    if default == "" and wanted:
        raise DeclarationError(["no default cluster is declared: name the one that gets what no route matches"])
    fresh = Flag(key="", stage=Stage.MONOLITH, changed_at=at, changed_by=by, reason=reason)
    flags = {c.key: flag_of(c, known.flags.get(c.key, fresh)) for c in changed}
    merged = {**known.capabilities, **{c.key: c for c in changed}}
    plan = Application(
        capabilities=changed, flags=flags, default_cluster=default, default_changed=default != known.default_cluster
    )
    if not plan.empty:
        compile_table(known.revision + 1, {**known.flags, **flags}.values(), merged.values(), default)
        _refuse_during_a_cutover(flags.values())
    return plan


def normalised(capability: Capability) -> Capability:
    """With the salt that is used: the key where the file names none."""
    return dataclasses.replace(capability, salt=capability.salt or capability.key)


def flag_of(capability: Capability, start: Flag) -> Flag:
    """The flag with the capability's declared values; what is switched stays as it is."""
    return dataclasses.replace(
        start,
        key=capability.key,
        salt=capability.salt or capability.key,
        owns_data=capability.owns_data,
        allow=capability.allow,
        deny=capability.deny,
        fallback_safe=capability.fallback_safe,
        mirror_sample=capability.mirror_sample,
    )


def account_of(plan: Application, known: Declared) -> list[tuple[str, Document, Document]]:
    """Subject, before and after of each audit entry of an `apply`."""
    said: list[tuple[str, Document, Document]] = []
    for capability in plan.capabilities:
        old = known.capabilities.get(capability.key)
        before = {} if old is None else capability_document(old)
        said.append((capability.key, before, capability_document(capability)))
    if plan.default_changed:
        before, after = ({"default_cluster": name} for name in (known.default_cluster, plan.default_cluster))
        said.append((TABLE_SUBJECT, before, after))
    return said


def compile_table(
    revision: int, flags: Iterable[Flag], capabilities: Iterable[Capability], default_cluster: str
) -> RoutingTable:
    """The routing table of these declarations. Raises DeclarationError."""
    declared = list(capabilities)
    return RoutingTable.compile(
        revision=revision,
        flags=flags,
        routes=[route for capability in declared for route in capability.routes],
        clusters=united((capability.key, cluster) for capability in declared for cluster in capability.clusters),
        default_cluster=default_cluster,
    )


def united(declared: Iterable[tuple[str, Cluster]]) -> list[Cluster]:
    """Clusters of all capabilities, each once. Several may declare the same one, but not differently."""
    found: dict[str, tuple[str, Cluster]] = {}
    problems = []
    for key, cluster in declared:
        first, known = found.setdefault(cluster.name, (key, cluster))
        if known != cluster:
            ours, theirs = (", ".join(map(str, c.endpoints)) or "nothing" for c in (known, cluster))
            problems.append(f'cluster "{cluster.name}" is {ours} in "{first}", but {theirs} in "{key}"')
    if problems:
        raise DeclarationError(problems)
    return [cluster for _, cluster in found.values()]


def undeclared() -> RoutingTable:
    """The table of a database where nothing was applied yet: no default cluster, so nobody can serve from it."""
    return RoutingTable(
        revision=0, flags={}, routes=(), clusters={}, default_cluster=Cluster(name="", endpoints=()), hosts={}
    )


def _problems(capability: Capability, known: Flag | None) -> list[str]:
    where = f'capability "{capability.key}"'
    problems = [
        f'{where}: route "{route.name}" names the flag "{route.flag}": routes of a file belong to its own flag'
        for route in capability.routes
        if route.flag != capability.key
    ]
    if capability.manifest is not None and capability.manifest.flag != capability.key:
        problems.append(f'{where}: its manifest names the flag "{capability.manifest.flag}"')
    if not 0 <= capability.mirror_sample <= 10_000:
        problems.append(f"{where}: mirror sample {capability.mirror_sample} is outside 0..10000")
    if known is not None and known.owns_data and not capability.owns_data and known.owner is Origin.EXTRACTED:
        problems.append(f"{where}: its manifest cannot be dropped while extracted owns the data")
    return problems


def _refuse_during_a_cutover(flags: Iterable[Flag]) -> None:
    held = sorted(flag.key for flag in flags if flag.hold is not None)
    if held:
        raise GateRefused(
            f"a cutover of {', '.join(held)} holds requests: apply again when it is over",
            next_command=f"strangler status {held[0]}",
        )
