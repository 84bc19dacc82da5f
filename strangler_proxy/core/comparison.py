"""Comparisons: a control's and a candidate's observation judged under rules and noise.

`matched`: nothing differs. `ignored`: only where a rule, noise or a race says so. `mismatched`: something else differs,
or the candidate gave no answer. `inconclusive`: what there is proves nothing (the control failed, a body was cut off or
cannot be decoded here, the comparison itself failed); never counted as matched.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from strangler_proxy.core.alias import AliasBook
from strangler_proxy.core.bodies import walk_bodies
from strangler_proxy.core.decoding import Undo
from strangler_proxy.core.difference import Difference, Kind, Limits
from strangler_proxy.core.fields import walk_fields
from strangler_proxy.core.noise import Key, Noise
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.rules import RuleSet
from strangler_proxy.core.walk import Walk

DEFAULT_LIMITS = Limits()


class Outcome(enum.Enum):
    """What one comparison says."""

    MATCHED = "matched"
    MISMATCHED = "mismatched"
    IGNORED = "ignored"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two observations, judged. `why` says why it is inconclusive, `notes` what else there is to know.

    `more` counts differences beyond the limit, `cuts` places where the walk stopped (`depth`, `size`).
    """

    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    why: str = ""
    notes: tuple[str, ...] = ()
    more: int = 0
    cuts: Mapping[str, int] = field(default_factory=dict)
    control_ms: float = 0.0
    candidate_ms: float = 0.0

    @property
    def uncovered(self) -> tuple[Difference, ...]:
        """The differences that nothing covers."""
        return tuple(each for each in self.differences if not each.covered_by)

    @property
    def latency_ratio(self) -> float | None:
        """The candidate's time over the control's, None where either is unknown."""
        return self.candidate_ms / self.control_ms if self.control_ms > 0 and self.candidate_ms > 0 else None


def compare(
    control: Observation,
    candidate: Observation,
    *,
    rules: RuleSet,
    noise: Noise | None = None,
    volatile: frozenset[Key] = frozenset(),
    limits: Limits = DEFAULT_LIMITS,
    undo: Mapping[str, Undo] = MappingProxyType({}),
) -> Comparison:
    """Judge a pair. `volatile`: where the control has differed from itself for this very request.

    `undo` decodes further content codings (`br`, `zstd`). Where the status differs, that is the difference, and
    nothing else is compared. Takes milliseconds for large bodies: off the event loop.
    """
    if control.failure is not None:
        return _of(control, candidate, Outcome.INCONCLUSIVE, why=f"the control failed: {control.failure.value}")
    walk = Walk(rules, limits)
    why = ""
    if candidate.failure is not None:
        walk.note("status", "", Kind.ERROR, control.status, candidate.failure.value)
    elif control.status != candidate.status:
        walk.note("status", "", Kind.VALUE, control.status, candidate.status)
    else:
        walk_fields(walk, rules, control, candidate)
        why = walk_bodies(walk, control, candidate, undo)
        _walk_effects(walk, control, candidate)
    found = walk.found
    covered = (noise or Noise()).cover(found.all(), volatile=volatile)
    if not why and found.cuts:
        why = "cut off: " + ", ".join(f"{name} {count}" for name, count in sorted(found.cuts.items()))
    if not why and found.more:
        why = f"{found.more} more differences were not looked at"
    return Comparison(
        outcome=_outcome(covered, why),
        why=why,
        differences=tuple(covered),
        notes=control.notes + candidate.notes + _effect_notes(control, candidate),
        more=found.more,
        cuts=dict(found.cuts),
        control_ms=control.duration_ms,
        candidate_ms=candidate.duration_ms,
    )


def compare_control(control: Observation, again: Observation, *, rules: RuleSet) -> tuple[Difference, ...] | None:
    """The differences of a control with itself (A/A); None where either answer proves nothing.

    Aliases are not consulted: the control has one name for a thing.
    """
    if control.failure is not None or again.failure is not None:
        return None
    apart = RuleSet(rules=rules.rules, aliases=AliasBook(kept=0))
    return compare(control, again, rules=apart).differences


def confirm(first: Comparison, again: Comparison) -> Comparison:
    """A mismatch after both sides were asked again: differences that are gone were a race, or lag.

    A candidate that failed, or answered 5xx where the control did not, stays a mismatch: that it works at another time
    is no excuse. Anything but a mismatch is returned as it is.
    """
    if first.outcome is not Outcome.MISMATCHED or again.outcome is Outcome.INCONCLUSIVE:
        return first
    persisting = {each.key for each in again.uncovered}
    kept = [
        each if each.covered_by or each.key in persisting or _failed(each) else replace(each, covered_by="race")
        for each in first.differences
    ]
    return replace(first, differences=tuple(kept), outcome=_outcome(kept, first.why))


def not_compared(control: Observation, candidate: Observation, *, error: str) -> Comparison:
    """What is recorded where comparing itself failed. `error` is the class of the error, never its text."""
    return _of(control, candidate, Outcome.INCONCLUSIVE, why=f"comparing failed: {error}")


def _outcome(differences: list[Difference], why: str) -> Outcome:
    if any(not each.covered_by for each in differences):
        return Outcome.MISMATCHED
    if why:
        return Outcome.INCONCLUSIVE
    return Outcome.IGNORED if differences else Outcome.MATCHED


def _failed(difference: Difference) -> bool:
    status = difference.candidate
    return difference.kind is Kind.ERROR or (
        difference.path == "status" and isinstance(status, int) and status >= 500 and _below_500(difference.control)
    )


def _below_500(status: object) -> bool:
    return isinstance(status, int) and status < 500


def _walk_effects(walk: Walk, control: Observation, candidate: Observation) -> None:
    if control.effects is None or candidate.effects is None:
        return
    for kind in dict.fromkeys(effect.kind for effect in (*control.effects, *candidate.effects)):
        ours = [effect.detail for effect in control.effects if effect.kind == kind]
        theirs = [effect.detail for effect in candidate.effects if effect.kind == kind]
        path = f"effect.{kind}"
        if walk.judge.array(path) is None:
            walk.unordered(path, path, ours, theirs)
        else:
            walk.pair(path, path, ours, theirs)


def _effect_notes(control: Observation, candidate: Observation) -> tuple[str, ...]:
    if (control.effects is None) == (candidate.effects is None):
        return ()
    side = "control" if control.effects is None else "candidate"
    return (f"effects of the {side} were not captured, so effects were not compared",)


def _of(control: Observation, candidate: Observation, outcome: Outcome, *, why: str) -> Comparison:
    return Comparison(outcome=outcome, why=why, control_ms=control.duration_ms, candidate_ms=candidate.duration_ms)
