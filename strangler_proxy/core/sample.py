"""Samples: single comparisons that are kept to be looked at, and to be asked again. Redacted before they get here.

What stands for a secret is a keyed mark (`redaction.Redactor.mark`): equal secrets have equal marks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.verdict import Basis

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAnswer:
    """One side's answer, redacted: `body` is text, cut; `failure` says why there is none."""

    status: int = 0
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    body_bytes: int = 0
    duration_ms: float = 0.0
    failure: str = ""
    effects: tuple[tuple[str, str], ...] | None = None
    """Kind and detail (JSON text, redacted); None where nothing captured them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledDifference:
    """One path and kind with both values, redacted and short; `covered_by` as in `difference.Difference`."""

    path: str
    kind: str
    at: str = ""
    control: str = ""
    candidate: str = ""
    covered_by: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One comparison that was kept. `id` is the pair's; `outcome` of `comparison.Outcome`; `confirmed`: it persisted.

    `control_origin` is who answered the client then.
    """

    id: str
    flag: str
    at: dt.datetime
    stratum: StratumKey
    route: str
    outcome: str
    confirmed: bool
    basis: Basis
    control_origin: str
    method: str
    target: str
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    safe: bool = True
    control: SampledAnswer = field(default_factory=SampledAnswer)
    candidate: SampledAnswer = field(default_factory=SampledAnswer)
    differences: tuple[SampledDifference, ...] = ()
    why: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON; one line of an export. `read_sample` reads it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "flag": self.flag,
            "at": self.at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "stratum": self.stratum.document(),
            "route": self.route,
            "outcome": self.outcome,
            "confirmed": self.confirmed,
            "basis": {
                "control_version": self.basis.control_version,
                "candidate_version": self.basis.candidate_version,
                "rules": self.basis.rules,
            },
            "control_origin": self.control_origin,
            "request": {
                "method": self.method,
                "target": self.target,
                "fields": [list(each) for each in self.fields],
                "body": self.body,
                "safe": self.safe,
            },
            "control": _answer(self.control),
            "candidate": _answer(self.candidate),
            "differences": [
                {name: getattr(each, name) for name in SampledDifference.__slots__} for each in self.differences
            ],
            "why": self.why,
        }


def read_sample(document: Mapping[str, Any]) -> Sample:
    """A sample from its JSON. Raises KeyError, TypeError or ValueError for another form or version."""
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {document['schema_version']!r} is not {SCHEMA_VERSION}")
    asked, key, basis = document["request"], document["stratum"], document["basis"]
    return Sample(
        id=str(document["id"]),
        flag=str(document["flag"]),
        at=dt.datetime.fromisoformat(document["at"]),
        stratum=StratumKey(**{name: key[name] for name in StratumKey.__slots__}),
        route=str(document["route"]),
        outcome=str(document["outcome"]),
        confirmed=bool(document["confirmed"]),
        basis=Basis(
            control_version=str(basis["control_version"]),
            candidate_version=str(basis["candidate_version"]),
            rules=str(basis["rules"]),
        ),
        control_origin=str(document["control_origin"]),
        method=str(asked["method"]),
        target=str(asked["target"]),
        fields=_pairs(asked["fields"]),
        body=str(asked["body"]),
        safe=bool(asked["safe"]),
        control=_read_answer(document["control"]),
        candidate=_read_answer(document["candidate"]),
        differences=tuple(SampledDifference(**each) for each in document["differences"]),
        why=str(document["why"]),
    )


def _answer(one: SampledAnswer) -> dict[str, Any]:
    return {
        "status": one.status,
        "fields": [list(each) for each in one.fields],
        "body": one.body,
        "body_bytes": one.body_bytes,
        "duration_ms": round(one.duration_ms, 3),
        "failure": one.failure,
        "effects": None if one.effects is None else [list(each) for each in one.effects],
    }


def _read_answer(document: Mapping[str, Any]) -> SampledAnswer:
    effects = document["effects"]
    return SampledAnswer(
        status=int(document["status"]),
        fields=_pairs(document["fields"]),
        body=str(document["body"]),
        body_bytes=int(document["body_bytes"]),
        duration_ms=float(document["duration_ms"]),
        failure=str(document["failure"]),
        effects=None if effects is None else _pairs(effects),
    )


def _pairs(rows: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in rows)
