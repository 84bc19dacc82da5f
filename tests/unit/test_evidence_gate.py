"""The gate on evidence before a flip, and the words for what is mirrored."""

from __future__ import annotations

import dataclasses

import pytest

from strangler_proxy.control.answers import mirroring_words
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.evidence_gate import Standing, evidence_gates
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import Stream, plan_flip
from strangler_proxy.core.judging import Judging
from strangler_proxy.core.stage import Stage
from strangler_proxy.core.verdict import Verdict

ASKED = Judging(required=True, fresh_s=3_600.0, coverage=0.05)
GOOD = Standing(verdict=Verdict.MATCHED, compared=900, eligible=1_000, coverage=0.9, age_s=60.0)


def missed(**changes: object) -> list[str]:
    found = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    return [gate.says for gate in evidence_gates(ASKED, found) if not gate.met]


def test_matched_fresh_evidence_of_enough_opens_the_gate() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"verdict": None}, "nothing was ever mirrored"),
        ({"verdict": Verdict.MISMATCHED, "mismatched": ("GET /a",)}, "evidence says mismatched, needed is matched; "
            "mismatched: GET /a"),
        ({"verdict": Verdict.INCONCLUSIVE, "unseen": tuple("abcde")}, "never compared: a, b, c and 2 more"),
        ({"age_s": 7_200.0}, "the last comparison is 2.0 h old, needed is less than 1 h"),
        ({"age_s": None}, "nothing was compared with this code"),
        ({"coverage": 0.049}, "4.90% of 1000 eligible requests were compared, needed are 5.00%"),
    ],
)  # fmt: skip
def test_stale_or_thin_evidence_shuts_it(changes: dict[str, object], says: str) -> None:
    (found,) = missed(**changes)
    assert says in found


def test_the_gate_stands_before_flips_that_send_more_to_extracted_only() -> None:
    shut = evidence_gates(ASKED, Standing())
    flag = Flag(key="a", stage=Stage.CANARY, weight=500, changed_by="", reason="")
    for stage, weight in ((Stage.CANARY, 600), (Stage.EXTRACTED, None)):
        with pytest.raises(GateRefused, match="evidence is required") as caught:
            plan_flip(flag, stage, weight, Stream(), (), shut)
        assert caught.value.next_command == "strangler shadow report a"
    for stage, weight in ((Stage.CANARY, 400), (Stage.CANARY, 500), (Stage.SHADOW, None), (Stage.MONOLITH, None)):
        assert plan_flip(flag, stage, weight, Stream(), (), shut).stage is stage
    first = dataclasses.replace(flag, stage=Stage.MONOLITH, weight=0)
    assert plan_flip(first, Stage.SHADOW, None, Stream(), (), shut).stage is Stage.SHADOW


@pytest.mark.parametrize(
    ("stage", "sample", "words"),
    [
        (Stage.MONOLITH, 10_000, "none"),
        (Stage.SHADOW, 10_000, "100% to extracted"),
        (Stage.CANARY, 250, "2.5% to the other side"),
        (Stage.EXTRACTED, 10_000, "100% to monolith"),
        (Stage.RETIRED, 10_000, "none"),
        (Stage.SHADOW, 0, "none (mirror_sample is 0%)"),
    ],
)
def test_what_is_mirrored_is_said_as_it_is(stage: Stage, sample: int, words: str) -> None:
    assert mirroring_words(Flag(key="a", stage=stage, mirror_sample=sample)) == words
