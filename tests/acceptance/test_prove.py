"""Half a minute of the proof in CI: cutovers under faults without a violation, and a seeded bug that it sees."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.prove.proof import Arena, prove
from tests.prove.run import tell
from tests.prove.schedules import hunt
from tests.prove.site import Plan

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(500)]

FEWEST = 3
LONGEST_S = 180.0


async def _until_enough(arena: Arena) -> None:
    """Faults for the given time; longer where the machine is slow."""
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end and not (arena.over and arena.account.cutovers >= FEWEST):
        await arena.nemesis.strike()
    await arena.judged()


async def test_cutovers_under_faults_violate_nothing() -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1, 1_000_000))
    outcome = await prove(Plan(seed=seed, lanes=3), 15, _until_enough)
    tell(outcome)
    assert outcome.violations == []
    assert outcome.account.cutovers >= FEWEST
    assert outcome.verdict.acknowledged > 50


async def test_a_cutover_without_a_fence_is_seen() -> None:
    outcome = await prove(Plan(seed=7, lanes=3, bug="no_fence"), LONGEST_S, hunt("none", each=1))
    assert outcome.violations
