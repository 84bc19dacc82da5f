"""A judge on a table: with a clock, and sides that answer by a function when they are asked again."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from typing import Any

from strangler_proxy.core.pair import Answer, Pair, Side
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.core.tally import StratumTally, Tally
from strangler_proxy.shadow.judge import Judge
from strangler_proxy.shadow.options import JudgeSettings
from tests.pairs import SECRET, answer, pair

TODAY = dt.date(2026, 5, 1)
SETTINGS = JudgeSettings(evidence="memory:", secret=SECRET)
Answers = Callable[[Pair, Side], Answer | None]


class Court:
    """`take` a pair, let time pass with `later`, and look at the tally. `asks` are the sides that were asked."""

    def __init__(self, *rules: Rule, settings: JudgeSettings = SETTINGS, **more: Any) -> None:
        self.judge = Judge(settings, "w", undo={}, chance=random.Random(1), **more)
        self.judge.take_rules("shop", rules, TODAY)
        self.now = 0.0
        self.asks: list[str] = []

    def take(self, control: Answer, candidate: Answer, *, chosen: bool = False, **more: Any) -> Pair:
        one = pair(control, candidate, **more)
        self.judge.pair(one, chosen, self.now)
        return one

    def later(self, answers: Answers, seconds: float = 10.0) -> None:
        self.now += seconds
        for token, sides, one in self.judge.due(self.now):
            said = {side: answers(one, side) for side in sides}
            self.asks += [side.value for side in sides]
            self.judge.asked(token, said.get(Side.CONTROL), said.get(Side.CANDIDATE))

    def tally(self) -> Tally:
        """All strata of the basis of now."""
        ledger = self.judge.flags["shop"].current
        assert ledger is not None
        for stratum in list(ledger._strata):
            ledger.stratum(stratum, "")
        return ledger.snapshot()

    def one(self) -> StratumTally:
        (found,) = self.tally().strata.values()
        return found

    def outcomes(self) -> tuple[int, int, int, int]:
        one = self.one()
        return one.matched, one.mismatched, one.ignored, one.inconclusive


def always(control: object, candidate: object) -> Answers:
    return lambda _, side: answer(control) if side is Side.CONTROL else answer(candidate)


def rule(kind: RuleKind, path: str, expires_on: dt.date = dt.date(2027, 1, 1), **more: Any) -> Rule:
    return Rule(id="r1", kind=kind, path=path, owner="ada", reason="why", expires_on=expires_on, **more)
