"""What a proxy process notes for its judge: bounded, and complete though the judge dies."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import EQUAL, Seen
from strangler_proxy.shadow import notebook
from strangler_proxy.shadow.chance import Chance
from strangler_proxy.shadow.frames import (
    FRAME_BYTES,
    PAIR,
    BrokenFrame,
    FrameReader,
    asked_of,
    frame,
    pair_frame,
    read_asked_of,
    read_pair,
)
from strangler_proxy.shadow.notebook import COMPARER_FULL, JUDGE_DOWN, Notebook
from strangler_proxy.shadow.reservoir import Reservoir
from tests.pairs import answer, pair, seen


def counted(rows: list, counts: list) -> int:  # type: ignore[type-arg]
    return sum(requests for _, requests, _, _ in rows) + sum(count for _, count in counts)


def test_what_has_all_in_common_is_one_row_with_all_times() -> None:
    book = Notebook()
    for _ in range(3):
        book.note(seen())
    book.note(seen("queue_full"))
    book.note(seen(path=b"/other"))
    number, rows, counts = book.turn()
    assert (number, counts) == (1, [])
    assert [(key[3], key[7], requests, every, times) for key, requests, every, times in rows] == [
        (b"/items/42", EQUAL, 3, 1, [5.0, 6.0] * 3),
        (b"/items/42", "queue_full", 1, 1, [5.0, 6.0]),
        (b"/other", EQUAL, 1, 1, [5.0, 6.0]),
    ]
    assert book.open.is_empty


def test_windows_that_are_kept_are_forgotten_and_others_are_noted_again_when_the_judge_is_lost() -> None:
    book = Notebook()
    for path in (b"/a", b"/b", b"/c"):
        book.note(seen(path=path))
        book.sent("shop")
        book.turn()
    book.note(seen(path=b"/c"))
    book.sent("other")
    book.kept(1)
    assert book.lost() == 3
    number, rows, counts = book.turn()
    assert number == 4
    assert [(key[3], requests, times) for key, requests, _, times in rows] == [
        (b"/b", 1, [5.0, 6.0]),
        (b"/c", 2, [5.0, 6.0] * 2),
    ]
    assert counts == [(("shop", JUDGE_DOWN), 2), (("other", JUDGE_DOWN), 1)]
    assert book.lost() == 0  # dropped once, and noted again as dropped
    assert counted(*book.turn()[1:]) == 3 + 3


def test_of_many_requests_of_a_row_some_times_stand_for_all_evenly_spread() -> None:
    book = Notebook()
    for number in range(1, 10_001):
        book.note(seen()._replace(control_ms=float(number), candidate_ms=2.0 * number))
    _, [(_, requests, every, times)], _ = book.turn()
    assert requests == 10_000
    assert len(times) < notebook.TIMES
    assert times[0::2] == [float(number) for number in range(every, 10_001, every)]
    assert times[1::2] == [2.0 * each for each in times[0::2]]


def test_windows_that_are_noted_again_keep_times_that_stand_for_as_many() -> None:
    book = Notebook()
    for size in (5_000, 300, 1):
        for _ in range(size):
            book.note(seen())
        book.turn()
    book.lost()
    _, [(_, requests, every, times)], _ = book.turn()
    assert requests == 5_301
    assert len(times) < notebook.TIMES
    assert 0.9 * requests < every * len(times) / 2 <= requests


def test_a_row_that_is_there_counts_on_when_there_is_no_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "WEIGHT", 100)
    book = Notebook()
    for number in range(1_000):
        book.note(seen())
        book.note(seen(path=b"/%d" % number))
    _, rows, counts = book.turn()
    assert {key[3]: requests for key, requests, _, _ in rows}[b"/items/42"] == 1_000
    assert counted(rows, counts) == 2_000


@pytest.mark.parametrize("pairs_a_turn", [1, 40, 1_400])
def test_the_sample_is_a_share_and_no_more_than_its_rate(pairs_a_turn: int) -> None:
    chance, chosen = Chance(0.05, 5.0, random.Random(7).random), 0
    turns = 20_000 // pairs_a_turn + 200
    for _ in range(turns):
        for _ in range(pairs_a_turn):
            chance.until -= 1
            if not chance.until:
                chosen += chance.strike()
        chance.turn()
    wanted = min(0.05 * pairs_a_turn, 5.0) * turns
    assert 0.7 * wanted < chosen < 1.2 * wanted


def test_within_a_turn_every_pair_has_the_same_chance() -> None:
    chance, halves = Chance(0.05, 5.0, random.Random(7).random), [0, 0]
    for _ in range(500):
        for number in range(1_400):
            chance.until -= 1
            if not chance.until:
                halves[number // 700] += chance.strike()
        chance.turn()
    assert 0.75 < halves[1] / halves[0] < 1.25


def test_a_burst_after_a_quiet_time_gets_twice_the_part_of_a_turn_at_most() -> None:
    chance = Chance(0.5, 5.0, random.Random(7).random)
    for _ in range(100):
        chance.turn()
    chosen = 0
    for _ in range(10_000):
        chance.until -= 1
        if not chance.until:
            chosen += chance.strike()
    assert chosen == 10


@pytest.mark.parametrize(("share", "rate"), [(0.0, 5.0), (1.0, 0.0)])
def test_no_share_or_no_rate_is_no_sample(share: float, rate: float) -> None:
    chance = Chance(share, rate, random.Random(7).random)
    chance.turn()
    assert chance.until > 1 << 50


@given(st.lists(st.sampled_from(["note", "drop", "send", "turn", "keep", "lose"]), max_size=60))
def test_nothing_is_lost_and_nothing_is_counted_twice(moves: list[str]) -> None:
    """The evidence holds what was kept; what a judge had that died is noted again."""
    book = Notebook()
    total = kept = 0
    at_judge: list[tuple[int, int]] = []
    pairs = 0
    for move in moves:
        if move in ("note", "drop"):
            book.note(seen(EQUAL if move == "note" else "queue_full"))
            total += 1
        elif move == "send":
            book.sent("shop")
            total, pairs = total + 1, pairs + 1
        elif move == "turn":
            number, rows, counts = book.turn()
            at_judge.append((number, counted(rows, counts) + pairs))
            pairs = 0
        elif move == "keep" and at_judge:
            number, count = at_judge.pop(0)
            book.kept(number)
            kept += count
        elif move == "lose":
            book.lost()
            at_judge, pairs = [], 0
    book.lost()
    assert kept + counted(*book.turn()[1:]) == total


def test_hours_without_a_judge_cost_bounded_memory_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "WEIGHT", 2_000)
    book = Notebook()
    for number in range(5_000):
        book.note(seen(path=b"/%d" % number))
    assert len(book.open.rows) < 100
    _, rows, counts = book.turn()
    assert counted(rows, counts) == 5_000
    assert dict(counts)["shop", COMPARER_FULL] > 4_900
    for number in range(5_000):
        book.note(seen(path=b"/%d" % (number % 7)))
        book.sent("shop")
        if number % 10 == 0:
            book.turn()
    assert sum(len(window.rows) for window in book._closed) < 200
    book.lost()
    assert counted(*book.turn()[1:]) == 15_000


def test_pairs_cross_the_wire_as_they_are_in_any_pieces() -> None:
    one = pair(
        answer({"a": "ä"}, version="1", effects=b"1/1; x"),
        answer(failure=Failure.TIMEOUT, duration_ms=7.5),
        fields=((b"Cookie", b"a=\xff"),),
        method="POST",
        body=b"\x00\x01",
    )
    data = pair_frame(one, True) + frame(7, None, ["x"]) + pair_frame(one, False)
    chance = random.Random(4)
    for _ in range(50):
        heard: list[tuple[object, ...]] = []
        reader = FrameReader(lambda message, _, into=heard: into.append(message))  # type: ignore[misc]
        at = 0
        while at < len(data):
            step = chance.choice([1, 3, 50, 400])
            reader.feed(data[at : at + step])
            at += step
        assert [message[0] for message in heard] == [PAIR, 7, PAIR]
        assert [read_pair(message[2]) for message in (heard[0], heard[2])] == [one, one]  # type: ignore[arg-type]
        assert (heard[0][1], heard[2][1]) == (True, False)
    safe = pair(answer({}), answer({}))
    asked = read_asked_of(asked_of(safe))
    assert (asked.id, asked.target, asked.fields, asked.safe) == (safe.id, safe.target, safe.fields, True)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff....", b"\x04\x00\x00\x00\xfe\xfe\xfe\xfe", b"\x01\x00\x00\x00("])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameReader(lambda message, size: None).feed(data)
    assert int.from_bytes(b"\xff\xff\xff\xff", "little") > FRAME_BYTES


def test_a_reservoir_keeps_each_comparison_as_likely_as_any_other() -> None:
    chance = random.Random(11)
    kept_of: dict[int, int] = dict.fromkeys(range(40), 0)
    for _ in range(600):
        reservoir = Reservoir(chance.randrange, size=4)
        kept: set[str] = set()
        for number in range(40):
            into, gone = reservoir.offer(str(number), ["slot"])
            kept = (kept | {str(number)} if into else kept) - set(gone)
        assert len(kept) == len(reservoir) == 4
        for each in kept:
            kept_of[int(each)] += 1
    assert min(kept_of.values()) > 30
    assert max(kept_of.values()) < 95


def test_a_sample_in_several_slots_is_forgotten_when_it_is_in_none() -> None:
    places = itertools.cycle([0])
    reservoir = Reservoir(lambda n: next(places), size=1)
    assert reservoir.offer("a", ["x", "y"]) == ({"x", "y"}, [])
    assert reservoir.offer("b", ["x"]) == ({"x"}, [])
    assert reservoir.offer("c", ["y"]) == ({"y"}, ["a"])
    assert reservoir.offer("d", ["x", "y"]) == ({"x", "y"}, ["b", "c"])
    assert len(reservoir) == 1
    full = Reservoir(lambda n: 0, size=1, limit=1)
    full.offer("a", ["x"])
    assert full.offer("b", ["y"]) == (set(), [])


def test_a_seen_request_is_noted_by_all_it_is_known_by() -> None:
    book = Notebook()
    one = Seen("f", "r", "GET", b"/a", True, 200, b"text/html", EQUAL, 1.0, 2.0)
    book.note(one)
    ((key, _, _, times),) = book.turn()[1]
    assert key == ("f", "r", "GET", b"/a", True, 200, b"text/html", EQUAL)
    assert times == [1.0, 2.0]
