"""What shadow mode has found, and the rules of comparing: the same for a control database and for an evidence file."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from strangler_proxy.core.errors import DeclarationError, UnknownName
from strangler_proxy.core.evidence import EvidenceBook, RuleBook
from strangler_proxy.core.evidence_lines import Lines
from strangler_proxy.core.reckoning import compared_by_rule, report_of
from strangler_proxy.core.report import Report
from strangler_proxy.core.rule_findings import findings, problems
from strangler_proxy.core.rule_form import rule_document
from strangler_proxy.core.rule_trial import Trial, try_rule
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.tally import Tally
from strangler_proxy.core.verdict import Demands
from strangler_proxy.store.evidence_opened import Evidence

Json = dict[str, Any]

SAMPLES_SEARCHED = 2_000
SAMPLES_TRIED = 1_000
SAMPLE_PAGE = 50
SAMPLE_BYTES = 6_000_000
"""Samples in one answer take no more characters than that together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoned:
    """A report with the tallies and rules that it was made of."""

    report: Report
    tallies: Sequence[Tally]
    rules: Sequence[Rule]


async def reckon(
    evidence: EvidenceBook,
    flag: str,
    *,
    title: str,
    rules: Sequence[Rule],
    demands: Mapping[str, Demands] | Demands,
    now: dt.datetime,
    since: dt.datetime | None = None,
) -> Reckoned:
    """The report on a flag's evidence, made off the event loop."""
    tallies = await evidence.tallies(flag, since=since)
    report = await asyncio.to_thread(
        report_of, tallies, title=title, now=now, demands=demands, rules=rules, since=since or began(tallies)
    )
    return Reckoned(report=report, tallies=tallies, rules=rules)


def began(tallies: Sequence[Tally]) -> dt.datetime | None:
    """When the first comparison of the fresh basis was; None where there is none."""
    first = [one.first_at for one in tallies[0].strata.values() if one.first_at] if tallies else []
    return dt.datetime.fromtimestamp(min(first), dt.UTC) if first else None


async def named_samples(evidence: EvidenceBook, flag: str, report: Report, limit: int) -> list[Sample]:
    """Samples that the report's differences name, at most `limit` and so many bytes, the newest first."""
    named = {each.sample for stratum in report.strata for each in stratum.differences if each.sample}
    if not named or not limit:
        return []
    found = await evidence.samples(flag, limit=SAMPLES_SEARCHED)
    return bounded([each for each in found if each.id in named][:limit])


def bounded(samples: Iterable[Sample], most: int = SAMPLE_BYTES) -> list[Sample]:
    """As many of the first samples as fit; one at least."""
    kept: list[Sample] = []
    spent = 0
    for sample in samples:
        spent += sample_chars(sample)
        if kept and spent > most:
            break
        kept.append(sample)
    return kept


def sample_chars(sample: Sample) -> int:
    """About how many characters a sample takes."""
    bodies = (sample.body, sample.control.body, sample.candidate.body)
    return 2_000 + sum(map(len, bodies)) + sum(len(each.control) + len(each.candidate) for each in sample.differences)


async def one_sample(evidence: EvidenceBook, sample_id: str, flag: str = "") -> Sample:
    """The sample of that id, or the only one whose id begins so (6 characters or more). Raises UnknownName."""
    found = list(await evidence.samples(flag, limit=1, sample_id=sample_id))
    if not found and len(sample_id) >= 6:
        recent = await evidence.samples(flag, limit=SAMPLES_SEARCHED)
        found = [each for each in recent if each.id.startswith(sample_id)]
    if len(found) > 1:
        raise UnknownName(f'{len(found)} samples begin with "{sample_id}": give more of the id')
    if not found:
        raise UnknownName(
            f'there is no sample "{sample_id}": it never was, or others have taken its place',
            next_command="strangler shadow report FLAG",
        )
    return found[0]


def rules_document(
    rules: Sequence[Rule], declared: Iterable[str], tallies: Sequence[Tally], today: dt.date
) -> list[Json]:
    """Rules with where they come from, whether they count, what they covered, and what is wrong with them."""
    known = set(declared)
    uses = dict(tallies[0].rule_uses) if tallies else {}
    compared = compared_by_rule(rules, tallies[0], today) if tallies else {}
    wrong = findings(rules, today=today, uses=uses, compared=compared)
    return [
        rule_document(rule)
        | {
            "source": "declared" if rule.id in known else "added",
            "counts": today < rule.expires_on,
            "covered": uses.get(rule.id, 0),
            "findings": [
                {"trouble": each.trouble.value, "detail": each.detail} for each in wrong if each.rule == rule.id
            ],
        }
        for rule in rules
    ]


async def add_rule(book: RuleBook, flag: str, rule: Rule, *, by: str, today: dt.date) -> Rule:
    """Add a rule, named by what it says where its id is empty; the rule as it is now.

    Raises DeclarationError, UnknownName.
    """
    if rule.expires_on <= today:
        raise DeclarationError([f'flag "{flag}": rule: {rule.expires_on} is not after today: it would cover nothing'])
    if not rule.id:
        rule = replace(rule, id=free_id(rule, await book.rules(flag)))
    await book.add_rule(flag, rule, by=by)
    return rule


def free_id(rule: Rule, known: Iterable[Rule]) -> str:
    """An id that says what the rule is about, and that no other rule has.

    >>> from strangler_proxy.core.rules import RuleKind
    >>> rule = Rule(id="", kind=RuleKind.IGNORE, path="order.items[].at", owner="o", reason="r",
    ...             expires_on=dt.date(2027, 1, 1))
    >>> free_id(rule, []), free_id(rule, [replace(rule, id="ignore-order-items-at")])
    ('ignore-order-items-at', 'ignore-order-items-at-2')
    """
    taken = {each.id for each in known}
    name = f"{rule.kind.value}-{re.sub(r'[^a-z0-9]+', '-', rule.path.lower()).strip('-')}"[:50].rstrip("-")
    return next(each for each in (name, *(f"{name}-{n}" for n in range(2, 10_000))) if each not in taken)


async def trial(evidence: Evidence, flag: str, rule: Rule, today: dt.date) -> Trial:
    """Try a rule on the newest samples of a flag. Raises DeclarationError for one that is impossible by itself."""
    wrong = problems(replace(rule, id=rule.id or "trial"))
    if wrong:
        raise DeclarationError([f"rule: {why}" for why in wrong])
    samples = await evidence.samples(flag, limit=SAMPLES_TRIED)
    known = await evidence.rules(flag)
    return await asyncio.to_thread(try_rule, rule, samples, rules=known, today=today)


async def take_in(evidence: Evidence, flag: str, lines: Lines, *, writer: str, by: str, reason: str) -> tuple[int, int]:
    """Keep imported tallies and samples, with an audit entry first; how many strata and samples."""
    strata = sum(len(tally.strata) for tally in lines.tallies.values())
    detail = {"writer": writer, "strata": strata, "samples": len(lines.samples)}
    await evidence.record(flag, "shadow.import", detail, by=by, reason=reason)
    for tally in lines.tallies.values():
        await evidence.publish(writer, tally)
    await evidence.keep([replace(each, flag=flag) for each in lines.samples])
    return strata, len(lines.samples)
