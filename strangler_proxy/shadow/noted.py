"""Requests that need no comparison, as the proxy noted them: counted by stratum and by what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from strangler_proxy.core.pair import EQUAL, NOT_SAMPLED
from strangler_proxy.core.reckoning import AFTER_MIRRORING
from strangler_proxy.core.strata import stratum_of
from strangler_proxy.shadow.flag_book import FlagBook
from strangler_proxy.shadow.frames import Row
from strangler_proxy.shadow.ledger import Ledger
from strangler_proxy.shadow.notebook import Count
from strangler_proxy.shadow.redacting import Redacting
from strangler_proxy.shadow.settlement import note_latency, note_time

UNPLACED_S: Final = 10.0
"""Requests of a flag wait this long for a pair that names the code versions."""


class Noted:
    """Of one judge. `book_of` gives what is known of a flag."""

    def __init__(self, book_of: Callable[[str], FlagBook], redacting: Redacting, facts: Counter[str]) -> None:
        self._book_of = book_of
        self._redacting = redacting
        self._facts = facts
        self._unplaced: dict[str, tuple[float, list[tuple[float, Sequence[Row], Sequence[Count]]]]] = {}

    @property
    def is_waiting(self) -> bool:
        """Are there requests that are in no tally yet, because no pair has named their basis?"""
        return bool(self._unplaced)

    def take(self, at: float, rows: Iterable[Row], counts: Iterable[Count]) -> None:
        """Count what the proxy noted; `at` in Unix seconds."""
        by_flag: dict[str, tuple[list[Row], list[Count]]] = {}
        for row in rows:
            by_flag.setdefault(row[0][0], ([], []))[0].append(row)
        for count in counts:
            by_flag.setdefault(count[0][0], ([], []))[1].append(count)
        for flag, (its_rows, its_counts) in by_flag.items():
            ledger = self._book_of(flag).current
            if ledger is None:
                self._unplaced.setdefault(flag, (at, []))[1].append((at, its_rows, its_counts))
            else:
                self._place(ledger, at, its_rows, its_counts)

    def _place(self, ledger: Ledger, at: float, rows: Iterable[Row], counts: Iterable[Count]) -> None:
        ledger.dirty = True
        for (_, fate), requests in counts:
            self.count(ledger, fate, requests)
        for (flag, route, method, path, signed_in, status, content_type, fate), requests, every, times in rows:
            self.count(ledger, fate, requests)
            if not status:
                continue
            template = self._book_of(flag).template(path, requests)
            key = stratum_of(
                method,
                template,
                signed_in=signed_in,
                status=status,
                content_type=self._redacting.name(content_type.decode("latin-1")),
            )
            one = ledger.stratum(key, route).tally
            one.requests += requests
            if fate == EQUAL:
                one.matched += requests
                note_time(one, at)
                for control_ms, candidate_ms in zip(times[0::2], times[1::2], strict=True):
                    note_latency(one, control_ms, candidate_ms, every)

    def count(self, ledger: Ledger, fate: str, requests: int) -> None:
        tally = ledger.tally
        self._facts["noted"] += requests
        tally.eligible += requests
        if fate == EQUAL or fate in AFTER_MIRRORING:
            tally.mirrored += requests
        if fate not in (EQUAL, NOT_SAMPLED):
            tally.drops[fate] = tally.drops.get(fate, 0) + requests

    def place_overdue(self, now: float, *, all_of_them: bool = False) -> None:
        """Count what waited too long for a pair under the labels in the settings."""
        for flag, (since, batches) in list(self._unplaced.items()):
            if not all_of_them and now - since < UNPLACED_S and self._book_of(flag).current is None:
                continue
            del self._unplaced[flag]
            ledger = self._book_of(flag).labelled()
            for at, rows, counts in batches:
                self._place(ledger, at, rows, counts)
