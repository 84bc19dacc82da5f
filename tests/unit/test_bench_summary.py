"""What the benchmark makes of its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import page
from tests.benchmarks.measure import Figures
from tests.benchmarks.picture import draw
from tests.benchmarks.run import document
from tests.benchmarks.summary import median, ratio
from tests.benchmarks.targets import Target, judged


def figures(who: str, *cpu_us: float, case: str = "1 KB") -> list[Figures]:
    return [
        Figures(
            contestant=who, case=case, turn=turn, requests=1, per_second=1.0, cpu_us=each, p50_us=1.0, p99_us=1.0,
            memory_mb=1.0, errors=0, foreign=0.0,
        )
        for turn, each in enumerate(cpu_us)
    ]  # fmt: skip


def test_a_ratio_is_taken_within_a_round_so_that_a_busy_moment_spoils_one_round_only() -> None:
    found = [*figures("nginx", 10, 40, 10), *figures("strangler", 15, 60, 14)]
    assert ratio(found, "strangler", "nginx", "1 KB") == 1.5
    assert median(found, "strangler", "1 KB", "cpu_us") == 15


def test_who_was_not_measured_meets_no_target_and_misses_none() -> None:
    verdicts = {each.target: each for each in judged(figures("strangler", 20) + figures("nginx", 10))}
    missed = verdicts[str(Target(who="strangler", case="1 KB", beside="nginx", most=1.75))]
    absent = verdicts[str(Target(who="strangler", case="1 KB", beside="envoy", most=0.8))]
    assert (missed.found, missed.met) == ("2.00", False)
    assert (absent.found, absent.met) == ("not measured", None)


def test_the_page_gets_the_figures_between_its_marks_and_keeps_the_rest(tmp_path: Path) -> None:
    where = {
        "processor": "P", "cores": 2, "memory_gb": 4, "system": "Linux", "python": "3", "load_before": [0.1],
        "versions": {"nginx": "1.2"},
    }  # fmt: skip
    found = [*figures("nginx", 10.0), *figures("strangler", 15.0)]
    text = page.rendered(json.loads(document(where, found, judged(found))))
    at = tmp_path / "page.md"
    at.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.put(at, text)
    assert at.read_text().startswith("before\n")
    assert at.read_text().endswith("after\n")
    assert "old" not in at.read_text()
    assert "| strangler | 15.0 (1.50, -) | - | - | - | 1 |" in at.read_text()
    assert "| strangler, 1 KB: at most 1.75 x nginx | 1.50 | met |" in at.read_text()


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    at = tmp_path / "page.md"
    at.write_text("nothing of ours")
    with pytest.raises(ValueError, match="marks"):
        page.put(at, "figures")
    assert at.read_text() == "nothing of ours"


def test_the_picture_leaves_a_gap_where_nothing_was_measured() -> None:
    drawn = draw({"nginx": [10.0, float("nan")], "strangler": [15.0, 20.0]}, ["1 KB", "POST 4 KB"])
    assert drawn.count("<rect") == 3 + 3
    assert "nan" not in drawn
