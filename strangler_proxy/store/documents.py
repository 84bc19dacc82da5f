"""Core values as JSON documents and back: manifests, capabilities and whole tables.

The database keeps manifests and audit entries this way, a proxy keeps its table on disk this way, and the control
plane sends capabilities this way. Reading raises DeclarationError, never KeyError: documents come from outside.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.flag import Flag, Hold
from strangler_proxy.core.manifest import Column, Manifest, OnDelete, SoftReference, Table
from strangler_proxy.core.pause import Pause
from strangler_proxy.core.route import Access, Cluster, Endpoint, Predicate, Route, Timeouts
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.judging_documents import judging_document, judging_from
from strangler_proxy.store.policies import cluster_policy, cluster_policy_from, route_policy, route_policy_from

Document = dict[str, Any]
T = TypeVar("T")

TABLE_SCHEMA_VERSION = 1


def time_text(at: dt.datetime | None) -> str | None:
    """UTC, ISO 8601, microseconds, `Z`.

    >>> time_text(dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC))
    '2026-11-22T12:00:00.000000Z'
    """
    return None if at is None else at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def paused_document(pause: Pause) -> Document:
    """A pause as JSON."""
    return {"since": time_text(pause.since), "by": pause.by, "reason": pause.reason, "drift": pause.drift}


def time_from(text: str | None) -> dt.datetime | None:
    """The time that `time_text` wrote."""
    return None if text is None else dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def parsed(what: str, read: Callable[[], T]) -> T:
    """What `read` returns; whatever a malformed document makes it raise becomes a DeclarationError that names it."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeclarationError([f"{what} cannot be read: {type(error).__name__}: {error}"]) from error


def cluster_document(cluster: Cluster) -> Document:
    """`{"name", "endpoints": ["host:port", ...], "policy": {...}}`."""
    endpoints = [str(endpoint) for endpoint in cluster.endpoints]
    return {"name": cluster.name, "endpoints": endpoints, "policy": cluster_policy(cluster)}


def cluster_from(document: Mapping[str, Any]) -> Cluster:
    """The cluster of a document."""
    return parsed(
        f"cluster {document.get('name')!r}",
        lambda: Cluster(
            name=str(document["name"]),
            endpoints=tuple(map(_endpoint, document["endpoints"])),
            **cluster_policy_from(document.get("policy") or {}),
        ),
    )


def _endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(host=host, port=int(port))


def route_document(route: Route) -> Document:
    """All fields of a route; clusters by origin."""
    limits = route.timeouts
    return {
        "name": route.name,
        "flag": route.flag,
        "host": route.host,
        "path": route.path,
        "methods": sorted(route.methods),
        "headers": [[p.name, p.value] for p in route.headers],
        "query": [[p.name, p.value] for p in route.query],
        "clusters": {origin.value: name for origin, name in route.clusters.items()},
        "timeouts": {name: getattr(limits, name) for name in Timeouts.__slots__},
        "access": route.access.value,
        "retries": route.retries,
        "fallback": route.fallback,
        "policy": route_policy(route),
    }


def route_from(document: Mapping[str, Any]) -> Route:
    """The route of a document."""
    return parsed(
        f"route {document.get('name')!r}",
        lambda: Route(
            name=str(document["name"]),
            flag=str(document["flag"]),
            host=document["host"],
            path=document["path"],
            methods=frozenset(document["methods"]),
            headers=tuple(Predicate(name=name, value=value) for name, value in document["headers"]),
            query=tuple(Predicate(name=name, value=value) for name, value in document["query"]),
            clusters={Origin(origin): name for origin, name in document["clusters"].items()},
            timeouts=Timeouts(**{name: float(value) for name, value in document["timeouts"].items()}),
            access=Access(document["access"]),
            retries=int(document["retries"]),
            fallback=bool(document["fallback"]),
            **route_policy_from(document.get("policy") or {}),
        ),
    )


def hold_document(hold: Hold | None) -> Document | None:
    """`{"cutover_id", "deadline_at"}` or None."""
    return None if hold is None else {"cutover_id": hold.cutover_id, "deadline_at": time_text(hold.deadline_at)}


def _hold_from(document: Mapping[str, Any] | None) -> Hold | None:
    if document is None:
        return None
    deadline = time_from(document["deadline_at"])
    if deadline is None:
        raise ValueError("a hold needs a deadline")
    return Hold(cutover_id=document["cutover_id"], deadline_at=deadline)


def flag_document(flag: Flag) -> Document:
    """All fields of a flag."""
    return {
        "key": flag.key,
        "stage": flag.stage.value,
        "weight": flag.weight,
        "salt": flag.salt,
        "owns_data": flag.owns_data,
        "owner": flag.owner.value,
        "owner_epoch": flag.owner_epoch,
        "hold": hold_document(flag.hold),
        "allow": sorted(flag.allow),
        "deny": sorted(flag.deny),
        "fallback_safe": flag.fallback_safe,
        "mirror_sample": flag.mirror_sample,
        "replicated_through": time_text(flag.replicated_through),
        "changed_at": time_text(flag.changed_at),
        "changed_by": flag.changed_by,
        "reason": flag.reason,
    }


def flag_from(document: Mapping[str, Any]) -> Flag:
    """The flag of a document."""
    return parsed(
        f"flag {document.get('key')!r}",
        lambda: Flag(
            key=str(document["key"]),
            stage=Stage(document["stage"]),
            weight=int(document["weight"]),
            salt=document["salt"],
            owns_data=bool(document["owns_data"]),
            owner=Origin(document["owner"]),
            owner_epoch=int(document["owner_epoch"]),
            hold=_hold_from(document["hold"]),
            allow=frozenset(document["allow"]),
            deny=frozenset(document["deny"]),
            fallback_safe=bool(document["fallback_safe"]),
            mirror_sample=int(document["mirror_sample"]),
            replicated_through=time_from(document["replicated_through"]),
            changed_at=time_from(document["changed_at"]),
            changed_by=document["changed_by"],
            reason=document["reason"],
        ),
    )


def manifest_document(manifest: Manifest) -> Document:
    """The ownership manifest: databases, tables with columns, keys, references, sequences and totals."""
    return {
        "flag": manifest.flag,
        "databases": {origin.value: name for origin, name in manifest.databases.items()},
        "idempotency_table": manifest.idempotency_table,
        "retire_after_days": manifest.retire_after_days,
        "keep_copy": manifest.keep_copy,
        "tables": [
            {
                "monolith": table.monolith,
                "extracted": table.extracted,
                "key": list(table.key),
                "columns": [[column.monolith, column.extracted] for column in table.columns],
                "sequence": table.sequence,
                "soft_references": [[ref.column, ref.references, ref.on_delete.value] for ref in table.soft_references],
                "money": list(table.money),
                "money_by": list(table.money_by),
            }
            for table in manifest.tables
        ],
    }


def manifest_from(document: Mapping[str, Any]) -> Manifest:
    """The manifest of a document."""
    return parsed(
        f"manifest of {document.get('flag')!r}",
        lambda: Manifest(
            flag=str(document["flag"]),
            databases={Origin(origin): name for origin, name in document["databases"].items()},
            tables=tuple(map(_moved_table, document["tables"])),
            idempotency_table=document["idempotency_table"],
            retire_after_days=int(document.get("retire_after_days", 14)),
            keep_copy=bool(document.get("keep_copy", False)),
        ),
    )


def _moved_table(document: Mapping[str, Any]) -> Table:
    return Table(
        monolith=document["monolith"],
        extracted=document["extracted"],
        key=tuple(document["key"]),
        columns=tuple(Column(monolith=one, extracted=other) for one, other in document["columns"]),
        sequence=document["sequence"],
        soft_references=tuple(
            SoftReference(column=column, references=references, on_delete=OnDelete(on_delete))
            for column, references, on_delete in document["soft_references"]
        ),
        money=tuple(document["money"]),
        money_by=tuple(document["money_by"]),
    )


def capability_document(capability: Capability) -> Document:
    """Everything that a capability file declares, its text included."""
    return {
        "key": capability.key,
        "file_name": capability.file_name,
        "file_text": capability.file_text,
        "routes": [route_document(route) for route in capability.routes],
        "clusters": [cluster_document(cluster) for cluster in capability.clusters],
        "salt": capability.salt,
        "manifest": None if capability.manifest is None else manifest_document(capability.manifest),
        "allow": sorted(capability.allow),
        "deny": sorted(capability.deny),
        "fallback_safe": capability.fallback_safe,
        "mirror_sample": capability.mirror_sample,
        "judging": judging_document(capability.judging),
    }


def capability_from(document: Mapping[str, Any]) -> Capability:
    """The capability of a document."""
    return parsed(
        f"capability {document.get('key')!r}",
        lambda: Capability(
            key=str(document["key"]),
            file_name=document["file_name"],
            file_text=document["file_text"],
            routes=tuple(map(route_from, document["routes"])),
            clusters=tuple(map(cluster_from, document["clusters"])),
            salt=document["salt"],
            manifest=None if document["manifest"] is None else manifest_from(document["manifest"]),
            allow=frozenset(document["allow"]),
            deny=frozenset(document["deny"]),
            fallback_safe=bool(document["fallback_safe"]),
            mirror_sample=int(document["mirror_sample"]),
            judging=judging_from(document.get("judging", {})),
        ),
    )


def table_document(table: RoutingTable) -> Document:
    """A routing table as declared values; compiled again when it is read."""
    return {
        "schema_version": TABLE_SCHEMA_VERSION,
        "revision": table.revision,
        "default_cluster": table.default_cluster.name,
        "clusters": [cluster_document(cluster) for cluster in table.clusters.values()],
        "flags": [flag_document(flag) for flag in table.flags.values()],
        "routes": [route_document(route) for route in table.routes],
    }


def table_from(document: Mapping[str, Any]) -> RoutingTable:
    """The table of a document. Raises DeclarationError also where it does not compile."""
    if document.get("schema_version") != TABLE_SCHEMA_VERSION:
        raise DeclarationError([f"a table of schema version {document.get('schema_version')!r} cannot be read here"])
    return parsed(
        "the table",
        lambda: RoutingTable.compile(
            revision=int(document["revision"]),
            flags=list(map(flag_from, document["flags"])),
            routes=list(map(route_from, document["routes"])),
            clusters=list(map(cluster_from, document["clusters"])),
            default_cluster=document["default_cluster"],
        ),
    )
