"""Reckoning: what tallies amount to, and that silence, staleness and what is lacking are said."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

from jsonschema import Draft202012Validator

from strangler_proxy.core.difference import Difference, Kind
from strangler_proxy.core.reckoning import report_of
from strangler_proxy.core.report import Report
from strangler_proxy.core.rules import Rule, RuleKind, digest
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.tally import PathTally, StratumTally, Tally
from strangler_proxy.core.verdict import Basis, Demands, Verdict

SCHEMA = json.loads(Path(__file__).parents[2].joinpath("docs/reference/shadow-report.schema.json").read_text())
KEY = StratumKey(method="GET", path_template="/a/{id}", status_class="2xx", signed_in=False, content_type="text/html")
REFUNDS = replace(KEY, method="POST", path_template="/refunds")
NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
BASIS = Basis(control_version="1", candidate_version="2", rules="r")
HOUR = 3_600.0


def good(matched: int = 9_000, **more: int) -> StratumTally:
    return StratumTally(requests=matched, matched=matched, first_at=1.0, last_at=1.0 + 2 * HOUR, **more)


def tally(strata: dict[StratumKey, StratumTally], basis: Basis = BASIS, **drops: int) -> Tally:
    mirrored = sum(one.compared + one.inconclusive for one in strata.values())
    eligible = mirrored + sum(drops.values())
    return Tally(flag="f", basis=basis, strata=strata, eligible=eligible, mirrored=mirrored, drops=drops)


def report(*tallies: Tally, **more: object) -> Report:
    made = report_of(tallies, title="f", now=NOW, **{"demands": Demands(), **more})  # type: ignore[arg-type]
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(made.document(), allow_nan=False)))
    return made


def rule(rule_id: str, path: str, *, route: str = "", expires_on: dt.date = dt.date(2027, 1, 1)) -> Rule:
    return Rule(
        id=rule_id, kind=RuleKind.IGNORE, path=path, owner="ada", reason="why", expires_on=expires_on, route=route
    )


def test_nothing_at_all_is_inconclusive_and_says_so() -> None:
    made = report()
    assert made.verdict is Verdict.INCONCLUSIVE
    assert made.notes == ("nothing was mirrored yet: there is no evidence",)
    assert made.coverage.share == 0.0


def test_enough_of_the_same_is_matched() -> None:
    made = report(tally({KEY: good()}))
    assert (made.verdict, made.coverage.share, made.notes) == (Verdict.MATCHED, 1.0, ())
    assert (made.control_version, made.candidate_version) == ("1", "2")


def test_one_confirmed_difference_in_a_rare_stratum_decides() -> None:
    made = report(
        tally({KEY: good(1_000_000), REFUNDS: StratumTally(requests=3, matched=2, mismatched=1, confirmed=1)})
    )
    assert made.verdict is Verdict.MISMATCHED
    assert {each.key: each.judgement.verdict for each in made.strata} == {
        KEY: Verdict.MATCHED,
        REFUNDS: Verdict.MISMATCHED,
    }


def test_what_production_has_and_evidence_lacks_keeps_the_verdict_open() -> None:
    seen = tally({KEY: good(9_000), REFUNDS: StratumTally(requests=1_000)})
    made = report(seen)
    assert made.verdict is Verdict.INCONCLUSIVE
    assert [(each.key, each.requests, each.share) for each in made.unseen] == [(REFUNDS, 1_000, 0.1)]
    assert [each.key for each in made.strata] == [KEY]
    elsewhere = replace(KEY, path_template="/b")
    assert report(tally({KEY: good()}), production={elsewhere: 7, KEY: 1}).unseen[0].key == elsewhere


def test_older_bases_are_stale_and_never_count() -> None:
    old = replace(BASIS, candidate_version="1")
    broken = StratumTally(requests=5, mismatched=5, confirmed=5)
    made = report(tally({KEY: good()}), tally({KEY: broken, REFUNDS: broken}, old))
    by_key = {each.key: each for each in made.strata}
    assert by_key[KEY].judgement.verdict is Verdict.MATCHED
    assert by_key[REFUNDS].judgement.verdict is Verdict.INCONCLUSIVE
    assert by_key[REFUNDS].judgement.stale == ("the candidate's code changed since: gather evidence anew",)
    assert made.coverage.compared == 9_000
    assert "10 older comparisons are stale: the candidate's code changed since: gather evidence anew" in made.notes
    assert made.verdict is Verdict.INCONCLUSIVE


def test_demands_are_those_of_the_route() -> None:
    strata = {KEY: good(300), REFUNDS: good(300)}
    strata[REFUNDS].route = "refunds"
    made = report(tally(strata), demands={"refunds": Demands(limit=0.05), "": Demands()})
    assert {each.key: each.judgement.verdict for each in made.strata} == {
        KEY: Verdict.INCONCLUSIVE,
        REFUNDS: Verdict.MATCHED,
    }


def test_differences_carry_their_noise_and_the_worst_stand_first() -> None:
    stratum = good(100, mismatched=4, ignored=20, confirmed=2)
    stratum.noise.learn([Difference(path="at", kind=Kind.VALUE)])
    for _ in range(9):
        stratum.noise.learn([])
    stratum.differences = {
        ("at", Kind.VALUE): PathTally(count=20, covered=20),
        ("price", Kind.VALUE): PathTally(2, 0, 2, "1.10", "1.11", "id1"),
        ("late", Kind.MISSING): PathTally(count=2),
    }
    found = report(tally({KEY: stratum})).strata[0].differences
    assert [(each.path, each.count, each.covered, each.noise, each.noise_pairs) for each in found] == [
        ("price", 2, 0, 0.0, 10),
        ("late", 2, 0, 0.0, 10),
        ("at", 20, 20, 0.1, 10),
    ]
    assert (found[0].control, found[0].candidate, found[0].sample) == ("1.10", "1.11", "id1")


def test_latency_is_there_only_where_both_sides_were_timed() -> None:
    timed, untimed = good(10), good(10)
    for ms in (10.0, 20.0, 30.0):
        timed.control_ms.add(ms)
        timed.candidate_ms.add(ms / 2)
        timed.ratio.add(0.5)
    untimed.control_ms.add(5.0)
    by_key = {each.key: each.latency for each in report(tally({KEY: timed, REFUNDS: untimed})).strata}
    assert by_key[REFUNDS] is None
    assert by_key[KEY] is not None
    assert 0.45 < by_key[KEY].ratio_p50 < 0.55
    assert 19 < by_key[KEY].control_p50_ms < 21


def test_drops_and_pairs_that_say_nothing_are_told() -> None:
    stratum = good(100, inconclusive=30)
    seen = tally({KEY: stratum}, queue_full=50, judge_down=2)
    seen.mirrored += 2 + 5
    made = report(seen)
    assert made.drops == {"queue_full": 50, "judge_down": 2}
    assert [note.partition(":")[0] for note in made.notes] == [
        "5 mirrored pairs are not judged",
        "52 of 182 eligible requests were dropped, most (50) because of queue_full",
        "30 pairs prove nothing",
    ]


def test_requests_that_the_control_failed_are_no_stratum() -> None:
    failed = replace(KEY, status_class="error", content_type="")
    made = report(tally({KEY: good(), failed: StratumTally(requests=4, inconclusive=4)}))
    assert [each.key for each in made.strata] == [KEY]
    assert (made.unseen, made.verdict) == ((), Verdict.MATCHED)
    assert "the control itself gave no answer to 4 requests: they are in no stratum" in made.notes


def test_rules_that_expired_or_match_nothing_are_found_by_what_their_route_compared() -> None:
    stratum = good(5_000)
    stratum.route = "catalog"
    seen = tally({KEY: stratum})
    seen.rule_uses = {"used": 7}
    rules = [
        rule("used", "at"),
        rule("idle", "etag", route="catalog"),
        rule("elsewhere", "nonce", route="refunds"),
        rule("old", "x", expires_on=dt.date(2026, 5, 1)),
    ]
    now = replace(seen.basis, rules=digest(each for each in rules if each.id != "old"))
    assert report(seen, rules=rules).rule_findings[0].startswith('rule "old"')
    seen.basis = now
    found = report(seen, rules=rules).rule_findings
    assert [each.partition(":")[0] for each in found] == ['rule "idle"', 'rule "old"']
    assert "covered nothing in 5000 comparisons" in found[0]


def test_strata_that_were_folded_into_others_are_left_out() -> None:
    made = report(tally({KEY: good(), replace(KEY, path_template="/a/b"): StratumTally()}))
    assert ([each.key for each in made.strata], made.unseen) == ([KEY], ())
