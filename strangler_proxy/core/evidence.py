"""What keeps evidence, as Protocols: tallies and samples, and the rules that people add. Fakes pass the same tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.tally import Tally

GONE_S: Final = 86_400.0
"""A writer that has published nothing for so long has ended: its tallies may be put together with others'."""
FRESH_S: Final = GONE_S / 2
"""After so long without publishing, a writer goes on under another name and counts from nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much evidence is kept of one flag: samples, their bytes together, and days (of tallies too)."""

    samples: int = 20_000
    sample_bytes: int = 64 * 1024 * 1024
    days: int = 30


class EvidenceBook(Protocol):
    """Where evidence is kept. Every call has a time-out of its own and raises StoreUnavailable."""

    async def publish(self, writer: str, tally: Tally) -> None:
        """Replace what this writer said of the strata in `tally`, and its totals; other strata of it stay.

        A tally is cumulative, so that publishing twice counts once.
        """
        ...

    async def keep(self, samples: Sequence[Sample], *, instead_of: Sequence[str] = ()) -> None:
        """Keep samples, and forget those with these ids (the reservoir is the writer's)."""
        ...

    async def tallies(self, flag: str, *, since: dt.datetime | None = None) -> Sequence[Tally]:
        """One merged tally per basis, the one published last first. `since` leaves out writers that ended before."""
        ...

    async def samples(
        self,
        flag: str,
        *,
        limit: int,
        path: str = "",
        sample_id: str = "",
        before: tuple[dt.datetime, str] | None = None,
    ) -> Sequence[Sample]:
        """Samples, newest first: all of a flag (every flag where it is empty), of one path, or the one with this id.

        `before` goes on after the sample of this time and id (not for an id).
        """
        ...

    async def prune(self, flag: str, bounds: Bounds, now: dt.datetime) -> int:
        """Forget what is too old or too much, the oldest first; returns how many samples went.

        Tallies of writers that have ended are put together, by basis and day; whoever reads sees the same.
        """
        ...


class RuleBook(Protocol):
    """The rules that people added by hand, beside those that a capability file declares."""

    async def rules(self, flag: str) -> Sequence[Rule]:
        """Rules of a flag, expired ones included. Raises UnknownName."""
        ...

    async def add_rule(self, flag: str, rule: Rule, *, by: str) -> None:
        """Add a rule, with an audit entry. Raises UnknownName, DeclarationError (its id is taken)."""
        ...

    async def expire_rule(self, flag: str, rule_id: str, on: dt.date, *, by: str, reason: str) -> None:
        """Let a rule end on a day, with an audit entry. Raises UnknownName."""
        ...
