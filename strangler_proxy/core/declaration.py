"""What applying declarations would change, line by line, for the person who reads before saying yes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.capability import Capability
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.core.rate import Rate
from strangler_proxy.core.route import Cluster, Predicate, Route, Timeouts
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.core.verdict import Demands

Policy = BreakerPolicy | OutlierPolicy | ProbePolicy | Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One declared thing that differs. `sign` is `+` (new), `-` (gone) or `~` (other values, then `field` is set)."""

    sign: str
    subject: str
    field: str = ""
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if self.sign == "~":
            return f"~ {self.subject}: {self.field} {self.before or '-'} -> {self.after or '-'}"
        return f"{self.sign} {self.subject} {self.after or self.before}".rstrip()


def declared_changes(
    table: RoutingTable,
    manifests: Mapping[str, Manifest],
    given: Sequence[Capability],
    default_cluster: str | None,
    judgings: Mapping[str, Judging] = MappingProxyType({}),
) -> tuple[Change, ...]:
    """All differences between the table (with manifests and what is judged how, by flag) and the given capabilities."""
    found = list(_changes(table, manifests, given, default_cluster))
    for capability in given:
        found += _judging(capability.key, judgings.get(capability.key) or Judging(), capability.judging)
    return tuple(found)


def _changes(
    table: RoutingTable, manifests: Mapping[str, Manifest], given: Sequence[Capability], default_cluster: str | None
) -> Iterator[Change]:
    before = table.default_cluster.name
    if default_cluster is not None and default_cluster != before:
        yield Change(sign="~", subject="table", field="default cluster", before=before, after=default_cluster)
    seen: set[str] = set()
    for capability in given:
        yield from _flag(table.flags.get(capability.key), capability)
        for cluster in capability.clusters:
            if cluster.name not in seen:
                seen.add(cluster.name)
                yield from _cluster(table.clusters.get(cluster.name), cluster)
        known = {route.name: route for route in table.routes if route.flag == capability.key}
        for route in capability.routes:
            yield from _pair(f'route "{route.name}"', _route(known.pop(route.name, None)), _route(route), route.path)
        for route in known.values():
            yield Change(sign="-", subject=f'route "{route.name}"', before=route.path)
        yield from _manifest(capability.key, manifests.get(capability.key), capability.manifest)


def _flag(known: Flag | None, capability: Capability) -> Iterator[Change]:
    wanted = _declared(capability, capability.salt or capability.key, capability.owns_data)
    before = None if known is None else _declared(known, known.salt, known.owns_data)
    yield from _pair(f'flag "{capability.key}"', before, wanted, "at monolith")


def _declared(one: Flag | Capability, salt: str, owns_data: bool) -> dict[str, str]:
    return {
        "salt": salt,
        "owns data": _word(owns_data),
        "allow": ", ".join(sorted(one.allow)),
        "deny": ", ".join(sorted(one.deny)),
        "fallback_safe": _word(one.fallback_safe),
        "mirror_sample": str(one.mirror_sample),
    }


def _cluster(known: Cluster | None, wanted: Cluster) -> Iterator[Change]:
    before = None if known is None else _declared_cluster(known)
    after = _declared_cluster(wanted)
    yield from _pair(f'cluster "{wanted.name}"', before, after, after["endpoints"])


def _declared_cluster(cluster: Cluster) -> dict[str, str]:
    return {
        "endpoints": ", ".join(map(str, cluster.endpoints)),
        "balance": cluster.balance.value,
        "max_pending": str(cluster.max_pending),
        "slow_start_s": f"{cluster.slow_start_s:g}",
        "outlier": _policy(cluster.outlier),
        "probe": _policy(cluster.probe),
    }


def _policy(policy: Policy | None) -> str:
    """`failures=10 share=50`."""
    if policy is None:
        return ""
    values = ((field.name, getattr(policy, field.name)) for field in fields(policy))
    return " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values)


def _route(route: Route | None) -> dict[str, str] | None:
    if route is None:
        return None
    shown = {
        "host": route.host,
        "path": route.path,
        "methods": " ".join(sorted(route.methods)),
        "headers": _predicates(route.headers),
        "query": _predicates(route.query),
        "access": route.access.value,
        "retries": str(route.retries),
        "fallback": _word(route.fallback),
        "breaker": _policy(route.breaker),
        "rate": _policy(route.rate),
        "idempotency_key": _word(route.idempotency_key),
        "mirror_sample": "" if route.mirror_sample is None else str(route.mirror_sample),
    }
    shown |= {f"{origin.value} cluster": route.clusters.get(origin, "") for origin in Origin}
    return shown | {field.name: f"{getattr(route.timeouts, field.name):g}" for field in fields(Timeouts)}


def _predicates(predicates: tuple[Predicate, ...]) -> str:
    return ", ".join(p.name if p.value is None else f"{p.name}={p.value}" for p in predicates)


def _manifest(key: str, known: Manifest | None, wanted: Manifest | None) -> Iterator[Change]:
    before = {} if known is None else _rows(known)
    after = {} if wanted is None else _rows(wanted)
    for name, values in after.items():
        yield from _pair(f'data "{key}" {name}', before.pop(name, None), values, "")
    for name in before:
        yield Change(sign="-", subject=f'data "{key}" {name}')


def _rows(manifest: Manifest) -> dict[str, dict[str, str]]:
    shown = {
        "databases": {
            **{origin.value: manifest.databases.get(origin, "") for origin in Origin},
            "idempotency_table": manifest.idempotency_table or "",
        }
    }
    for table in manifest.tables:
        shown[f"table {table.monolith}"] = {
            "extracted": table.extracted,
            "key": ", ".join(table.key),
            "columns": ", ".join(f"{column.monolith}={column.extracted}" for column in table.columns),
            "sequence": table.sequence or "",
            "soft_references": ", ".join(
                f"{ref.column}->{ref.references} {ref.on_delete.value}" for ref in table.soft_references
            ),
            "money": ", ".join(table.money),
            "money_by": ", ".join(table.money_by),
        }
    return shown


def _judging(key: str, known: Judging, wanted: Judging) -> Iterator[Change]:
    before, after = ({rule.id: _rule(rule) for rule in one.rules} for one in (known, wanted))
    for name, values in after.items():
        yield from _pair(f'compare rule "{key}" "{name}"', before.pop(name, None), values, values["path"])
    for name, values in before.items():
        yield Change(sign="-", subject=f'compare rule "{key}" "{name}"', before=values["path"])
    yield from _pair(f'evidence "{key}"', _evidence(known), _evidence(wanted), "")


def _rule(rule: Rule) -> dict[str, str]:
    values = ((field.name, getattr(rule, field.name)) for field in fields(Rule))
    return {name: _shown(value) for name, value in values if name != "id"}


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(kind.value for kind in value))
    return "" if value is None else str(value.value) if isinstance(value, RuleKind) else str(value)


def _evidence(judging: Judging) -> dict[str, str]:
    return {
        "required": _word(judging.required),
        "fresh_hours": f"{judging.fresh_s / 3_600:g}",
        "coverage": f"{judging.coverage:g}",
        "demands": _demands(judging.demands),
        "routes": "; ".join(f"{name}: {_demands(each)}" for name, each in sorted(judging.routes.items())),
    }


def _demands(demands: Demands) -> str:
    return f"limit={demands.limit:g} pairs={demands.min_pairs} hours={demands.min_seconds / 3_600:g}"


def _pair(subject: str, before: dict[str, str] | None, after: dict[str, str] | None, says: str) -> Iterator[Change]:
    if before is None:
        yield Change(sign="+", subject=subject, after=says)
        return
    for field, value in (after or {}).items():
        if before.get(field) != value:
            yield Change(sign="~", subject=subject, field=field, before=before.get(field, ""), after=value)


def _word(value: bool) -> str:
    return "yes" if value else "no"
