"""Tallies, samples and rules that tests of evidence share."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.core.sample import Sample, SampledAnswer, SampledDifference
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.tally import PathTally, StratumTally, Tally
from strangler_proxy.core.verdict import Basis

NOW = dt.datetime(2026, 11, 27, 12, 0, 0, 250_000, tzinfo=dt.UTC)
OLD = Basis(control_version="m1", candidate_version="c1", rules="none")
NEW = Basis(control_version="m1", candidate_version="c2", rules="none")


def key(path: str = "/api/items/{id}", method: str = "GET", status: str = "2xx") -> StratumKey:
    """A stratum of JSON for guests."""
    return StratumKey(
        method=method, path_template=path, status_class=status, signed_in=False, content_type="application/json"
    )


def stratum(matched: int, mismatched: int = 0, *, sample: str = "") -> StratumTally:
    """A stratum with a difference at `price` where it is mismatched."""
    made = StratumTally(
        route="items",
        requests=2 * matched + mismatched,
        matched=matched,
        mismatched=mismatched,
        confirmed=mismatched,
        first_at=1_000.0,
        last_at=9_000.0,
    )
    if mismatched:
        made.differences[("price", Kind.VALUE)] = PathTally(mismatched, 0, mismatched, "1", "2", sample)
    made.noise.pairs = 4
    made.noise.differing[("at", Kind.VALUE)] = 3
    for ms in (3.0, 5.0, 9.0):
        made.control_ms.add(ms)
        made.candidate_ms.add(2 * ms)
        made.ratio.add(2.0)
    return made


def tally(flag: str = "catalog", basis: Basis = NEW, **strata: StratumTally) -> Tally:
    """A tally with strata at `/NAME`."""
    return Tally(
        flag=flag,
        basis=basis,
        strata={key(f"/{name}"): one for name, one in strata.items()},
        eligible=100,
        mirrored=90,
        drops={"queue_full": 7, "not_sampled": 3},
        rule_uses={"r1": 2},
    )


def sample(number: int, *, flag: str = "catalog", path: str = "price", minutes: float = 0.0, body: str = "") -> Sample:
    """A mismatch at `path`, `number` minutes (or so many) after NOW."""
    return Sample(
        id=f"{number:032x}",
        flag=flag,
        at=NOW + dt.timedelta(minutes=minutes or number),
        stratum=key(),
        route="items",
        outcome="mismatched",
        confirmed=True,
        basis=NEW,
        control_origin="monolith",
        method="GET",
        target=f"/api/items/{number}?page=1",
        fields=(("accept", "application/json"), ("cookie", "session=[cookie:0123456789ab]")),
        body=body,
        control=SampledAnswer(
            status=200,
            fields=(("content-type", "application/json"),),
            body='{"price":1}',
            body_bytes=11,
            duration_ms=3.25,
            effects=(("mail", '{"to":"[email:0123456789ab]"}'),),
        ),
        candidate=SampledAnswer(status=200, body='{"price":2}', body_bytes=11, failure=""),
        differences=(
            SampledDifference(path=path, kind="value", at=path, control="1", candidate="2"),
            SampledDifference(path="at", kind="value", control='"a"', candidate='"b"', covered_by="noise"),
        ),
        why="",
    )


def rule(rule_id: str, path: str = "price", *, expires_on: dt.date = dt.date(2027, 3, 1)) -> Rule:
    """A tolerance of a cent."""
    return Rule(
        id=rule_id,
        kind=RuleKind.TOLERANCE,
        path=path,
        owner="catalog-team",
        reason="rounding, until PR 812",
        expires_on=expires_on,
        route="items",
        absolute=Decimal("0.01"),
    )
