"""Policies of clusters and routes as JSON documents, and back. What a document leaves out has its default.

A field that this code does not know is passed over: a newer release may have written it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from strangler_proxy.core.balance import Balance
from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.core.rate import Rate
from strangler_proxy.core.route import Cluster, Route

Document = dict[str, Any]
P = TypeVar("P", BreakerPolicy, OutlierPolicy, ProbePolicy, Rate)


def cluster_policy(cluster: Cluster) -> Document:
    """What a cluster declares beyond its name and endpoints."""
    return {
        "balance": cluster.balance.value,
        "max_pending": cluster.max_pending,
        "slow_start_s": cluster.slow_start_s,
        "outlier": dataclasses.asdict(cluster.outlier),
        "probe": None if cluster.probe is None else dataclasses.asdict(cluster.probe),
    }


def cluster_policy_from(document: Mapping[str, Any]) -> Document:
    """Keyword arguments of `Cluster`. Raises KeyError, TypeError or ValueError for what makes no sense."""
    found: Document = {"outlier": _read(OutlierPolicy, document.get("outlier") or {})}
    if document.get("probe"):
        found["probe"] = _read(ProbePolicy, document["probe"])
    if "balance" in document:
        found["balance"] = Balance(document["balance"])
    if "max_pending" in document:
        found["max_pending"] = int(document["max_pending"])
    if "slow_start_s" in document:
        found["slow_start_s"] = float(document["slow_start_s"])
    return found


def route_policy(route: Route) -> Document:
    """What a route declares for the case that its upstreams are sick or its callers too many."""
    return {
        "breaker": dataclasses.asdict(route.breaker),
        "rate": None if route.rate is None else dataclasses.asdict(route.rate),
        "idempotency_key": route.idempotency_key,
        "mirror_sample": route.mirror_sample,
    }


def route_policy_from(document: Mapping[str, Any]) -> Document:
    """Keyword arguments of `Route`. Raises KeyError, TypeError or ValueError for what makes no sense."""
    sample = document.get("mirror_sample")
    return {
        "mirror_sample": None if sample is None else int(sample),
        "breaker": _read(BreakerPolicy, document.get("breaker") or {}),
        "rate": _read(Rate, document["rate"]) if document.get("rate") else None,
        "idempotency_key": bool(document.get("idempotency_key", False)),
    }


def _read(kind: type[P], values: Mapping[str, Any]) -> P:
    kinds = get_type_hints(kind)
    return kind(**{name: kinds[name](value) for name, value in values.items() if name in kinds})
