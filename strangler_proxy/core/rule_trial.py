"""Trying a rule on recorded samples before it counts: what it would cover, what not, and what nobody can tell.

Samples are redacted. Where the two redacted bodies still show a difference, they are compared again with and without
the rule; else the recorded values of that path decide. A mark that stands for a secret tells equal from different and
nothing else: a tolerance cannot be measured on it, and says so.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from strangler_proxy.core.alias import AliasBook
from strangler_proxy.core.comparison import compare
from strangler_proxy.core.difference import ABSENT, Kind
from strangler_proxy.core.observation import Effect, Observation, answered
from strangler_proxy.core.rules import Rule, RuleKind, RuleSet, rules_for
from strangler_proxy.core.sample import Sample, SampledAnswer, SampledDifference
from strangler_proxy.core.stage import Origin

EXAMPLES: Final = 20
BYTES_TRIED: Final = 48 * 1024 * 1024
"""Bodies of so many bytes together are compared again; older samples are left out, and counted."""

_MARK: Final = re.compile(r"\[[a-z]{1,12}:[0-9a-f]{12}\]")
_CUT: Final = re.compile(r"… \(\d+ characters\)\Z|\[cut\]")
_CHARSET: Final = re.compile(r"charset\s*=\s*[^;,\s]+", re.I)
_PAIRING: Final = frozenset({RuleKind.UNORDERED, RuleKind.KEYED, RuleKind.COMPARE})

Key = tuple[str, str]


class Fate(enum.Enum):
    """What a rule would do to one difference."""

    COVERED = "covered"
    LEFT = "left"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class TriedPath:
    """One path and kind: in how many samples the rule would cover it, leave it, or cannot be told."""

    path: str
    kind: str
    covered: int = 0
    left: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A confirmed difference that the rule would hide, with the recorded values of both sides (redacted)."""

    sample: str
    path: str
    kind: str
    control: str
    candidate: str


@dataclass(slots=True)
class Trial:
    """What trying a rule has found. `samples` were looked at, `differing` of them have an uncovered difference.

    `settled`: samples of which the rule covers every difference; `confirmed_settled` of them were confirmed mismatches.
    `unmatched` counts samples whose differences the rule does not touch. `left_out` were too much to look at.
    """

    samples: int = 0
    other_routes: int = 0
    differing: int = 0
    settled: int = 0
    confirmed_settled: int = 0
    unmatched: int = 0
    left_out: int = 0
    paths: dict[Key, TriedPath] = field(default_factory=dict)
    hidden: list[Hidden] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        names = ("samples", "other_routes", "differing", "settled", "confirmed_settled", "unmatched", "left_out")
        return {
            **{name: getattr(self, name) for name in names},
            "paths": [
                {"path": each.path, "kind": each.kind, "covered": each.covered, "left": each.left,
                 "unknown": each.unknown}
                for each in self.paths.values()
            ],
            "hidden": [{name: getattr(each, name) for name in Hidden.__slots__} for each in self.hidden],
            "notes": list(self.notes),
        }  # fmt: skip


def try_rule(rule: Rule, samples: Iterable[Sample], *, rules: Sequence[Rule], today: dt.date) -> Trial:
    """Try a rule on samples, the newest first, beside the rules that count today. Takes seconds: off the event loop."""
    trial = Trial()
    others = tuple(each for each in rules if each.id != rule.id)
    aliases, spent = AliasBook(), 0
    for sample in samples:
        names = {sample.route, sample.stratum.path_template}
        if rule.route and rule.route not in names:
            trial.other_routes += 1
            continue
        spent += len(sample.control.body) + len(sample.candidate.body)
        if spent > BYTES_TRIED:
            trial.left_out += 1
            continue
        trial.samples += 1
        counted = rules_for(others, names, today)
        _take(trial, sample, _fates(sample, rule, counted, aliases))
    trial.notes += _notes(rule, trial, aliases)
    return trial


def _take(trial: Trial, sample: Sample, fates: dict[Key, tuple[SampledDifference, Fate]]) -> None:
    if not fates:
        return
    trial.differing += 1
    touched = [fate for _, fate in fates.values() if fate is not Fate.LEFT]
    trial.unmatched += not touched
    if all(fate is Fate.COVERED for _, fate in fates.values()):
        trial.settled += 1
        trial.confirmed_settled += sample.confirmed
    for key, (difference, fate) in fates.items():
        path = trial.paths.setdefault(key, TriedPath(*key))
        setattr(path, fate.value, getattr(path, fate.value) + 1)
        if fate is Fate.COVERED and sample.confirmed and len(trial.hidden) < EXAMPLES:
            trial.hidden.append(
                Hidden(
                    sample=sample.id,
                    path=difference.path,
                    kind=difference.kind,
                    control=difference.control,
                    candidate=difference.candidate,
                )
            )


def _fates(
    sample: Sample, rule: Rule, counted: tuple[Rule, ...], aliases: AliasBook
) -> dict[Key, tuple[SampledDifference, Fate]]:
    """What becomes of every difference of a sample that nothing covers yet."""
    open_now = {(each.path, each.kind): each for each in sample.differences if not each.covered_by}
    if not open_now:
        return {}
    before = _uncovered(sample, RuleSet(rules=counted, aliases=AliasBook()))
    after = _uncovered(sample, RuleSet(rules=(*counted, rule), aliases=aliases))
    found: dict[Key, tuple[SampledDifference, Fate]] = {}
    for key, difference in open_now.items():
        if rule.kind is RuleKind.TOLERANCE and rule.matches(difference.path) and _is_mark(difference):
            fate = Fate.UNKNOWN
        elif key in before:
            fate = Fate.LEFT if key in after else Fate.COVERED
        else:
            fate = _by_values(rule, difference, aliases)
        found[key] = difference, fate
    appeared = after - before
    if appeared and any(fate is Fate.COVERED for _, fate in found.values()):
        return {key: (each, Fate.LEFT) for key, (each, _) in found.items()}
    return found


def _uncovered(sample: Sample, rules: RuleSet) -> set[Key]:
    judged = compare(
        _observed(sample.control, Origin.MONOLITH), _observed(sample.candidate, Origin.EXTRACTED), rules=rules
    )
    return {(each.path, each.kind.value) for each in judged.uncovered}


def _observed(answer: SampledAnswer, origin: Origin) -> Observation:
    """The redacted answer as it would have been observed. Its body is decoded text, whatever it was sent as."""
    fields = [
        (name.encode("utf-8", "replace"), _CHARSET.sub("charset=utf-8", value).encode("utf-8", "replace"))
        for name, value in answer.fields
        if name.lower() not in ("content-encoding", "content-length")
    ]
    effects = None
    if answer.effects is not None:
        effects = tuple(Effect(kind=kind, detail=_json(detail)) for kind, detail in answer.effects)
    body = answer.body.encode("utf-8", "surrogatepass")
    return answered(origin=origin, status=answer.status, fields=fields, body=body, effects=effects)


def _by_values(rule: Rule, difference: SampledDifference, aliases: AliasBook) -> Fate:
    """The recorded values decide where the redacted bodies do not show the difference any more."""
    if not rule.matches(difference.path):
        return Fate.UNKNOWN if rule.kind in _PAIRING and difference.path.startswith(rule.path) else Fate.LEFT
    kind = Kind(difference.kind)
    if rule.kind is RuleKind.IGNORE:
        return Fate.COVERED if not rule.kinds or kind in rule.kinds else Fate.LEFT
    if rule.kind in _PAIRING or _CUT.search(difference.control + difference.candidate):
        return Fate.UNKNOWN
    if difference.count > 1:
        return Fate.UNKNOWN  # only the first of its values was kept
    judge = RuleSet(rules=(rule,), aliases=aliases)
    covered = judge.covers(difference.path, kind, _value(difference.control), _value(difference.candidate))
    return Fate.COVERED if covered else Fate.LEFT


def _is_mark(difference: SampledDifference) -> bool:
    return any(_MARK.search(value) for value in (difference.control, difference.candidate))


def _value(text: str) -> object:
    return ABSENT if not text else _json(text)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _notes(rule: Rule, trial: Trial, aliases: AliasBook) -> list[str]:
    said = ["samples are a reservoir of what differed, not all traffic: a count here is no rate"]
    if rule.kind is RuleKind.TOLERANCE:
        said.append("numbers are compared as they were recorded; those under a secret name are marks, and not measured")
    if rule.kind is RuleKind.ALIAS and aliases.conflicts:
        said.append(f"{sum(aliases.conflicts.values())} pairs are not one to one: the rule does not cover them")
    if any(each.unknown for each in trial.paths.values()):
        said.append("unknown: the recorded values are cut, marks of secrets, or only the first of several")
    if trial.left_out:
        said.append(f"{trial.left_out} older samples were left out: their bodies are too much to compare again")
    return said
