"""The report for people: everything that matters is said, at any width, and nothing of others reaches the terminal."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from strangler_proxy import report_words as words
from strangler_proxy.cli.shadow_live_view import LiveView, drop_words, line
from strangler_proxy.cli.shadow_report_file import check_report_path, write_report
from strangler_proxy.cli.shadow_report_text import next_commands, render
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.verdict import Basis, Evidence
from tests import reports

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/reference/shadow-report.schema.json").read_text())
WIDTHS = (40, 60, 80, 100, 160, 220)


def plain(text: str) -> str:
    """Text without line breaks and columns, to look for sentences in."""
    return re.sub(r"\s+", " ", text)


def test_what_the_tests_render_keeps_to_the_schema() -> None:
    for document in (reports.three(), reports.large()[0]):
        Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_that_matters_is_there_at_any_width(width: int) -> None:
    said = render(reports.three(), [reports.sample()], width=width)
    assert max(len(each) for each in said.splitlines()) <= width
    flat = re.sub(r"\s+", "", said)
    for wanted in (
        "mismatched: 1 of 3 strata has a confirmed difference",
        "97.35 %: 11,040 compared of 11,340 eligible, 11,050 mirrored",
        "1 mismatched, 1 inconclusive, 1 matched",
        "control v1, candidate v2",
        "queue_full",
        "too many copies waited already",
        "rule tax: it expires on 2026-12-01: Kim renews or removes it",
        "items[].price (value), in 12 of 1,000 pairs, 11 confirmed; noise 0 % of 40 A/A",
        "meta.trace (value, noise 100 % of 40 A/A)",
    ):
        assert wanted.replace(" ", "") in flat, wanted
    assert "10.00" in said
    assert "10.01" in said


def test_a_stratum_that_lacks_evidence_says_how_much_more_and_how_long() -> None:
    said = plain(render(reports.three(), width=200))
    assert "about 3,809 more requests, about 7.6 h" in said
    unknown = reports.three(since=None)
    assert "about 3,809 more requests about" not in plain(render(unknown, width=200))


def test_coverage_stands_beside_every_verdict() -> None:
    for width in (80, 200):
        assert render(reports.three(), width=width).count("1,000 of 1,020 (98.04 %)") == 2


def test_stale_evidence_says_why() -> None:
    stale = reports.stratum("/a", Evidence(matched=9_000, seconds=7_200), now=Basis(rules="new"))
    said = plain(render(reports.report((stale,)), width=200))
    assert "stale, the rules changed since: gather evidence anew" in said
    assert said.count("gather evidence anew") == 1


def test_mismatches_that_are_not_confirmed_are_said_to_be_so() -> None:
    open_one = reports.stratum("/a", Evidence(matched=500, mismatched=2, seconds=60))
    assert "2 mismatches not confirmed" in plain(render(reports.report((open_one,)), width=200))


def test_nothing_compared_is_never_success() -> None:
    said = render(reports.report(()), width=80)
    assert "inconclusive: nothing was compared, so nothing is proved" in said


def test_a_matched_report_says_of_how_much() -> None:
    good = reports.stratum("/a", Evidence(matched=9_000, seconds=7_200))
    said = plain(render(reports.report((good,)), width=100))
    assert "matched: all 1 stratum are under their limit" not in said
    assert "matched: its 1 stratum is under its limit" in said


def test_colour_is_asked_for_and_never_the_only_sign() -> None:
    coloured = render(reports.three(), width=100, colour=True)
    assert "\x1b[" in coloured
    assert "\x1b" not in render(reports.three(), width=100)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(reports.three(), width=100)


@pytest.mark.parametrize("width", WIDTHS)
def test_text_of_others_cannot_steer_the_terminal(width: int) -> None:
    document, samples = reports.hostile()
    said = render(document, samples, width=width)
    assert all(each.isprintable() or each == "\n" for each in said)


def test_rich_markup_of_others_stays_text() -> None:
    said = render(reports.report((), title="[bold]x[/] [link=http://evil]y[/link]"), width=120)
    assert "[bold]x[/] [link=http://evil]y[/link]" in said


def test_a_large_report_is_cut_and_says_so() -> None:
    said = render(*reports.large(), width=200)
    assert "... and 260 strata more" in said
    assert "... and 1,990 differences more" in said
    assert len(said.splitlines()) < 160


def test_the_next_command_shows_a_sample_of_the_worst_difference() -> None:
    document, name = reports.three(), reports.sample().id
    assert next_commands(document, ["orders"]) == [
        f"strangler shadow show {name}",
        "strangler shadow report orders --html report.html",
    ]
    assert next_commands(document, ["--evidence", "my file.db", "orders"]) == [
        f"strangler shadow show {name} --evidence 'my file.db'",
        "strangler shadow report --evidence 'my file.db' orders --html report.html",
    ]
    assert next_commands(reports.report(()), ["orders"]) == ["strangler shadow report orders --html report.html"]


def test_one_line_says_how_it_stands() -> None:
    assert line(None) == "no evidence yet"
    assert line(reports.three()) == (
        "coverage 97.35 %: 11,040 compared of 11,340 eligible, 11,050 mirrored; "
        "strata 1 mismatched, 1 inconclusive, 1 matched; differences 1; dropped queue_full 290, body_too_large 10"
    )
    assert drop_words({f"r{n}": n for n in range(9)}).endswith("r3 3, and 3 more reasons")


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (120, 40), (200, 60)])
def test_the_live_screen_fits_the_terminal(width: int, height: int) -> None:
    from rich.console import Console

    document, _ = reports.large()
    console = Console(width=width, height=height, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(LiveView(document, "the store is away", seconds=75, evidence="/tmp/x.db"))
    console.file.close()
    said = console.export_text()
    assert len(said.splitlines()) <= height
    for wanted in ("the store is away", "mismatched: 200 of 300 strata", "coverage 99.99 %", "/tmp/x.db", "Ctrl-C"):
        assert wanted in said


def test_a_report_is_written_whole_as_json_or_page(tmp_path: Path) -> None:
    document = reports.three()
    write_report(tmp_path / "r.json", document, [])
    assert json.loads((tmp_path / "r.json").read_text()) == document
    write_report(tmp_path / "r.html", document, [reports.sample()])
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.html", "r.json"]


def test_a_lone_surrogate_does_not_stop_a_report(tmp_path: Path) -> None:
    document = reports.report((), title="\ud800")
    write_report(tmp_path / "r.json", document, [])
    write_report(tmp_path / "r.html", document, [])
    assert json.loads((tmp_path / "r.json").read_text())["title"] == "\ud800"
    assert "\\ud800" in render(document, width=80)


@pytest.mark.parametrize("name", ["report", "report.txt", "missing/report.json", "folder.html"])
def test_a_report_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(DeclarationError):
        check_report_path(tmp_path / name)


def test_reasons_of_drops_are_explained_and_unknown_ones_shown() -> None:
    document: Any = reports.three()
    document["drops"] = {"something_new": 4}
    assert "something_new" in render(document, width=100)
    metrics = (ROOT / "docs/reference/metrics.md").read_text()
    reasons = metrics.partition("Reasons of `strangler_mirror_dropped_total`")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", reasons, re.M))
    assert len(documented) > 10
    assert documented == set(words.DROPS) - {"not_sampled"}


def test_time_to_wait_is_by_the_pace_so_far() -> None:
    document = reports.three(since=reports.NOW - dt.timedelta(hours=20))
    assert "about 3 days" in plain(render(document, width=200))
