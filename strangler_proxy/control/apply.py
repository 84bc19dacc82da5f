"""The verb `apply`: what capability files declare becomes the table."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from strangler_proxy.control.known import check_revision
from strangler_proxy.core.capability import Capability
from strangler_proxy.core.declaration import Change, declared_changes
from strangler_proxy.core.errors import RevisionMoved, UnknownName
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.plan import Plans
from strangler_proxy.store import Store
from strangler_proxy.store.declared import Declared, plan_apply

_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was declared anew, or would be (`dry_run`). `unmentioned`: flags of the table that none of the files has."""

    changes: tuple[Change, ...]
    flags: tuple[str, ...]
    revision_before: int
    revision: int
    unmentioned: tuple[str, ...] = ()
    dry_run: bool = False


async def apply(
    store: Store, plans: Plans, *, by: str, reason: str = "", if_revision: int | None = None, dry_run: bool = False
) -> Applied:
    """Write declarations, all or nothing. Raises DeclarationError, RevisionMoved, GateRefused (a cutover holds)."""
    for _ in range(_TRIES):
        table = await store.records.table()
        check_revision(table, if_revision)
        changes = declared_changes(
            table,
            await _manifests(store, table),
            plans.capabilities,
            plans.default_cluster,
            {key: await store.manifests.judging(key) for key in table.flags},
        )
        revision = table.revision
        if dry_run:
            if changes:
                _check(table, plans)
        else:
            try:
                revision = await store.switches.apply(
                    plans.capabilities,
                    default_cluster=plans.default_cluster,
                    by=by,
                    reason=reason,
                    expected_revision=table.revision,
                )
            except RevisionMoved:
                if if_revision is not None:
                    raise
                continue
        keys = tuple(capability.key for capability in plans.capabilities)
        return Applied(
            changes=changes,
            flags=keys,
            revision_before=table.revision,
            revision=revision,
            unmentioned=tuple(sorted(table.flags.keys() - set(keys))),
            dry_run=dry_run,
        )
    raise RevisionMoved(
        "the flag table changes faster than it can be compared: nothing was applied", next_command="strangler watch"
    )


async def _manifests(store: Store, table: RoutingTable) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for flag in table.flags.values():
        if flag.owns_data:
            try:
                found[flag.key] = await store.manifests.manifest(flag.key)
            except UnknownName:
                continue  # applied away in this moment
    return found


def _check(table: RoutingTable, plans: Plans) -> None:
    """What the store would refuse, asked of the same function with the table as it is."""
    plan_apply(
        Declared(
            revision=table.revision,
            default_cluster=table.default_cluster.name,
            capabilities={key: _as_declared(table, key) for key in table.flags},
            flags=table.flags,
        ),
        plans.capabilities,
        plans.default_cluster,
        at=dt.datetime.now(dt.UTC),
        by="",
        reason="",
    )


def _as_declared(table: RoutingTable, key: str) -> Capability:
    routes = tuple(route for route in table.routes if route.flag == key)
    used = {name for route in routes for name in route.clusters.values()} | {table.default_cluster.name}
    clusters = tuple(cluster for name, cluster in table.clusters.items() if name in used)
    return Capability(key=key, file_name="", file_text="", routes=routes, clusters=clusters)
