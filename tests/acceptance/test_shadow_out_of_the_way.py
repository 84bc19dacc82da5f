"""A candidate that hangs, dribbles, resets or answers 1 GB: what clients wait for, and what the proxy holds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.acceptance.shadow_ends import module, report_of, shadowing, told
from tests.acceptance.shadow_upstream import KINDS
from tests.integration.engine_rig import Client

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2_400)]

SECONDS = float(os.environ.get("MINUTES", "0.7")) * 60
BLOCK = 150
"""Requests of a block; its p99 is the second slowest of them."""
PAUSE_S = 0.002
SICK = (*KINDS, *(f"always-{kind}" for kind in KINDS[:2]))
NOW_AND_THEN = tuple(f"rarely-{kind}" for kind in KINDS)
"""So seldom that the mirror's breaker stays closed: all is mirrored, every answer differs, and the judge is busy."""
LOADS = [pytest.param(SICK, id="sick")]
if "MINUTES" in os.environ:  # harder, and at length only: `make shadow-proof`
    LOADS.append(pytest.param(NOW_AND_THEN, id="sick now and then"))
ENOUGH = 30
"""Blocks, for a median that says something on a machine that others use, too."""
LONGER = 2.0
SLOWER_MS = 1.0
SLOWER_SHARE = 1.02
GROWN_MB = 8.0
MEMORY_MB = 64.0
"""What copies may hold together (`--mirror-memory`)."""


def block(client: Client, path: str, first: int) -> list[float]:
    """Milliseconds of each request of a block."""
    taken = []
    for number in range(first, first + BLOCK):
        began = time.perf_counter()
        answer = client.get(f"/{path}/{number}")
        taken.append((time.perf_counter() - began) * 1e3)
        assert answer.status == 200
        time.sleep(PAUSE_S)
    return taken


def p99(taken: list[float]) -> float:
    return sorted(taken)[-1 - len(taken) // 100]


class Clock:
    """Blocks of requests that take turns, with the candidate and without: a busy machine is busy for both."""

    def __init__(self, paths: Sequence[str], alone: Client, mirrored: Client, process: psutil.Process) -> None:
        self._paths = paths
        self._clients, self._process = (alone, mirrored), process
        self._began = time.monotonic()
        self.sent = 0
        self.p99s: dict[str, tuple[list[float], list[float]]] = {path: ([], []) for path in paths}
        self.resident: list[tuple[float, float]] = []

    @property
    def elapsed_s(self) -> float:
        """Since the first block."""
        return time.monotonic() - self._began

    def run(self, until_s: float) -> None:
        """Blocks of each kind of sickness in turn, which side comes first in turn as well."""
        while self.elapsed_s < until_s:
            turn = self.sent // BLOCK
            path = self._paths[turn % len(self._paths)]
            for side in (0, 1) if turn // len(self._paths) % 2 else (1, 0):
                self.p99s[path][side].append(p99(block(self._clients[side], path, self.sent)))
            self.resident.append((self.elapsed_s, self._process.memory_info().rss / 1e6))
            self.sent += BLOCK

    def medians(self) -> Iterator[tuple[str, int, float, float]]:
        """Of the blocks' p99, without and beside the candidate: each kind of which there are enough, and all."""
        everything: tuple[list[float], list[float]] = ([], [])
        for path, sides in self.p99s.items():
            for side, into in zip(sides, everything, strict=True):
                into.extend(side)
            yield path, len(sides[0]), statistics.median(sides[0]), statistics.median(sides[1])
        yield "all of them", len(everything[0]), *(statistics.median(each) for each in everything)

    def slow(self) -> list[tuple[str, float, float]]:
        """Where it is slower than may be, as far as there are enough blocks to say so."""
        return [
            (path, a, b)
            for path, blocks, a, b in self.medians()
            if blocks >= ENOUGH and b > max(a * SLOWER_SHARE, a + SLOWER_MS)
        ]

    def tell(self) -> None:
        """Write them down."""
        for path, blocks, a, b in self.medians():
            told(f"  {path}: p99 without {a:.2f} ms, beside it {b:.2f} ms, medians of {blocks} blocks each")


@pytest.mark.parametrize("paths", LOADS)
def test_the_authoritative_answer_is_as_quick_and_memory_is_flat(tmp_path: Path, paths: Sequence[str]) -> None:
    upstream = "tests.acceptance.shadow_upstream"
    (tmp_path / "plain").mkdir()
    with (
        module(tmp_path, upstream) as control,
        module(tmp_path, upstream, "--sick") as candidate,
        shadowing(tmp_path / "plain", control, None) as plain,
        shadowing(tmp_path, control, candidate) as shadowed,
    ):
        plain.start()
        shadowed.start()
        assert shadowed.process is not None
        with Client(plain.port, 10) as alone, Client(shadowed.port, 10) as mirrored:
            clock = Clock(paths, alone, mirrored, psutil.Process(shadowed.process.pid))
            clock.run(SECONDS)
            while clock.slow() and clock.elapsed_s < SECONDS * LONGER:
                clock.run(clock.elapsed_s + SECONDS / 2)  # chance, or others on this machine? look longer
        assert shadowed.stop() == 0
        assert plain.stop() == 0
    report = report_of(tmp_path)
    coverage = report["coverage"]
    told(
        f"a candidate that {paths[0]} and so on, {clock.sent} requests: coverage {coverage['share']:.1%}, "
        f"drops {report['drops']}"
    )
    clock.tell()
    assert not clock.slow()
    check_memory(clock.resident)
    assert report["verdict"] == "mismatched"
    assert coverage["eligible"] >= clock.sent


def check_memory(resident: list[tuple[float, float]]) -> None:
    """After the warm-up, in which copies fill their share, nothing is added any more."""
    warm = [megabytes for at, megabytes in resident if at > 0.25 * SECONDS]
    early, late = warm[: len(warm) // 3], warm[-len(warm) // 3 :]
    first, last = statistics.median(early), statistics.median(late)
    told(f"  memory of the proxy: {resident[0][1]:.0f} MB at first, {first:.1f} MB when warm, {last:.1f} MB at the end")
    assert last - first < GROWN_MB, (first, last)
    assert max(warm) < resident[0][1] + MEMORY_MB + GROWN_MB
