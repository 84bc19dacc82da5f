"""The report of shadow mode as it is published; its schema is docs/reference/shadow-report.schema.json.

Fields are only added within one schema version. Everything in a report is redacted before it gets here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.strata import StratumKey, Unseen
from strangler_proxy.core.verdict import Judgement, Verdict

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedDifference:
    """One path and kind of a stratum: in `count` comparisons. `noise` is the share of A/A pairs with it, 0.0 .. 1.0.

    `covered` counts those of `count` that rules, noise or races cover; `sample` is the id of a kept comparison.
    """

    path: str
    kind: Kind
    count: int
    noise: float
    covered: int = 0
    confirmed: int = 0
    noise_pairs: int = 0
    control: str = ""
    candidate: str = ""
    sample: str = ""

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "path": self.path,
            "kind": self.kind.value,
            "count": self.count,
            "noise": round(self.noise, 6),
            "covered": self.covered,
            "confirmed": self.confirmed,
            "noise_pairs": self.noise_pairs,
            "control": self.control,
            "candidate": self.candidate,
            "sample": self.sample,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLatency:
    """Milliseconds of both sides and the median of the paired ratio (candidate over control)."""

    control_p50_ms: float
    control_p99_ms: float
    candidate_p50_ms: float
    candidate_p99_ms: float
    ratio_p50: float

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {name: round(float(getattr(self, name)), 3) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedStratum:
    """One stratum with its counts, verdict and differences.

    `requests` were eligible, compared or not; `limit` is the highest mismatch rate that the route accepts.
    """

    key: StratumKey
    matched: int
    mismatched: int
    ignored: int
    inconclusive: int
    judgement: Judgement
    route: str = ""
    requests: int = 0
    limit: float = 0.001
    differences: tuple[ReportedDifference, ...] = ()
    latency: ReportedLatency | None = None

    def document(self) -> dict[str, object]:
        """As JSON. `compared` is matched + mismatched + ignored."""
        judged = self.judgement
        return {
            **self.key.document(),
            "route": self.route,
            "requests": self.requests,
            "limit": self.limit,
            "compared": self.matched + self.mismatched + self.ignored,
            "matched": self.matched,
            "mismatched": self.mismatched,
            "ignored": self.ignored,
            "inconclusive": self.inconclusive,
            "verdict": judged.verdict.value,
            "rate": {"low": round(judged.rate.low, 8), "high": round(judged.rate.high, 8)},
            "missing": list(judged.missing),
            "more_pairs": judged.more_pairs,
            "more_seconds": judged.more_seconds,
            "stale": list(judged.stale),
            "differences": [each.document() for each in self.differences],
            "latency": None if self.latency is None else self.latency.document(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of what could be compared was: silence is never success."""

    eligible: int
    mirrored: int
    compared: int

    @property
    def share(self) -> float:
        """Compared of eligible, 0.0 .. 1.0; 0.0 where nothing was eligible."""
        return self.compared / self.eligible if self.eligible else 0.0

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "eligible": self.eligible,
            "mirrored": self.mirrored,
            "compared": self.compared,
            "share": round(self.share, 6),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All strata of a flag, or of one run. `drops` counts requests that were not mirrored, by reason."""

    title: str
    made_at: dt.datetime
    since: dt.datetime | None
    verdict: Verdict
    coverage: Coverage
    strata: tuple[ReportedStratum, ...] = ()
    drops: Mapping[str, int] = field(default_factory=dict)
    unseen: tuple[Unseen, ...] = ()
    rule_findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    control_version: str = ""
    candidate_version: str = ""

    def document(self) -> dict[str, object]:
        """As JSON, the strata with the worst verdict first, then by how much was compared."""
        worst = {Verdict.MISMATCHED: 0, Verdict.INCONCLUSIVE: 1, Verdict.MATCHED: 2}
        ordered = sorted(
            self.strata,
            key=lambda each: (
                worst[each.judgement.verdict],
                -(each.matched + each.mismatched + each.ignored),
                each.key,
            ),
        )
        return {
            "schema_version": SCHEMA_VERSION,
            "title": self.title,
            "made_at": _instant(self.made_at),
            "since": None if self.since is None else _instant(self.since),
            "verdict": self.verdict.value,
            "control_version": self.control_version,
            "candidate_version": self.candidate_version,
            "coverage": self.coverage.document(),
            "drops": dict(sorted(self.drops.items())),
            "strata": [each.document() for each in ordered],
            "unseen": [
                {**each.key.document(), "requests": each.requests, "share": round(each.share, 6)}
                for each in self.unseen
            ],
            "rule_findings": list(self.rule_findings),
            "notes": list(self.notes),
        }


def _instant(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
