"""Read-your-writes times: shared by processes of a host, bounded, and never earlier than they were."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.forward.own_writes import OwnWrites

Make = Callable[[Path | None], OwnWrites]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[OwnWrites] = []

    def open_one(path: Path | None) -> OwnWrites:
        made.append(OwnWrites(path))
        return made[-1]

    yield open_one
    for own in made:
        own.close()


def test_a_write_is_known_to_every_proxy_of_the_host(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "state" / "own.map"
    one, two = make(path), make(path)
    one.note("ledger", "ada", 100.5)
    assert two.wrote_at("ledger", "ada") == 100.5
    assert two.wrote_at("ledger", "bob") == two.wrote_at("catalog", "ada") == 0.0
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_survives_the_process(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "own.map").note("f", "ada", 7.0)
    assert make(tmp_path / "own.map").wrote_at("f", "ada") == 7.0


def test_an_earlier_time_changes_nothing(make: Make) -> None:
    own = make(None)
    own.note("f", "ada", 20.0)
    own.note("f", "ada", 10.0)
    assert own.wrote_at("f", "ada") == 20.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("fg"), st.text(max_size=6), st.floats(1, 1e9)), max_size=60))
def test_it_is_a_map_of_the_latest_times(notes: list[tuple[str, str, float]]) -> None:
    own, model = OwnWrites(None), dict[tuple[str, str], float]()
    for flag, subject, at in notes:
        own.note(flag, subject, at)
        model[flag, subject] = max(at, model.get((flag, subject), 0.0))
    assert all(own.wrote_at(*key) == at for key, at in model.items())
    own.close()


def test_more_subjects_than_slots_forget_the_oldest_only(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "own.map"
    own = make(path)
    for n in range(150_000):
        own.note("f", f"s{n}", float(n + 1))
    known = sum(own.wrote_at("f", f"s{n}") == n + 1 for n in range(140_000, 150_000))
    assert known > 9_950
    assert own.wrote_at("f", "s0") == 0.0
    assert path.stat().st_size == 1 << 20


def _note_many(path: Path, first: int, count: int) -> None:
    own = OwnWrites(path)
    for n in range(first, first + count):
        own.note("f", f"s{n}", float(n + 1))
    own.close()


def test_processes_that_note_at_once_lose_nothing(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "own.map"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_note_many, args=(path, n * 5_000, 5_000)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
        writer.close()
    own = make(path)
    assert [n for n in range(10_000) if own.wrote_at("f", f"s{n}") != n + 1] == []
