"""A minute of the proof in CI: cutovers under faults without a violation, and a seeded bug that it sees."""

from __future__ import annotations

import os
import random

import pytest

from tests.prove.run import prove, tell

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


async def test_a_minute_of_cutovers_under_faults_violates_nothing() -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1, 1_000_000))
    outcome = await prove(seed=seed, seconds=60)
    tell(outcome)
    assert outcome.violations == []
    assert outcome.account.rounds >= 3
    assert outcome.verdict.acknowledged > 100


async def test_a_cutover_without_a_fence_is_seen() -> None:
    outcome = await prove(seed=7, seconds=90, kinds=["none"], bug="no_fence", rounds=6)
    assert outcome.violations
