"""The report: what it says is what its published schema says."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.report import Coverage, Report, ReportedDifference, ReportedLatency, ReportedStratum
from strangler_proxy.core.strata import StratumKey, Unseen
from strangler_proxy.core.verdict import Basis, Evidence, Verdict, judge

SCHEMA = json.loads(Path(__file__).parents[2].joinpath("docs/reference/shadow-report.schema.json").read_text())
KEY = StratumKey(method="GET", path_template="/a/{id}", status_class="2xx", signed_in=False, content_type="text/html")


def report() -> Report:
    judged = [
        judge(Evidence(matched=9_000, seconds=9_000), now=Basis()),
        judge(Evidence(), now=Basis(rules="x")),
        judge(Evidence(mismatched=2, confirmed=1, seconds=5), now=Basis()),
    ]
    strata = tuple(
        ReportedStratum(
            key=KEY,
            matched=7,
            mismatched=2,
            ignored=1,
            inconclusive=4,
            judgement=each,
            differences=(ReportedDifference(path="a", kind=Kind.ORDER, count=2, noise=0.25),),
            latency=ReportedLatency(
                control_p50_ms=1, control_p99_ms=2, candidate_p50_ms=3, candidate_p99_ms=4.0005, ratio_p50=3
            ),
        )
        for each in judged
    )
    return Report(
        title="t",
        made_at=dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        since=None,
        verdict=Verdict.MISMATCHED,
        coverage=Coverage(eligible=40, mirrored=30, compared=30),
        strata=strata,
        drops={"queue_full": 3, "body_too_large": 7},
        unseen=(Unseen(key=KEY, requests=5, compared=0, share=0.125),),
    )


def document() -> Any:
    return json.loads(json.dumps(report().document(), allow_nan=False))


def test_a_report_keeps_to_its_schema_and_says_the_worst_first() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    said = document()
    Draft202012Validator(SCHEMA).validate(said)
    assert [each["verdict"] for each in said["strata"]] == ["mismatched", "inconclusive", "matched"]
    assert (said["made_at"], said["coverage"]["share"]) == ("2026-05-01T10:00:00.000Z", 0.75)
    assert said["strata"][0]["compared"] == 10
    assert list(said["drops"]) == ["body_too_large", "queue_full"]


def test_every_field_that_is_written_is_in_the_schema() -> None:
    said, defs = document(), SCHEMA["$defs"]
    assert set(said) == set(SCHEMA["properties"]) == set(SCHEMA["required"])
    stratum = set(defs["stratum"]["properties"]) | set(defs["key"]["properties"])
    assert set(said["strata"][0]) == stratum
    assert set(said["strata"][0]["differences"][0]) == set(defs["difference"]["properties"])


@pytest.mark.parametrize(
    ("place", "value"), [("verdict", "fine"), ("strata", {}), ("schema_version", 2), ("drops", {"a": -1})]
)
def test_the_schema_refuses_what_is_no_report(place: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(document() | {place: value})
