"""`make million` in small: moved under writes, verified, cut over, reversed, cut over, retired; the account adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.million.run import million

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROWS = 20_000


def test_payments_are_moved_under_writes_and_nothing_is_lost(tmp_path: Path) -> None:
    journey = million(ROWS, tmp_path)
    said = dict(journey.account)
    assert journey.problems == []
    assert said["stage at the end"] == "retired"
    assert said["payments acknowledged"].endswith("lost or other than told 0")
    assert said["payments on both sides"].endswith("equal")
