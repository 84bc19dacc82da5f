"""What a judge knows of one flag: its rules, path templates, code versions, and a ledger for each basis."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from strangler_proxy.core.alias import AliasBook
from strangler_proxy.core.pair import Pair
from strangler_proxy.core.rules import Rule, RuleKind, digest, rules_for
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.templates import Templates
from strangler_proxy.core.verdict import Basis
from strangler_proxy.shadow.ledger import Ledger
from strangler_proxy.shadow.observing import version_of
from strangler_proxy.shadow.options import JudgeSettings
from strangler_proxy.shadow.redacting import Redacting
from strangler_proxy.shadow.reservoir import Reservoir

LEDGERS: Final = 8
VERSIONS: Final = 50
"""Code versions believed of one flag; a side that names more names something else, and is no basis any more."""
MANY: Final = "(many)"
_ASKING: Final = frozenset({RuleKind.COMPARE, RuleKind.ALIAS})


class FlagBook:
    """Of one flag. The ledger that was used last comes last."""

    def __init__(
        self, flag: str, settings: JudgeSettings, *, writer: str, redacting: Redacting, reservoir: Reservoir
    ) -> None:
        self.flag = flag
        self.templates = Templates()
        self.rules: tuple[Rule, ...] = ()
        self._settings = settings
        self._writer = writer
        self._redacting = redacting
        self._reservoir = reservoir
        self._aliases = AliasBook()
        self._today = dt.date.min
        self._digest = digest(())
        self._active: tuple[Rule, ...] = ()
        self._versions: dict[Origin, str] = {}
        self._known: set[tuple[Origin, str]] = set()
        self._ledgers: dict[Basis, Ledger] = {}
        self._let_go = 0

    def __repr__(self) -> str:
        return f"<FlagBook {self.flag!r} rules={len(self.rules)} ledgers={len(self._ledgers)}>"

    @property
    def is_exact(self) -> bool:
        """Do byte for byte equal answers match under all rules, unseen?"""
        return not any(rule.kind in _ASKING for rule in self._active)

    @property
    def ledgers(self) -> list[Ledger]:
        """All ledgers, the one that was used last comes last."""
        return list(self._ledgers.values())

    @property
    def current(self) -> Ledger | None:
        """The ledger of the last pair; None before the first one."""
        return next(reversed(self._ledgers.values()), None)

    def take_rules(self, rules: Sequence[Rule], today: dt.date) -> None:
        """Rules as they are now; a change of what they allow starts a new basis, and so does the day one expires."""
        if (tuple(rules), today) == (self.rules, self._today):
            return
        self.rules, self._today = tuple(rules), today
        active = tuple(rule for rule in self.rules if today < rule.expires_on)
        self._active, before = active, self._digest
        self._digest = digest(active)
        if self._digest != before and (current := self.current) is not None:
            self._ledger(Basis(
                control_version=current.basis.control_version,
                candidate_version=current.basis.candidate_version,
                rules=self._digest,
            ))  # fmt: skip

    def ledger_of(self, pair: Pair) -> Ledger:
        """The ledger for a pair, by the versions that its answers name."""
        control, candidate = pair.control_origin, pair.control_origin.other
        self._note_version(control, version_of(pair.control, self._settings.version_header))
        self._note_version(candidate, version_of(pair.candidate, self._settings.version_header))
        return self._ledger(self._basis(control, candidate))

    def labelled(self) -> Ledger:
        """The ledger of requests of which no pair was seen: by the labels in the settings."""
        return self.current or self._ledger(self._basis(Origin.MONOLITH, Origin.EXTRACTED))

    def template(self, path: bytes, visits: int = 1) -> str:
        """The path's template as known now, learned from it."""
        return self._redacting.template(self.templates.learn(path.decode("latin-1"), visits))

    def fold(self, template: str) -> str:
        """A template that was given earlier, as known now."""
        return self._redacting.template(self.templates.fold(template))

    def let_go(self, before: float) -> None:
        """Forget ledgers that were published before then, and have counted nothing since: they are counted anew.

        By then their tallies may have been put together with others'.
        """
        for basis, ledger in list(self._ledgers.items()):
            if not ledger.dirty and ledger.published_at < before:
                del self._ledgers[basis]
                self._let_go += 1

    def _basis(self, control: Origin, candidate: Origin) -> Basis:
        return Basis(
            control_version=self._versions.get(control, self._settings.control_version),
            candidate_version=self._versions.get(candidate, self._settings.candidate_version),
            rules=self._digest,
        )

    def _note_version(self, origin: Origin, version: str) -> None:
        """What an answer names counts until another is named: an answer of a server in front may name nothing."""
        if not version:
            return
        if (origin, version) not in self._known:
            if len(self._known) >= VERSIONS:
                version = MANY
            else:
                self._known.add((origin, version))
                version = self._redacting.name(version)
        else:
            version = self._redacting.name(version)
        self._versions[origin] = version

    def _ledger(self, basis: Basis) -> Ledger:
        current = self.current
        if current is not None and current.basis == basis:
            return current
        found = self._ledgers.pop(basis, None) or self._new(basis)
        self._ledgers[basis] = found
        found.dirty = True
        return found

    def _new(self, basis: Basis) -> Ledger:
        idle = [each for each in self._ledgers.values() if not each.dirty]
        if len(self._ledgers) >= LEDGERS and idle:
            del self._ledgers[idle[0].basis]
            self._let_go += 1
        active = self._active
        return Ledger(
            self.flag,
            basis,
            writer=f"{self._writer}.{self._let_go}" if self._let_go else self._writer,
            rules_of=lambda route, template: rules_for(active, (route, template), self._today),
            aliases=self._aliases,
            reservoir=self._reservoir,
        )
