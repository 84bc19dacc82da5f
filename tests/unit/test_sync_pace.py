"""How large the next batch is."""

from __future__ import annotations

from strangler_proxy.sync.pace import SMALLEST_CHUNK, Pace


def test_a_batch_that_took_long_halves_the_next_and_a_quick_one_doubles_it() -> None:
    pace = Pace(target_s=0.1, keys=1000, largest=1500)
    pace.note(10.0, 1000)
    assert pace.keys == 500
    pace.note(0.001, 500)
    pace.note(0.001, 1000)
    assert pace.keys == 1500


def test_a_small_batch_teaches_nothing_however_long_it_took() -> None:
    pace = Pace(target_s=0.1, keys=1000)
    for seconds in (5.0, 0.0001):
        pace.note(seconds, 3)
    assert pace.keys == 1000


def test_a_slow_machine_is_not_copied_from_row_by_row() -> None:
    pace = Pace(target_s=0.1, keys=4000, smallest=SMALLEST_CHUNK)
    for _ in range(20):
        pace.note(1.0, pace.keys)
    assert pace.keys == SMALLEST_CHUNK
