"""The ledger: what one judge has counted for one flag on one basis, stratum by stratum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from strangler_proxy.core.alias import AliasBook
from strangler_proxy.core.difference import Difference
from strangler_proxy.core.noise import Key
from strangler_proxy.core.rules import Rule, RuleSet
from strangler_proxy.core.strata import StratumKey
from strangler_proxy.core.tally import Tally
from strangler_proxy.core.verdict import Basis
from strangler_proxy.shadow.field_noise import FieldNoise
from strangler_proxy.shadow.reservoir import Reservoir
from strangler_proxy.shadow.stratum import Stratum

STRATA: Final = 3_000
"""Strata of one basis; what comes after them is counted under one path template."""
ELSEWHERE: Final = "/**"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Ledger:
    """Of one flag and basis. `writer` is whose tally this is in the evidence."""

    def __init__(
        self,
        flag: str,
        basis: Basis,
        *,
        writer: str,
        rules_of: Callable[[str, str], tuple[Rule, ...]],
        aliases: AliasBook,
        reservoir: Reservoir,
    ) -> None:
        self.basis = basis
        self.writer = writer
        self.reservoir = reservoir
        self.tally = Tally(flag=flag, basis=basis)
        self.dirty = False
        """Is there something that was not published?"""
        self.published_at = 0.0
        """Unix seconds."""
        self.fields = FieldNoise()
        """Noise of headers and cookies in all strata."""
        self._strata: dict[StratumKey, Stratum] = {}
        self._touched: set[StratumKey] = set()
        self._rules_of = rules_of
        self._aliases = aliases
        self._rule_sets: dict[tuple[str, str], RuleSet] = {}
        self._shared: dict[tuple[Rule, ...], RuleSet] = {}

    def __repr__(self) -> str:
        return f"<Ledger {self.tally.flag!r} {self.basis} strata={len(self._strata)} dirty={self.dirty}>"

    def stratum(self, key: StratumKey, route: str) -> Stratum:
        """A stratum to be counted in."""
        found = self._strata.get(key)
        if found is None:
            if len(self._strata) >= STRATA:
                key = replace(key, path_template=ELSEWHERE, content_type="")
            unsafe = key.method not in SAFE
            found = self._strata.setdefault(key, Stratum(fields=self.fields if unsafe else None))
        if not found.tally.route:
            found.tally.route = route
        self._touched.add(key)
        self.dirty = True
        return found

    def rules(self, route: str, template: str) -> RuleSet:
        """The rules for a route and template; the same rules are the same set, so that what they learn is shared."""
        found = self._rule_sets.get((route, template))
        if found is None:
            if len(self._rule_sets) > STRATA:
                self._rule_sets.clear()
            rules = self._rules_of(route, template)
            found = self._shared.setdefault(rules, RuleSet(rules=rules, aliases=self._aliases))
            self._rule_sets[route, template] = found
        return found

    def fold(self, fold: Callable[[str], str]) -> None:
        """Put strata together whose templates are the same by now; the old names are published as empty."""
        for key in list(self._strata):
            template = fold(key.path_template)
            if template == key.path_template:
                continue
            into = replace(key, path_template=template)
            gone = self._strata.pop(key)
            self.stratum(into, gone.tally.route).absorb(gone)
            self._touched.add(key)

    def snapshot(self) -> Tally:
        """A copy of what has changed since the last one, with the totals."""
        for rules in self._shared.values():
            for rule, uses in rules.uses.items():
                self.tally.rule_uses[rule] = self.tally.rule_uses.get(rule, 0) + uses
            rules.uses.clear()
        copy = Tally(
            flag=self.tally.flag,
            basis=self.basis,
            eligible=self.tally.eligible,
            mirrored=self.tally.mirrored,
            drops=dict(self.tally.drops),
            rule_uses=dict(self.tally.rule_uses),
        )
        for key in self._touched:
            stratum = copy.stratum(key)
            if key in self._strata:
                self._strata[key].take_back()
                stratum.merge(self._strata[key].tally)
        self._touched.clear()
        self.dirty = False
        return copy

    def not_published(self, tally: Tally) -> None:
        """A snapshot did not get through: it is part of the next one."""
        self._touched.update(tally.strata)
        self.dirty = True


def count_in(counts: dict[Key, int], keys: Iterable[Key]) -> None:
    """Count each of some keys once."""
    for key in keys:
        counts[key] = counts.get(key, 0) + 1


def keys_of(differences: Iterable[Difference]) -> Mapping[Key, bool]:
    """What differs, and whether something covers all of it."""
    found: dict[Key, bool] = {}
    for each in differences:
        found[each.key] = found.get(each.key, True) and bool(each.covered_by)
    return found
