"""Reports and samples to render: a plain one, a large one, and one whose every text is hostile."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.report import Coverage, Report, ReportedDifference, ReportedLatency, ReportedStratum
from strangler_proxy.core.sample import Sample, SampledAnswer, SampledDifference
from strangler_proxy.core.strata import StratumKey, Unseen
from strangler_proxy.core.verdict import Basis, Evidence, judge, overall

NOW = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.UTC)
HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\"'`${window.hacked=3}&lt;\x1b[31m\u202e"
)


def key(path: str = "/orders/{id}", **changes: Any) -> StratumKey:
    """A stratum's key."""
    said = {"method": "GET", "status_class": "2xx", "signed_in": False, "content_type": "application/json"} | changes
    return StratumKey(path_template=path, **said)


def difference(path: str = "items[].price", sample: str = "", **changes: Any) -> ReportedDifference:
    """A confirmed difference of a price."""
    said: dict[str, Any] = {
        "kind": Kind.VALUE, "count": 12, "noise": 0.0, "confirmed": 11, "noise_pairs": 40,
        "control": "10.00", "candidate": "10.01",
    }  # fmt: skip
    return ReportedDifference(path=path, sample=sample, **(said | changes))


def stratum(path: str, evidence: Evidence, *, now: Basis | None = None, **changes: Any) -> ReportedStratum:
    """A stratum that is judged as it would be."""
    said: dict[str, Any] = {
        "key": key(path),
        "requests": evidence.compared + 20,
        "latency": ReportedLatency(
            control_p50_ms=12.0, control_p99_ms=80.0, candidate_p50_ms=9.0, candidate_p99_ms=140.0, ratio_p50=0.75
        ),
    } | changes
    return ReportedStratum(
        matched=evidence.matched,
        mismatched=evidence.mismatched,
        ignored=evidence.ignored,
        inconclusive=evidence.failed,
        judgement=judge(evidence, now=now or evidence.basis),
        **said,
    )


def report(strata: tuple[ReportedStratum, ...], **changes: Any) -> Any:
    """A report's document, as JSON would bring it."""
    compared = sum(each.matched + each.mismatched + each.ignored for each in strata)
    said: dict[str, Any] = {
        "title": "http://old against http://new",
        "made_at": NOW,
        "since": NOW - dt.timedelta(hours=2),
        "verdict": overall([each.judgement for each in strata]),
        "coverage": Coverage(eligible=compared + 300, mirrored=compared + 10, compared=compared),
        "strata": strata,
    } | changes
    return json.loads(json.dumps(Report(**said).document(), allow_nan=False))


def three(**changes: Any) -> Any:
    """One stratum of each verdict, with everything else that a report may hold."""
    said: dict[str, Any] = {
        "drops": {"queue_full": 290, "body_too_large": 10},
        "unseen": (Unseen(key=key("/reports/{date}"), requests=1_500, compared=0, share=0.3),),
        "rule_findings": ("rule tax: it expires on 2026-12-01: Kim renews or removes it",),
        "notes": ("effects of the candidate were not captured, so effects were not compared",),
        "control_version": "v1",
        "candidate_version": "v2",
    } | changes
    return report(
        (
            stratum("/products/{slug}", Evidence(matched=9_000, ignored=40, seconds=7_200)),
            stratum("/cart", Evidence(matched=1_000, seconds=7_200), latency=None),
            stratum(
                "/orders/{id}",
                Evidence(matched=988, mismatched=12, confirmed=11, seconds=7_200),
                differences=(
                    difference(sample=sample().id),
                    difference("meta.trace", count=9, covered=9, confirmed=0, noise=1.0, control="a", candidate="b"),
                ),
            ),
        ),
        **said,
    )


def sample(number: int = 1, **changes: Any) -> Sample:
    """A kept comparison with a wrong price."""
    said: dict[str, Any] = {
        "id": f"{number:032x}",
        "flag": "",
        "at": NOW,
        "stratum": key(),
        "route": "",
        "outcome": "mismatched",
        "confirmed": True,
        "basis": Basis(),
        "control_origin": "monolith",
        "method": "GET",
        "target": "/orders/7?page=1",
        "fields": (("accept", "application/json"),),
        "control": SampledAnswer(
            status=200, fields=(("content-type", "application/json"),), duration_ms=12.5, body_bytes=61,
            body='{"id":7,"items":[{"name":"pen","price":10.00},{"name":"ink","price":3.5}]}',
        ),
        "candidate": SampledAnswer(
            status=200, fields=(("content-type", "application/json"), ("x-new", "1")), duration_ms=9.5, body_bytes=61,
            body='{"id":7,"items":[{"name":"pen","price":10.01},{"name":"ink","price":3.5}]}',
        ),
        "differences": (
            SampledDifference(path="items[].price", kind="value", at="items[0].price", control="10.00",
                              candidate="10.01"),
        ),
    }  # fmt: skip
    return Sample(**(said | changes))


def hostile() -> tuple[Any, list[Sample]]:
    """Everything that others can choose, chosen badly."""
    bad = HOSTILE
    answer = SampledAnswer(
        status=200, fields=((bad, bad),), body=f"<!DOCTYPE html>{bad}</textarea></pre></style></script><!--{bad}",
        body_bytes=10, failure=bad, effects=(("mail", bad),),
    )  # fmt: skip
    other = replace(answer, body=f"{answer.body}.")
    kept = sample(
        2, id=bad, flag=bad, route=bad, method=bad, target=f"/{bad}", fields=((bad, bad),), body=bad, why=bad,
        stratum=key(bad, method=bad, content_type=bad), control=answer, candidate=other,
        differences=(SampledDifference(path=bad, kind="value", at=bad, control=bad, candidate=bad, covered_by=bad),),
    )  # fmt: skip
    said = report(
        (
            stratum(
                bad, Evidence(mismatched=3, confirmed=3, seconds=9.0), key=key(bad, method=bad, content_type=bad),
                route=bad, differences=(difference(bad, sample=bad, control=bad, candidate=bad),),
            ),
        ),
        title=bad,
        unseen=(Unseen(key=key(bad, method=bad, content_type=bad), requests=1, compared=0, share=0.5),),
        rule_findings=(bad,),
        notes=(bad,),
        control_version=bad,
        candidate_version=bad,
    )  # fmt: skip
    said["drops"] = {bad: 3}
    return said, [kept]


def large(strata: int = 300, differences: int = 2_000, samples: int = 200) -> tuple[Any, list[Sample]]:
    """As much as a report may hold."""
    kept = [sample(number) for number in range(samples)]
    each = max(1, differences // strata)
    parts = tuple(
        stratum(
            f"/area{number % 17}/things{number}/{{id}}",
            Evidence(matched=50 * number, mismatched=number % 3, confirmed=number % 3, seconds=7_200),
            differences=tuple(
                difference(f"field{place}.of[].thing{number}", sample=kept[(number + place) % samples].id)
                for place in range(each + (number < differences % strata))
            ),
        )
        for number in range(strata)
    )
    return report(parts), kept
