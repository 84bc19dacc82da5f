"""What is wrong with a set of rules: expired, about to expire, contradicting another, matching nothing, impossible."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from strangler_proxy.core.rules import Rule, RuleKind

SOON_DAYS = 14
FEWEST_COMPARED = 100
"""Below this many comparisons a rule that matched nothing is not yet reported."""


class Trouble(enum.Enum):
    """What is wrong with a rule."""

    INVALID = "invalid"
    EXPIRED = "expired"
    EXPIRES_SOON = "expires soon"
    CONTRADICTS = "contradicts"
    MATCHES_NOTHING = "matches nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong; `detail` is a sentence that says what to do."""

    rule: str
    trouble: Trouble
    detail: str


def findings(
    rules: Sequence[Rule], *, today: dt.date, uses: Mapping[str, int], compared: int | Mapping[str, int]
) -> tuple[Finding, ...]:
    """Everything wrong with these rules. `uses` counts what each covered among `compared` comparisons.

    `compared` by rule id where rules belong to routes of which not all was compared.
    """
    found = [Finding(rule=rule.id, trouble=Trouble.INVALID, detail=why) for rule in rules for why in problems(rule)]
    found += _repeated_ids(rules)
    for rule in rules:
        days = (rule.expires_on - today).days
        if days <= 0:
            detail = f"it expired on {rule.expires_on} and covers nothing: {rule.owner} renews or removes it"
            found.append(Finding(rule=rule.id, trouble=Trouble.EXPIRED, detail=detail))
            continue
        if days <= SOON_DAYS:
            detail = f"it expires on {rule.expires_on}: {rule.owner} renews or removes it"
            found.append(Finding(rule=rule.id, trouble=Trouble.EXPIRES_SOON, detail=detail))
        tried = compared if isinstance(compared, int) else compared.get(rule.id, 0)
        if tried >= FEWEST_COMPARED and not uses.get(rule.id):
            detail = f"{rule.path!r} covered nothing in {tried} comparisons: correct the path or remove the rule"
            found.append(Finding(rule=rule.id, trouble=Trouble.MATCHES_NOTHING, detail=detail))
    current = [rule for rule in rules if today < rule.expires_on]
    found += [pair for a, b in itertools.combinations(current, 2) for pair in _contradiction(a, b)]
    return tuple(found)


def problems(rule: Rule) -> list[str]:
    """Why a rule by itself is impossible; empty if it is not."""
    said = [f"it has no {name}" for name in ("id", "path", "owner", "reason") if not getattr(rule, name).strip()]
    said += [sentence for fits, sentence in _CHECKS.get(rule.kind, ()) if not fits(rule)]
    if rule.kind is not RuleKind.IGNORE and rule.kinds:
        said.append("only a rule of kind ignore names kinds of difference")
    if rule.path.strip() in ("*", "**") and rule.kind is RuleKind.IGNORE and not rule.kinds:
        said.append("it would ignore everything: name a path")
    return said


def _bounded(rule: Rule) -> bool:
    bounds = (rule.absolute, rule.relative, rule.scale, rule.skew_s)
    return any(bound is not None for bound in bounds) and all(bound is None or bound >= 0 for bound in bounds)


_CHECKS: Mapping[RuleKind, Iterable[tuple[Callable[[Rule], bool], str]]] = {
    RuleKind.TOLERANCE: (
        (_bounded, "a tolerance needs absolute, relative, scale or skew_s, none below 0"),
        (lambda rule: rule.skew_s is None or (rule.absolute, rule.relative, rule.scale) == (None, None, None),
         "skew_s is for times and goes with no other bound"),
        (lambda rule: rule.relative is None or rule.relative < 1, "relative is a share below 1 (0.01 is 1 %)"),
        (lambda rule: rule.scale is None or rule.scale <= 30, "scale is at most 30 decimal places"),
    ),
    RuleKind.KEYED: ((lambda rule: bool(rule.key), "a keyed array needs the field that identifies its items"),),
    RuleKind.COMPARE: (
        (lambda rule: rule.path.startswith("header."), "only headers (header.NAME) can be asked for"),
    ),
}  # fmt: skip


def _repeated_ids(rules: Sequence[Rule]) -> list[Finding]:
    ids = [rule.id for rule in rules]
    return [
        Finding(rule=each, trouble=Trouble.INVALID, detail="the id stands for more than one rule")
        for each in sorted({each for each in ids if ids.count(each) > 1})
    ]


def _contradiction(a: Rule, b: Rule) -> list[Finding]:
    if a.route and b.route and a.route != b.route:
        return []
    why = ""
    arrays = {RuleKind.UNORDERED, RuleKind.KEYED}
    if a.kind in arrays and b.kind in arrays and a.path == b.path:
        if a.kind is not b.kind or a.key != b.key:
            why = "pairs the items of the same array in another way"
        else:
            why = "says the same"
    elif RuleKind.IGNORE in (a.kind, b.kind) and a.kind is not b.kind:
        ignoring, other = (a, b) if a.kind is RuleKind.IGNORE else (b, a)
        if not ignoring.kinds and ignoring.matches(other.path):
            return [_against(other, ignoring, "ignores that path, so that this rule never counts")]
    elif a.path == b.path and a.kind is b.kind:
        same_kinds = a.kind is not RuleKind.IGNORE or a.kinds == b.kinds
        why = "covers the same path" if same_kinds else ""
    elif a.path == b.path and {a.kind, b.kind} == {RuleKind.TOLERANCE, RuleKind.ALIAS}:
        why = "takes the same value for a name where this takes it for a number (or the other way round)"
    return [_against(b, a, why)] if why else []


def _against(rule: Rule, other: Rule, why: str) -> Finding:
    return Finding(rule=rule.id, trouble=Trouble.CONTRADICTS, detail=f'rule "{other.id}" {why}: keep one of them')
