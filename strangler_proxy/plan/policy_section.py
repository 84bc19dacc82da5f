"""The parts of clusters and routes that say what happens when upstreams are sick or callers too many."""

from __future__ import annotations

import re
from typing import Any

from strangler_proxy.core.balance import Balance
from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.bucketing import BUCKETS, parse_weight
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.core.rate import Rate
from strangler_proxy.core.route import Cluster
from strangler_proxy.plan.fields import Fields

_BALANCE = {rule.value: rule for rule in Balance}
_TARGET = re.compile(r"/[!-~]{0,1023}")
_CLUSTER = Cluster(name="", endpoints=())
_MOST_PENDING = 1_000_000
_MOST_A_SECOND = 100_000


def cluster_policies(fields: Fields) -> dict[str, Any]:
    """Keyword arguments of `Cluster`."""
    return {
        "balance": fields.choice("balance", _BALANCE, _CLUSTER.balance),
        "max_pending": fields.whole("max_pending", _CLUSTER.max_pending, 1, _MOST_PENDING),
        "slow_start_s": _seconds_or_none(fields, "slow_start_s", _CLUSTER.slow_start_s),
        "outlier": _outlier(fields.table("outlier", f"{fields.what}, outlier")),
        "probe": _probe(fields.table("probe", f"{fields.what}, probe")) if fields.has("probe") else None,
    }


def route_policies(fields: Fields) -> dict[str, Any]:
    """Keyword arguments of `Route`."""
    return {
        "breaker": _breaker(fields.table("breaker", f"{fields.what}, breaker")),
        "rate": _rate(fields.table("rate", f"{fields.what}, rate")) if fields.has("rate") else None,
        "idempotency_key": fields.flag("idempotency_key", False),
        "mirror_sample": sample(fields) if fields.has("mirror_sample") else None,
    }


def sample(fields: Fields) -> int:
    """`mirror_sample`: "10%" or 0..10000, all where it is left out."""
    if isinstance(fields.values.get("mirror_sample"), str):
        try:
            return parse_weight(fields.text("mirror_sample"))
        except ValueError as error:
            fields.problem("mirror_sample", str(error).replace("weight", "mirror_sample", 1))
            return BUCKETS
    return fields.whole("mirror_sample", BUCKETS, 0, BUCKETS)


def _breaker(fields: Fields) -> BreakerPolicy:
    usual = BreakerPolicy()
    found = BreakerPolicy(
        failures=fields.whole("failures", usual.failures, 0, 100_000),
        share=fields.whole("share", usual.share, 1, 100),
        window_s=fields.seconds("window_s", usual.window_s, 3_600),
        open_s=fields.seconds("open_s", usual.open_s, 3_600),
        trials=fields.whole("trials", usual.trials, 1, 1_000),
    )
    fields.finish()
    return found


def _outlier(fields: Fields) -> OutlierPolicy:
    usual = OutlierPolicy()
    found = OutlierPolicy(
        failures=fields.whole("failures", usual.failures, 0, 100_000),
        eject_s=fields.seconds("eject_s", usual.eject_s, 3_600),
        longest_s=fields.seconds("longest_s", usual.longest_s),
        share=fields.whole("share", usual.share, 0, 99),
    )
    if found.longest_s < found.eject_s:
        fields.problem("longest_s", f"longest_s {found.longest_s:g} is less than eject_s {found.eject_s:g}")
    fields.finish()
    return found


def _probe(fields: Fields) -> ProbePolicy:
    usual = ProbePolicy(path="/")
    path = fields.text("path")
    if path and not _TARGET.fullmatch(path):
        fields.problem("path", f'path "{path}" is not the target of a request (it begins with "/")')
    found = ProbePolicy(
        path=path,
        interval_s=fields.seconds("interval_s", usual.interval_s, 3_600),
        timeout_s=fields.seconds("timeout_s", usual.timeout_s, 60),
        unwell=fields.whole("unwell", usual.unwell, 1, 100),
        well=fields.whole("well", usual.well, 1, 100),
    )
    fields.finish()
    return found


def _rate(fields: Fields) -> Rate | None:
    per_s, burst = fields.values.get("per_s"), fields.whole("burst", 0, 1, 1_000_000) if fields.has("burst") else 0
    fields.has("per_s")
    if isinstance(per_s, bool) or not isinstance(per_s, int | float) or not 0 < per_s <= _MOST_A_SECOND:
        fields.problem("per_s", f"per_s must be a number of requests a second, 0 < per_s <= {_MOST_A_SECOND}")
        per_s = 1
    fields.finish()
    return Rate(per_s=float(per_s), burst=burst or max(1, round(per_s)))


def _seconds_or_none(fields: Fields, key: str, default: float) -> float:
    """Seconds, where 0 means not at all."""
    value = fields.values.get(key)
    if value == 0 and not isinstance(value, bool):
        fields.has(key)
        return 0.0
    return fields.seconds(key, default, 3_600)
