"""Publishing: tallies each second, samples as they come, and what is too old or too much is pruned.

Evidence that cannot be reached loses nothing at first: tallies are cumulative, and samples wait within a bound.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from typing import Final

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.core.evidence import FRESH_S, EvidenceBook
from strangler_proxy.core.sample import Sample
from strangler_proxy.shadow.judge import Judge
from strangler_proxy.shadow.ledger import Ledger
from strangler_proxy.shadow.options import JudgeSettings

CALL_S: Final = 30.0
"""A guard: every call of a book has a time-out of its own."""
LONGEST_PAUSE_S: Final = 30.0
SAMPLES_AT_ONCE: Final = 50
FORGOTTEN_AT_ONCE: Final = 500
_BAD_TRIES: Final = 3


class TooLate(Exception):
    """A judge cannot add to what it published long ago: another one begins anew, and what is lost is counted."""


class Publisher:
    """Brings what a judge has counted into an evidence book. `facts` counts what went wrong."""

    def __init__(self, judge: Judge, book: EvidenceBook, settings: JudgeSettings) -> None:
        self.facts: Counter[str] = Counter()
        self._judge = judge
        self._book = book
        self._settings = settings
        self._failures = 0
        self._bad = 0
        self._pruned_at = 0.0
        self._published_at = 0.0

    def __repr__(self) -> str:
        return f"<Publisher failures={self._failures}>"

    @property
    def failures(self) -> int:
        """Times in a row that the evidence could not be written."""
        return self._failures

    @property
    def pause_s(self) -> float:
        """How long to wait before publishing again: longer while the evidence cannot be reached."""
        return min(LONGEST_PAUSE_S, self._settings.publish_every_s * 2.0 ** min(self._failures, 10))

    async def publish(self, now: float) -> bool:
        """Publish what has changed; False where it did not get through, and will be tried again.

        Raises TooLate after half a day without: what was published before may be put together with others' by now.
        """
        if self._published_at and now - self._published_at > FRESH_S:
            raise TooLate("nothing was published for too long")
        try:
            await self._tallies(now)
            await self._samples()
            await self._prune(now)
        except (StoreUnavailable, TimeoutError, OSError):
            self.facts["evidence_unavailable"] += 1
        except Exception as error:  # noqa: BLE001 -- whatever a store does, judging goes on
            self.facts["evidence_refused"] += 1
            self.facts[f"refused_{type(error).__name__}"] += 1
        else:
            self._failures = 0
            self._published_at = now
            return True
        self._failures += 1
        return False

    async def _tallies(self, now: float) -> None:
        for flag in self._judge.flags.values():
            ledgers = flag.ledgers
            if any(ledger.dirty for ledger in ledgers):
                ledgers[-1].dirty = True  # what is published last counts as the basis of now
            for ledger in ledgers:
                if ledger.dirty:
                    ledger.fold(flag.fold)
                    await self._tally(ledger)
                    ledger.published_at = now
            flag.let_go(now - FRESH_S)

    async def _tally(self, ledger: Ledger) -> None:
        tally = ledger.snapshot()
        try:
            async with asyncio.timeout(CALL_S):
                await self._book.publish(ledger.writer, tally)
        except BaseException:
            ledger.not_published(tally)
            raise
        self.facts["published"] += 1

    async def _samples(self) -> None:
        samples, forgotten = self._judge.samples, self._judge.forgotten
        while samples or forgotten:
            batch = [samples.popleft() for _ in range(min(SAMPLES_AT_ONCE, len(samples)))]
            gone = forgotten[:FORGOTTEN_AT_ONCE]
            try:
                async with asyncio.timeout(CALL_S):
                    await self._book.keep(batch, instead_of=gone)
            except (StoreUnavailable, TimeoutError, OSError, asyncio.CancelledError):
                samples.extendleft(reversed(batch))
                raise
            except Exception:
                self._put_back(batch)
                raise
            self._bad = 0
            del forgotten[: len(gone)]
            self.facts["samples_kept"] += len(batch)

    def _put_back(self, batch: list[Sample]) -> None:
        """A store that refuses samples again and again gets the next ones instead."""
        self._bad += 1
        if self._bad < _BAD_TRIES:
            self._judge.samples.extendleft(reversed(batch))
            return
        self._bad = 0
        self.facts["samples_lost"] += len(batch)

    async def _prune(self, now: float) -> None:
        if now - self._pruned_at < self._settings.prune_every_s:
            return
        self._pruned_at = now
        at = dt.datetime.fromtimestamp(now, dt.UTC)
        for flag in list(self._judge.flags):
            async with asyncio.timeout(CALL_S):
                self.facts["samples_pruned"] += await self._book.prune(flag, self._settings.bounds, at)
