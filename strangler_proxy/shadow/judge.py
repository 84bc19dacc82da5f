"""The judge: pairs in, tallies and samples out. Knows no socket, no store and no clock of its own.

A pair is compared under the rules of its route. What differs and is no noise waits to be asked again, both sides, and
is confirmed where it persists; the control's second answer says at the same time what is volatile. A request that
cannot be asked again is confirmed when several pairs of its stratum show the same.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from strangler_proxy.core.comparison import Comparison, Outcome, compare, compare_control, confirm, not_compared
from strangler_proxy.core.decoding import Undo
from strangler_proxy.core.difference import Difference
from strangler_proxy.core.noise import Key
from strangler_proxy.core.observation import Observation
from strangler_proxy.core.pair import Answer, Pair, Side
from strangler_proxy.core.rules import Rule, RuleSet
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.strata import SESSION_COOKIES, is_signed_in, stratum
from strangler_proxy.shadow import settlement
from strangler_proxy.shadow.alarm import OutOfTime, unlimited
from strangler_proxy.shadow.case import Case
from strangler_proxy.shadow.covering import covered, now_covered
from strangler_proxy.shadow.flag_book import FlagBook
from strangler_proxy.shadow.frames import BOTH, Row
from strangler_proxy.shadow.notebook import Count
from strangler_proxy.shadow.noted import Noted
from strangler_proxy.shadow.observing import observed
from strangler_proxy.shadow.options import JudgeSettings
from strangler_proxy.shadow.redacting import Redacting
from strangler_proxy.shadow.reservoir import Reservoir
from strangler_proxy.shadow.stratum import Stratum

ALIKE: Final = 20
"""Pairs of a stratum that wait to be asked again for the same differences; more of them are not."""
PROVED: Final = 20
PROVED_EVERY: Final = 10
"""What was confirmed so often in a stratum, all of it, is asked again only for each tenth pair."""
WAITING: Final = 20_000
WAITING_BYTES: Final = 64 * 1024 * 1024
NOT_COMPARED: Final = "not_compared"
"""Reason of a drop: reading the pair itself failed."""
_CREDENTIALS: Final = frozenset({b"authorization", b"cookie"})

Asks = tuple[int, tuple[Side, ...], Pair]
"""A token, whom to ask, and what."""


class Judge:
    """Of one proxy process. `now` is in seconds of a clock that never goes back; `limited` bounds one comparison."""

    def __init__(
        self,
        settings: JudgeSettings,
        writer: str,
        *,
        undo: Mapping[str, Undo],
        limited: Callable[[Callable[[], Any]], Any] = unlimited,
        chance: random.Random | None = None,
    ) -> None:
        self.facts: Counter[str] = Counter()
        self.flags: dict[str, FlagBook] = {}
        self._settings = settings
        self._writer = writer
        self._undo = undo
        self._limited = limited
        self._cookies = SESSION_COOKIES | settings.session_cookies
        self._redacting = Redacting(settings.secret, undo)
        reservoir = Reservoir((chance or random.Random()).randrange, limit=settings.bounds.samples)
        self._reservoir = reservoir
        self._settlement = settlement.Settlement(self._redacting, reservoir, limited, self.facts)
        self._tokens = itertools.count(1)
        self._cases: dict[int, Case] = {}
        self._due: list[tuple[float, int]] = []
        self._case_bytes = 0
        self._noted = Noted(self._book, self._redacting, self.facts)

    def __repr__(self) -> str:
        return f"<Judge flags={len(self.flags)} waiting={len(self._cases)} samples={len(self.samples)}>"

    @property
    def waiting(self) -> int:
        """Pairs that wait to be asked again, or for an answer."""
        return len(self._cases)

    @property
    def has_unplaced(self) -> bool:
        """Are there requests that are in no tally yet, because no pair has named their basis?"""
        return self._noted.is_waiting

    @property
    def is_exact(self) -> bool:
        """May equal answers of every flag be counted unseen?"""
        return all(book.is_exact for book in self.flags.values())

    @property
    def samples(self) -> deque[Sample]:
        """Samples that wait to be kept; whoever keeps them takes them from the left."""
        return self._settlement.samples

    @property
    def forgotten(self) -> list[str]:
        """Ids of samples that are to be kept no more."""
        return self._settlement.forgotten

    def knows(self, flag: str) -> bool:
        """Were the rules of this flag given?"""
        return flag in self.flags

    def take_rules(self, flag: str, rules: Sequence[Rule], today: dt.date) -> None:
        """The rules of a flag, as they are now."""
        self._book(flag).take_rules(rules, today)

    def notes(self, at: float, rows: Iterable[Row], counts: Iterable[Count]) -> None:
        """Count what the proxy noted; `at` in Unix seconds."""
        self._noted.take(at, rows, counts)

    def place_overdue(self, now: float, *, all_of_them: bool = False) -> None:
        """Count what waited too long for a pair under the labels in the settings."""
        self._noted.place_overdue(now, all_of_them=all_of_them)

    def drop(self, pair: Pair, reason: str) -> None:
        """Count a pair that is not compared."""
        self._noted.count(self._book(pair.flag).labelled(), reason, 1)

    # Pairs.

    def pair(self, pair: Pair, chosen: bool, now: float) -> None:
        """Compare a pair. `chosen`: the control is asked once more whatever comes of it, where that is safe."""
        self.facts["pairs"] += 1
        try:
            case, one = self._opened(pair, chosen)
        except Exception:  # noqa: BLE001 -- counted, and never taken for matched
            self.facts["failed"] += 1
            self.drop(pair, NOT_COMPARED)
            return
        if case.comparison.outcome is Outcome.MISMATCHED and pair.safe:
            self._wait(case, one, now)
        elif case.chosen:
            self._open(case, now)
        else:
            self._settlement.settle(case, one, case.comparison)

    def _opened(self, pair: Pair, chosen: bool) -> tuple[Case, Stratum]:
        """A pair, compared and counted as a request of its stratum."""
        book = self._book(pair.flag)
        ledger = book.ledger_of(pair)
        control, control_problem = observed(pair.control, pair.control_origin, ledger.basis.control_version)
        candidate, candidate_problem = observed(
            pair.candidate, pair.control_origin.other, ledger.basis.candidate_version
        )
        template = book.template(pair.target.partition(b"?")[0])
        key = stratum(pair.method, template, signed_in=self._is_signed_in(pair), control=control)
        if (shown := self._redacting.name(key.content_type)) != key.content_type:
            key = replace(key, content_type=shown)
        rules = ledger.rules(pair.route, template)
        comparison = self._compare(control, candidate, rules, problem=control_problem or candidate_problem)
        one = ledger.stratum(key, pair.route)
        comparison = covered(comparison if pair.safe else now_covered(comparison, pair.at), one)
        case = Case(
            pair=pair,
            ledger=ledger,
            stratum=key,
            control=control,
            candidate=candidate,
            rules=rules,
            comparison=comparison,
            chosen=chosen and pair.safe and control.failure is None,
        )
        ledger.tally.eligible += 1
        ledger.tally.mirrored += 1
        one.tally.requests += 1
        return case, one

    def _wait(self, case: Case, one: Stratum, now: float) -> None:
        """Have a mismatch asked again after a while, if that can still tell something.

        Not asked are those of which many like them wait already, or most of what was confirmed often: they are counted
        as they are, and taken back should noise explain them later.
        """
        case.what = frozenset(each.key for each in case.comparison.uncovered)
        alike = one.waiting.get(case.what, 0)
        proved = one.mismatches.get((case.what, case.what), 0) >= PROVED and self.facts["pairs"] % PROVED_EVERY
        if alike >= ALIKE or proved or len(self._cases) >= WAITING or self._case_bytes > WAITING_BYTES:
            self.facts["not_asked_again"] += 1
            self._settlement.settle(case, one, case.comparison)
            return
        case.asks = True
        one.waiting[case.what] = alike + 1
        self._open(case, now + self._settings.again_after_s)

    def _open(self, case: Case, due: float) -> None:
        token = next(self._tokens)
        self._cases[token] = case
        self._case_bytes += case.bytes
        heapq.heappush(self._due, (due, token))

    def due(self, now: float, most: int | None = None) -> list[Asks]:
        """Whom to ask now, so many at most: both sides of a mismatch, else the control alone."""
        asks: list[Asks] = []
        while self._due and self._due[0][0] <= now and (most is None or len(asks) < most):
            _, token = heapq.heappop(self._due)
            case = self._cases.get(token)
            if case is not None:
                asks.append((token, BOTH if case.asks else (Side.CONTROL,), case.pair))
                self.facts["asked"] += 1
        return asks

    def asked(self, token: int, control: Answer | None, candidate: Answer | None) -> None:
        """What the sides said when they were asked once more; None: they were not.

        What persists is confirmed, if the candidate says the same twice. Where it does not, chance may have chosen on
        both sides, and only several pairs of the stratum confirm it.
        """
        case = self._cases.get(token)
        if case is None:
            return
        if control is None:
            self.facts["not_asked_again"] += 1
            self._give_up(token)
            return
        one = self._close(token, case)
        origin = case.pair.control_origin
        again, _ = observed(control, origin, case.control.code_version)
        volatile = self._learn(case, one, again)
        comparison = covered(case.comparison, one, volatile)
        persisting: frozenset[Key] = frozenset()
        shaky: frozenset[Key] = frozenset()
        if comparison.outcome is Outcome.MISMATCHED and candidate is not None:
            theirs, problem = observed(candidate, origin.other, case.candidate.code_version)
            second = covered(self._compare(again, theirs, case.rules, problem=problem), one, volatile)
            comparison = confirm(comparison, second)
            persisting = frozenset(each.key for each in second.uncovered)
            shaky = frozenset(each.key for each in self._differing(case.candidate, theirs, case.rules) or ()) - one.far
        self._settlement.settle(case, one, comparison, confirmed=persisting - shaky, shaky=persisting & shaky)

    def settle_all(self) -> None:
        """Settle what waits with what is known now: there is no time to ask."""
        for token in list(self._cases):
            self.facts["not_asked_again"] += 1
            try:
                self._give_up(token)
            except Exception:  # noqa: BLE001 -- one pair is not settled, and counted; the others are
                self.facts["failed"] += 1
                self._cases.pop(token, None)

    def _give_up(self, token: int) -> None:
        case = self._cases[token]
        one = self._close(token, case)
        self._settlement.settle(case, one, covered(case.comparison, one))

    def _close(self, token: int, case: Case) -> Stratum:
        """Take a case off the list."""
        del self._cases[token]
        self._case_bytes -= case.bytes
        one = self._stratum(case)
        if case.asks:
            left = one.waiting.get(case.what, 0) - 1
            if left > 0:
                one.waiting[case.what] = left
            else:
                one.waiting.pop(case.what, None)
        return one

    def _stratum(self, case: Case) -> Stratum:
        """A case's stratum, which may have another name by now."""
        template = self._book(case.pair.flag).fold(case.stratum.path_template)
        if template != case.stratum.path_template:
            case.stratum = replace(case.stratum, path_template=template)
        return case.ledger.stratum(case.stratum, case.pair.route)

    def _learn(self, case: Case, one: Stratum, again: Observation) -> frozenset[Key]:
        """Learn noise from the control's two answers; returns where it differed from itself."""
        named = self._differing(case.control, again, case.rules)
        if named is None:
            return frozenset()
        one.note_apart(named)
        case.ledger.fields.learn(case.control, named)
        one.tally.noise.learn(named, at_random=case.chosen)
        return frozenset(each.key for each in named if not each.covered_by)

    def _differing(self, first: Observation, again: Observation, rules: RuleSet) -> tuple[Difference, ...] | None:
        """Where a side differs from itself; None where that says nothing."""
        try:
            found = self._limited(lambda: compare_control(first, again, rules=rules))
        except Exception:  # noqa: BLE001 -- counted, and nothing is learned
            self.facts["failed"] += 1
            return None
        return None if found is None else self._redacting.named(found)

    def _compare(self, control: Observation, candidate: Observation, rules: RuleSet, *, problem: str) -> Comparison:
        """Compare, whatever the bodies are: what goes wrong is a comparison that says nothing."""
        limits, undo = self._settings.compare_limits, self._undo
        try:
            found: Comparison = self._limited(
                lambda: compare(control, candidate, rules=rules, limits=limits, undo=undo)
            )
        except OutOfTime:
            self.facts["cut_off"] += 1
            found = replace(not_compared(control, candidate, error="OutOfTime"), why="cut off: time")
        except Exception as error:  # noqa: BLE001 -- counted, and never taken for matched
            self.facts["failed"] += 1
            found = not_compared(control, candidate, error=type(error).__name__)
        if found.cuts:
            self.facts["cut_off"] += 1
        if problem and found.outcome in (Outcome.MATCHED, Outcome.IGNORED):
            found = replace(found, outcome=Outcome.INCONCLUSIVE, why=problem)
        named = self._redacting.named(found.differences)
        return found if named == found.differences else replace(found, differences=named)

    def _book(self, flag: str) -> FlagBook:
        found = self.flags.get(flag)
        if found is None:
            found = self.flags[flag] = FlagBook(
                flag, self._settings, writer=self._writer, redacting=self._redacting, reservoir=self._reservoir
            )
        return found

    def _is_signed_in(self, pair: Pair) -> bool:
        signs = [
            (name.lower().decode("latin-1"), value.decode("latin-1"))
            for name, value in pair.fields
            if name.lower() in _CREDENTIALS
        ]
        return bool(signs) and is_signed_in(signs, self._cookies)
