"""A writer that was silent for long adds to nothing that may have been put together with others' by then."""

from __future__ import annotations

import time

import pytest

from strangler_proxy.core.evidence import FRESH_S, GONE_S
from strangler_proxy.shadow.judge import Judge
from strangler_proxy.shadow.options import JudgeSettings
from strangler_proxy.shadow.publishing import Publisher, TooLate
from strangler_proxy.store.evidence_memory import MemoryEvidence
from tests.pairs import SECRET, answer, pair

NOON = time.time()
SETTINGS = JudgeSettings(evidence="memory:", secret=SECRET, aa_share=0.0)


def made() -> tuple[Judge, MemoryEvidence, Publisher]:
    judge, book = Judge(SETTINGS, "w", undo={}), MemoryEvidence()
    return judge, book, Publisher(judge, book, SETTINGS)


def take(judge: Judge) -> None:
    judge.pair(pair(answer({"a": 1}), answer({"a": 1.0})), False, 0.0)


def test_a_writer_ends_long_before_its_tallies_are_put_together() -> None:
    assert 2 * FRESH_S <= GONE_S


async def test_half_a_day_without_the_evidence_ends_a_judge() -> None:
    judge, _, publisher = made()
    take(judge)
    assert await publisher.publish(NOON)
    assert await publisher.publish(NOON + FRESH_S)
    with pytest.raises(TooLate):
        await publisher.publish(NOON + 2 * FRESH_S + 1)


async def test_a_ledger_that_rested_for_half_a_day_is_begun_anew_under_another_name() -> None:
    judge, book, publisher = made()
    take(judge)
    await publisher.publish(NOON)
    await publisher.publish(NOON + FRESH_S - 1)
    (rested,) = judge.flags["shop"].ledgers
    await publisher.publish(NOON + FRESH_S + 1)
    assert judge.flags["shop"].ledgers == []
    take(judge)
    await publisher.publish(NOON + FRESH_S + 2)
    (begun,) = judge.flags["shop"].ledgers
    assert (rested.writer, begun.writer, begun.tally.eligible) == ("w", "w.1", 1)
    (tally,) = await book.tallies("shop")
    assert (tally.eligible, sum(one.matched for one in tally.strata.values())) == (2, 2)
