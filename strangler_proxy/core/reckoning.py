"""Reckoning: the report that tallies amount to.

The basis that was published last is the fresh one; a stratum that only older bases know is shown with them and is
inconclusive, whatever it said then. Pure: it reads what is given and knows no clock.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from strangler_proxy.core.report import Coverage, Report, ReportedDifference, ReportedLatency, ReportedStratum
from strangler_proxy.core.rule_findings import findings
from strangler_proxy.core.rules import Rule, digest
from strangler_proxy.core.strata import StratumKey, unseen
from strangler_proxy.core.tally import StratumTally, Tally
from strangler_proxy.core.verdict import Basis, Demands, Evidence, judge, overall, stale_because

DIFFERENCES_SHOWN: Final = 100
"""Paths listed of one stratum; those that nothing covers come first."""

FAILED: Final = "error"
"""Status class of requests to which the control gave no answer: nothing can be judged by them."""

AFTER_MIRRORING: Final = frozenset({"answer_too_large", "comparer_full", "judge_down", "no_proof"})
"""Reasons of drops of requests that had been sent to the candidate already."""

_DROPPED_SHARE: Final = 0.05


def report_of(
    tallies: Sequence[Tally],
    *,
    title: str,
    now: dt.datetime,
    demands: Mapping[str, Demands] | Demands,
    production: Mapping[StratumKey, int] | None = None,
    rules: Sequence[Rule] = (),
    since: dt.datetime | None = None,
) -> Report:
    """Judge the tallies of one flag or one run, the one published last first (as `EvidenceBook.tallies` gives them).

    `demands` by route (the empty name: every other route), or one for all. `production` counts requests by stratum,
    where more is known than was seen here. `rules` are all rules of the flag, expired ones included.
    """
    fresh = tallies[0] if tallies else Tally(flag="", basis=Basis())
    strata = [
        _reported(key, stratum, basis=basis, now=fresh.basis, demands=_demands(demands, stratum.route))
        for key, (basis, stratum) in _newest(tallies).items()
    ]
    compared = {key: stratum.compared for key, stratum in fresh.strata.items()}
    lacking = unseen(_requests(tallies, production or {}), compared)
    return Report(
        title=title,
        made_at=now,
        since=since,
        verdict=overall((each.judgement for each in strata), lacking=len(lacking)),
        coverage=Coverage(eligible=fresh.eligible, mirrored=fresh.mirrored, compared=fresh.compared),
        strata=tuple(strata),
        drops=dict(fresh.drops),
        unseen=lacking,
        rule_findings=_rule_findings(rules, fresh, now.date()),
        notes=tuple(_notes(tallies)),
        control_version=fresh.basis.control_version,
        candidate_version=fresh.basis.candidate_version,
    )


def _newest(tallies: Sequence[Tally]) -> dict[StratumKey, tuple[Basis, StratumTally]]:
    """Every stratum with evidence, from the newest basis that has some of it."""
    found: dict[StratumKey, tuple[Basis, StratumTally]] = {}
    for tally in tallies:
        for key, stratum in tally.strata.items():
            if key not in found and key.status_class != FAILED and (stratum.compared or stratum.inconclusive):
                found[key] = tally.basis, stratum
    return found


def _demands(demands: Mapping[str, Demands] | Demands, route: str) -> Demands:
    if isinstance(demands, Demands):
        return demands
    return demands.get(route) or demands.get("") or Demands()


def _reported(key: StratumKey, stratum: StratumTally, *, basis: Basis, now: Basis, demands: Demands) -> ReportedStratum:
    evidence = Evidence(
        matched=stratum.matched,
        mismatched=stratum.mismatched,
        ignored=stratum.ignored,
        confirmed=stratum.confirmed,
        failed=stratum.inconclusive,
        seconds=max(0.0, stratum.last_at - stratum.first_at),
        basis=basis,
    )
    return ReportedStratum(
        key=key,
        matched=stratum.matched,
        mismatched=stratum.mismatched,
        ignored=stratum.ignored,
        inconclusive=stratum.inconclusive,
        judgement=judge(evidence, now=now, demands=demands),
        route=stratum.route,
        requests=stratum.requests,
        limit=demands.limit,
        differences=_differences(stratum),
        latency=_latency(stratum),
    )


def _differences(stratum: StratumTally) -> tuple[ReportedDifference, ...]:
    found = []
    for (path, kind), one in stratum.differences.items():
        noise = stratum.noise.share(path, kind)
        found.append(
            ReportedDifference(
                path=path,
                kind=kind,
                count=one.count,
                noise=noise.share,
                covered=one.covered,
                confirmed=one.confirmed,
                noise_pairs=noise.pairs,
                control=one.control,
                candidate=one.candidate,
                sample=one.sample,
            )
        )
    found.sort(key=lambda each: (-each.confirmed, each.covered - each.count, -each.count, each.path, each.kind.value))
    return tuple(found[:DIFFERENCES_SHOWN])


def _latency(stratum: StratumTally) -> ReportedLatency | None:
    if not stratum.control_ms.total or not stratum.candidate_ms.total:
        return None
    return ReportedLatency(
        control_p50_ms=stratum.control_ms.quantile(0.5),
        control_p99_ms=stratum.control_ms.quantile(0.99),
        candidate_p50_ms=stratum.candidate_ms.quantile(0.5),
        candidate_p99_ms=stratum.candidate_ms.quantile(0.99),
        ratio_p50=stratum.ratio.quantile(0.5),
    )


def _requests(tallies: Iterable[Tally], production: Mapping[StratumKey, int]) -> dict[StratumKey, int]:
    """Requests by stratum: what was seen on any basis, or what production says where that is more."""
    counted: Counter[StratumKey] = Counter()
    for tally in tallies:
        counted.update({key: stratum.requests for key, stratum in tally.strata.items()})
    for key, requests in production.items():
        counted[key] = max(counted[key], requests)
    return {key: requests for key, requests in counted.items() if key.status_class != FAILED}


def _rule_findings(rules: Sequence[Rule], fresh: Tally, today: dt.date) -> tuple[str, ...]:
    compared = compared_by_rule(rules, fresh, today)
    found = findings(rules, today=today, uses=fresh.rule_uses, compared=compared)
    return tuple(f'rule "{each.rule}": {each.detail}' for each in found)


def compared_by_rule(rules: Sequence[Rule], fresh: Tally, today: dt.date) -> dict[str, int]:
    """Comparisons by rule; nothing where the evidence was gathered under other rules, which says nothing of these."""
    if fresh.basis.rules != digest(rule for rule in rules if today < rule.expires_on):
        return {}
    return {
        rule.id: sum(
            one.compared for key, one in fresh.strata.items() if rule.route in ("", one.route, key.path_template)
        )
        for rule in rules
    }


def _notes(tallies: Sequence[Tally]) -> Iterator[str]:
    if not tallies:
        yield "nothing was mirrored yet: there is no evidence"
        return
    fresh = tallies[0]
    inconclusive = sum(stratum.inconclusive for stratum in fresh.strata.values())
    yield from _stale_notes(tallies)
    yield from _coverage_notes(fresh, inconclusive)
    if inconclusive:
        yield f"{inconclusive} pairs prove nothing: they are inconclusive and never count as matched"
    failed = sum(stratum.requests for key, stratum in fresh.strata.items() if key.status_class == FAILED)
    if failed:
        yield f"the control itself gave no answer to {failed} requests: they are in no stratum"
    differing = [stratum for stratum in fresh.strata.values() if stratum.mismatched or stratum.ignored]
    if differing and not any(stratum.noise.pairs for stratum in differing):
        yield "noise is not known yet: the control was never asked twice where answers differ"
    unlisted = sum(stratum.more_differences for stratum in fresh.strata.values())
    if unlisted:
        yield f"{unlisted} differences are on paths beyond those that are counted one by one"


def _stale_notes(tallies: Sequence[Tally]) -> Iterator[str]:
    fresh = tallies[0]
    stale = sum(tally.compared for tally in tallies[1:])
    why = next((why for tally in tallies[1:] for why in stale_because(tally.basis, fresh.basis)), "")
    if stale and why:
        yield f"{stale} older comparisons are stale: {why}"


def _coverage_notes(fresh: Tally, inconclusive: int) -> Iterator[str]:
    if fresh.eligible and not fresh.compared:
        yield f"none of {fresh.eligible} eligible requests was compared: this says nothing about the candidate"
    lost = sum(count for reason, count in fresh.drops.items() if reason in AFTER_MIRRORING)
    open_pairs = fresh.mirrored - fresh.compared - inconclusive - lost
    if open_pairs > 0:
        yield f"{open_pairs} mirrored pairs are not judged: they wait to be asked again, or were lost with a process"
    dropped = sum(fresh.drops.values())
    if dropped > _DROPPED_SHARE * max(1, fresh.eligible):
        reason, most = max(fresh.drops.items(), key=lambda each: each[1])
        yield f"{dropped} of {fresh.eligible} eligible requests were dropped, most ({most}) because of {reason}"
