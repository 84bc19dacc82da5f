"""Rows in, core values out, and back. Malformed rows raise DeclarationError."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.types.json import Json, Jsonb

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.ports import AuditEntry, Heartbeat, Operation
from strangler_proxy.core.route import Cluster, Route
from strangler_proxy.core.stage import Origin
from strangler_proxy.store.documents import (
    cluster_document,
    cluster_from,
    flag_document,
    flag_from,
    manifest_document,
    manifest_from,
    parsed,
    route_document,
    route_from,
    time_text,
)
from strangler_proxy.store.judging_documents import judging_document, judging_from

Row = Mapping[str, Any]
Values = dict[str, Any]


def utc(at: dt.datetime | None) -> dt.datetime | None:
    """The same moment in UTC, whatever the session's time zone is."""
    return None if at is None else at.astimezone(dt.UTC)


def flag_of_row(row: Row) -> Flag:
    """A row of `flag`."""
    hold = None
    if row["hold_id"] is not None:
        hold = {"cutover_id": row["hold_id"], "deadline_at": time_text(row["hold_deadline_at"])}
    times = {name: time_text(row[name]) for name in ("replicated_through", "changed_at")}
    return flag_from({**row, **times, "hold": hold})


def flag_values(flag: Flag, revision: int) -> Values:
    """Parameters for writing a flag."""
    hold = flag.hold
    return {
        **flag_document(flag),
        "hold_id": None if hold is None else hold.cutover_id,
        "hold_deadline_at": None if hold is None else hold.deadline_at,
        "changed_at": flag.changed_at,
        "revision": revision,
    }


def route_of_row(row: Row) -> Route:
    """A row of `route`."""
    return route_from(
        {**row, "clusters": {origin.value: row[f"{origin.value}_cluster"] for origin in Origin}},
    )


def route_values(route: Route, position: int) -> Values:
    """Parameters for writing a route."""
    document = route_document(route)
    return {
        **document,
        **{name: Jsonb(document[name]) for name in ("headers", "query", "timeouts", "policy")},
        **{f"{origin.value}_cluster": route.clusters[origin] for origin in Origin},
        "position": position,
    }


def cluster_of_row(row: Row) -> Cluster:
    """A row of `cluster`."""
    return cluster_from(row)


def cluster_values(cluster: Cluster, capability: str, position: int) -> Values:
    """Parameters for writing a cluster."""
    document = cluster_document(cluster)
    return {**document, "policy": Jsonb(document["policy"]), "capability": capability, "position": position}


def capability_values(capability: Capability, *, at: dt.datetime, by: str) -> Values:
    """Parameters for writing a capability."""
    manifest = capability.manifest
    return {
        "key": capability.key,
        "file_name": capability.file_name,
        "file_text": capability.file_text,
        "manifest": None if manifest is None else Jsonb(manifest_document(manifest)),
        "judging": Json(judging_document(capability.judging)),
        "at": at,
        "by": by,
    }


def capability_of_rows(row: Row, flag: Flag, routes: Iterable[Route], clusters: Iterable[Cluster]) -> Capability:
    """A capability from its row, and the rows of its flag, routes and clusters."""
    return Capability(
        key=row["key"],
        file_name=row["file_name"],
        file_text=row["file_text"],
        routes=tuple(routes),
        clusters=tuple(clusters),
        salt=flag.salt,
        manifest=None if row["manifest"] is None else manifest_from(row["manifest"]),
        allow=flag.allow,
        deny=flag.deny,
        fallback_safe=flag.fallback_safe,
        mirror_sample=flag.mirror_sample,
        judging=parsed(f"judging of {row['key']!r}", lambda: judging_from(row["judging"])),
    )


def heartbeat_of_row(row: Row) -> Heartbeat:
    """A row of `proxy`."""
    return Heartbeat(**{**row, "started_at": utc(row["started_at"]), "seen_at": utc(row["seen_at"])})


def heartbeat_values(heartbeat: Heartbeat) -> Values:
    """Parameters for storing a report."""
    return {
        "proxy_id": heartbeat.proxy_id,
        "revision": heartbeat.revision,
        "unsafe_in_flight": Jsonb(dict(heartbeat.unsafe_in_flight)),
        "holding": Jsonb(dict(heartbeat.holding)),
        "refused_table": heartbeat.refused_table,
        "upstreams": Jsonb({kind: list(names) for kind, names in heartbeat.upstreams.items()}),
        "address": heartbeat.address,
        "started_at": heartbeat.started_at,
    }


def operation_of_row(row: Row, steps: Iterable[Row] = ()) -> Operation:
    """A row of `operation` with the rows of its steps."""
    return Operation(
        id=row["id"],
        kind=row["kind"],
        flag=row["flag"],
        args=row["args"],
        by=row["actor"],
        reason=row["reason"],
        status=row["status"],
        detail=row["detail"],
        steps=tuple({"name": s["name"], "detail": s["detail"], "at": time_text(s["at"]) or ""} for s in steps),
        requested_at=utc(row["requested_at"]),
        finished_at=utc(row["finished_at"]),
    )


def entry_of_row(row: Row) -> AuditEntry:
    """A row of `audit`."""
    return AuditEntry(**{**row, "at": row["at"].astimezone(dt.UTC)})


def entry_values(entry: AuditEntry) -> Values:
    """Parameters for writing an audit entry."""
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__}
    return {**values, "before": Jsonb(dict(entry.before)), "after": Jsonb(dict(entry.after))}
