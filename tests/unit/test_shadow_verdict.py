"""Verdicts: an interval that stays valid at every look, and no verdict without enough evidence."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.core.interval import FLAT, Mixture, interval, near, pairs_needed
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.strata import StratumKey, stratum, unseen
from strangler_proxy.core.verdict import Basis, Demands, Evidence, Verdict, judge, overall

NOW = Basis(control_version="1", candidate_version="2", rules="r")
HOUR = 3_600.0


@pytest.mark.parametrize(
    ("rate", "mixture"),
    [(0.001, near(0.001)), (0.02, near(0.001)), (0.5, near(0.001)), (0.05, FLAT), (0.5, FLAT)],
)
def test_the_interval_holds_the_true_rate_at_every_look(rate: float, mixture: Mixture) -> None:
    """150 streams of 1,000 pairs, looked at often: at most 5 % (plus chance) ever miss."""
    chance, missed = random.Random(20260501), 0
    for _ in range(150):
        mismatched = 0
        for compared in range(1, 1_001):
            failed = chance.random() < rate
            mismatched += failed
            if compared % 100 == 0 or (failed and rate < 0.1):
                seen = interval(mismatched, compared, mixture=mixture)
                if not seen.low <= rate <= seen.high:
                    missed += 1
                    break
    assert missed <= 7.5 + 3 * math.sqrt(150 * 0.05 * 0.95)


def test_an_interval_for_one_look_would_fail_under_peeking() -> None:
    """The same simulation catches an interval that is only valid at a fixed time, so that it can fail."""
    chance, missed = random.Random(3), 0
    for _ in range(200):
        mismatched = 0
        for compared in range(1, 1_001):
            mismatched += chance.random() < 0.5
            if compared >= 20 and abs(mismatched / compared - 0.5) > 1.96 * math.sqrt(0.25 / compared):
                missed += 1
                break
    assert missed > 10 + 3 * math.sqrt(200 * 0.05 * 0.95)


@given(st.integers(0, 60), st.integers(0, 3_000), st.sampled_from([FLAT, near(0.02), near(0.001)]))
@settings(max_examples=150, deadline=None)
def test_the_interval_surrounds_what_was_seen_and_narrows(mismatched: int, matched: int, mixture: Mixture) -> None:
    seen = interval(mismatched, mismatched + matched, mixture=mixture)
    assert 0.0 <= seen.low <= seen.high <= 1.0
    if mismatched + matched:
        assert seen.low <= mismatched / (mismatched + matched) <= seen.high
    assert interval(mismatched, mismatched + matched + 500, mixture=mixture).high <= seen.high + 1e-9
    assert interval(mismatched, mismatched + matched, alpha=0.01, mixture=mixture).high >= seen.high - 1e-9


def test_the_interval_is_sharp_near_the_limit_and_says_something_far_from_it() -> None:
    """What a mixture with one part cannot do: the width at 50 % against that of the flat one, and the pairs at 0."""
    far, flat = interval(100, 200, mixture=near(0.001)), interval(100, 200, mixture=FLAT)
    assert far.high - far.low < 1.2 * (flat.high - flat.low)
    assert pairs_needed(0.001) < 4_900
    assert interval(0, 4_809, mixture=FLAT).high > 0.001


@given(st.sampled_from([0.5, 0.1, 0.01, 0.001]), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_pairs_needed_is_the_fewest_that_do(limit: float, mismatched: int) -> None:
    enough, mixture = pairs_needed(limit, mismatched=mismatched), near(limit)
    assert interval(mismatched, enough, mixture=mixture).high <= limit * (1 + 1e-9)
    assert mismatched > enough - 1 or interval(mismatched, enough - 1, mixture=mixture).high > limit


def test_matched_needs_pairs_and_time_and_one_confirmed_difference_is_enough_against_it() -> None:
    plenty = Evidence(matched=6_000, ignored=3_000, seconds=2 * HOUR, basis=NOW)
    assert judge(plenty, now=NOW).verdict is Verdict.MATCHED
    few = judge(Evidence(matched=100, seconds=2 * HOUR, basis=NOW), now=NOW)
    assert (few.verdict, few.more_pairs) == (Verdict.INCONCLUSIVE, pairs_needed(0.001) - 100)
    quick = judge(Evidence(matched=9_000, seconds=60, basis=NOW), now=NOW)
    assert (quick.verdict, quick.missing) == (Verdict.INCONCLUSIVE, ("about 1 more hours",))
    one = Evidence(matched=100_000, mismatched=1, confirmed=1, seconds=9 * HOUR, basis=NOW)
    assert judge(one, now=NOW).verdict is Verdict.MISMATCHED
    assert judge(Evidence(basis=NOW), now=NOW).verdict is Verdict.INCONCLUSIVE


def test_exactly_what_is_missing_makes_it_matched() -> None:
    few = Evidence(matched=100, seconds=60, basis=NOW)
    said = judge(few, now=NOW)
    assert said.more_pairs is not None
    assert said.more_seconds is not None
    done = Evidence(matched=100 + said.more_pairs, seconds=60 + said.more_seconds, basis=NOW)
    assert judge(done, now=NOW).verdict is Verdict.MATCHED
    short = Evidence(matched=99 + said.more_pairs, seconds=60 + said.more_seconds, basis=NOW)
    assert judge(short, now=NOW).verdict is Verdict.INCONCLUSIVE


def test_comparisons_that_fail_are_never_success() -> None:
    failing = judge(Evidence(matched=9_000, failed=2_000, seconds=2 * HOUR, basis=NOW), now=NOW)
    assert failing.verdict is Verdict.INCONCLUSIVE
    assert "prove nothing" in failing.missing[0]


@pytest.mark.parametrize(
    ("then", "what"),
    [
        (Basis(control_version="0", candidate_version="2", rules="r"), "control"),
        (Basis(control_version="1", candidate_version="1", rules="r"), "candidate"),
        (Basis(control_version="1", candidate_version="2", rules=""), "rules"),
    ],
)
def test_a_verdict_goes_stale_when_code_or_rules_change(then: Basis, what: str) -> None:
    fine, faulty = (
        Evidence(matched=9_000, seconds=2 * HOUR, basis=then),
        Evidence(confirmed=1, mismatched=1, basis=then),
    )
    for evidence in (fine, faulty):
        said = judge(evidence, now=NOW)
        assert said.verdict is Verdict.INCONCLUSIVE
        assert what in said.stale[0]


def test_a_route_is_matched_only_when_all_of_its_strata_are() -> None:
    good = judge(Evidence(matched=9_000, seconds=2 * HOUR, basis=NOW), now=NOW)
    bad = judge(Evidence(mismatched=1, confirmed=1, basis=NOW), now=NOW)
    thin = judge(Evidence(matched=1, basis=NOW), now=NOW, demands=Demands(limit=0.01))
    assert overall([good, good]) is Verdict.MATCHED
    assert overall([good, thin]) is overall([]) is overall([good], lacking=1) is Verdict.INCONCLUSIVE
    assert overall([good, thin, bad]) is Verdict.MISMATCHED


def test_strata_that_production_has_and_evidence_lacks_are_listed() -> None:
    seen = Observation(
        origin=Origin.MONOLITH, status=404, fields=(("content-type", "Application/JSON; charset=utf-8"),)
    )
    key = stratum("get", "/a/{id}", signed_in=True, control=seen)
    assert str(key) == "GET /a/{id} 4xx signed in application/json"
    other = stratum("BREW", "/a", signed_in=False, control=Observation(origin=Origin.MONOLITH))
    assert (other.method, other.status_class) == ("OTHER", "error")
    lacking = unseen({key: 30, other: 70}, {key: 2})
    assert [(each.key, each.share) for each in lacking] == [(other, 0.7)]
    assert isinstance(key, StratumKey)
