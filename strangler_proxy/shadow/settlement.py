"""Settling: a case that is decided is counted, and offered to the reservoir of samples."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from strangler_proxy.core.comparison import Comparison, Outcome
from strangler_proxy.core.difference import Difference, Kind
from strangler_proxy.core.noise import Key
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.tally import StratumTally
from strangler_proxy.shadow.case import Case
from strangler_proxy.shadow.ledger import count_in, keys_of
from strangler_proxy.shadow.redacting import Redacting
from strangler_proxy.shadow.reservoir import Reservoir
from strangler_proxy.shadow.stratum import Stratum

SAMPLES: Final = 1_000
"""Samples that may wait to be kept."""
REPEATED: Final = 3
"""An unsafe request is not asked twice: its difference is confirmed when this many pairs of a stratum have it."""


class Settlement:
    """Of one judge. `samples` wait to be kept, `forgotten` are ids of those that are to be kept no more."""

    def __init__(
        self,
        redacting: Redacting,
        reservoir: Reservoir,
        limited: Callable[[Callable[[], Any]], Any],
        facts: Counter[str],
    ) -> None:
        self.samples: deque[Sample] = deque()
        self.forgotten: list[str] = []
        self._redacting = redacting
        self._reservoir = reservoir
        self._limited = limited
        self._facts = facts

    def settle(
        self,
        case: Case,
        one: Stratum,
        comparison: Comparison,
        *,
        confirmed: Iterable[Key] = frozenset(),
        shaky: frozenset[Key] = frozenset(),
    ) -> None:
        """Count a case in its stratum. `confirmed`: what persisted when both sides were asked again,
        `shaky` what did though the candidate said something else.
        """
        tally = one.tally
        keys = keys_of(comparison.differences)
        open_keys = {key for key, covered in keys.items() if not covered}
        persisting = open_keys & set(confirmed)
        if comparison.outcome is Outcome.MISMATCHED:
            persisting |= self._repeated(case, one, comparison, shaky)
            one.note_mismatch(open_keys, persisting)
        count_in(one.differing, {each.key for each in comparison.differences if not _by_rule(each)})
        is_confirmed = bool(persisting)
        _count(tally, comparison.outcome, is_confirmed)
        if comparison.outcome is not Outcome.INCONCLUSIVE:
            note_time(tally, case.pair.at)
        if case.candidate.failure is None:
            note_latency(tally, comparison.control_ms, comparison.candidate_ms)
        self._facts[comparison.outcome.value] += 1
        kept = self._keep(case, comparison, is_confirmed)
        values = {each.key: each for each in comparison.differences}
        for key, covered in keys.items():
            path = tally.path(key)
            if path is None:
                continue
            path.count += 1
            path.covered += covered
            path.confirmed += key in persisting
            if key in kept or not path.control + path.candidate:
                path.control, path.candidate = self._values(values[key])
                path.sample = case.pair.id if key in kept else path.sample

    @staticmethod
    def _repeated(case: Case, one: Stratum, comparison: Comparison, shaky: frozenset[Key]) -> set[Key]:
        """Differences that asking again cannot confirm, and which enough pairs have shown to be no accident.

        So those of unsafe requests, a 5xx where the control had none, which asking again does not excuse, and `shaky`
        ones.
        """
        found = {
            each.key
            for each in comparison.uncovered
            if (not case.pair.safe and each.kind is not Kind.ERROR) or _is_fault(each) or each.key in shaky
        }
        count_in(one.repeated, found)
        return {key for key in found if one.repeated[key] >= REPEATED}

    def _keep(self, case: Case, comparison: Comparison, confirmed: bool) -> set[Key]:
        """Offer a comparison to the reservoir; returns the differences of which it is a kept sample now."""
        slots: dict[Any, Key | None] = {(case.stratum, key): key for key in keys_of(comparison.differences)}
        if not slots:
            slots = {(case.stratum, comparison.why[:40]): None}
        into, gone = self._reservoir.offer(case.pair.id, slots)
        if gone:
            self.forgotten += gone
            waiting = [each for each in self.samples if each.id not in gone]
            self.samples.clear()
            self.samples.extend(waiting)
        sample = self._sample(case, comparison, confirmed) if into else None
        if sample is None:
            return set()
        if len(self.samples) >= SAMPLES:
            self.samples.popleft()
            self._facts["samples_lost"] += 1
        self.samples.append(sample)
        return {key for slot in into if (key := slots[slot]) is not None}

    def _sample(self, case: Case, comparison: Comparison, confirmed: bool) -> Sample | None:
        def make(bodies: bool) -> Sample:
            return self._redacting.sample(
                case.pair,
                case.control,
                case.candidate,
                comparison,
                stratum=case.stratum,
                basis=case.ledger.basis,
                confirmed=confirmed,
                bodies=bodies,
            )

        for bodies in (True, False):
            try:
                made: Sample = self._limited(lambda: make(bodies))  # noqa: B023
            except Exception:  # noqa: BLE001 -- too long, too deep or too odd: it is kept with less, or not at all
                self._facts["samples_cut"] += 1
            else:
                return made
        return None

    def _values(self, found: Difference) -> tuple[str, str]:
        try:
            values: tuple[str, str] = self._limited(lambda: self._redacting.values(found))
        except Exception:  # noqa: BLE001 -- as above
            self._facts["samples_cut"] += 1
            values = "[not kept]", "[not kept]"
        return values


def _count(tally: StratumTally, outcome: Outcome, confirmed: bool) -> None:
    if outcome is Outcome.MATCHED:
        tally.matched += 1
    elif outcome is Outcome.MISMATCHED:
        tally.mismatched += 1
        tally.confirmed += confirmed
    elif outcome is Outcome.IGNORED:
        tally.ignored += 1
    else:
        tally.inconclusive += 1


def note_time(tally: StratumTally, at: float) -> None:
    """Count the time of a comparison, in Unix seconds."""
    tally.first_at = min(tally.first_at, at) if tally.first_at else at
    tally.last_at = max(tally.last_at, at)


def note_latency(tally: StratumTally, control_ms: float, candidate_ms: float, requests: int = 1) -> None:
    """Count how long both sides took, where both are known; these times stand for so many requests."""
    if control_ms > 0 and candidate_ms > 0:
        tally.control_ms.add(control_ms, requests)
        tally.candidate_ms.add(candidate_ms, requests)
        tally.ratio.add(candidate_ms / control_ms, requests)


def _by_rule(each: Difference) -> bool:
    return each.covered_by.startswith("rule:")


def _is_fault(each: Difference) -> bool:
    a, b = each.control, each.candidate
    return each.path == "status" and isinstance(a, int) and isinstance(b, int) and a < 500 <= b
