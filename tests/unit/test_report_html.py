"""The HTML report without a browser: escaping, bounds, alignment. tests/browser opens it in one."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.verdict import Evidence
from strangler_proxy.report_html import html
from strangler_proxy.report_html.alignment import aligned, folded, lines_of, marked
from strangler_proxy.report_html.differences_part import SHOWN
from strangler_proxy.report_html.element import tag
from strangler_proxy.report_html.page import GOTCHAS
from tests import reports


class Read(HTMLParser):
    """Elements and attributes of a page, and whether they nest."""

    void = frozenset({"meta", "br", "input", "link"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_hostile_text_makes_no_element_and_no_attribute() -> None:
    document, samples = reports.hostile()
    page = Read(html(document, samples))
    assert page.open == []
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "src", "action")]
    assert {value[0] for name, value in page.attributes if name == "href" and value} == {"#"}
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in page.attributes if name == "href" and value} <= set(ids)


def test_an_attribute_cannot_be_left() -> None:
    page = Read(tag("p", "x", title=reports.HOSTILE, data_x="' onclick='x"))
    assert page.tags == ["p"]
    assert [name for name, _ in page.attributes] == ["title", "data-x"]
    assert ("data-x", "' onclick='x") in page.attributes


def test_the_page_names_no_address_outside() -> None:
    page = html(reports.three(title="a report"), [reports.sample()])
    assert not re.search(r"https?://", page)
    assert "url(" not in page
    assert "default-src 'none'" in page.replace("&#x27;", "'")


def test_everything_of_the_report_is_on_the_page() -> None:
    words = Read(html(reports.three(), [reports.sample()])).words
    for wanted in (
        "http://old against http://new", "1 of 3 strata has a confirmed difference", "11,040 compared of 11,340",
        "queue_full", "too many copies waited already", "/products/{slug}", "about 3,809 more requests, about 7.6 h",
        "items[].price", "noise 0 % of 40 A/A", "covered", "/reports/{date}", "it expires on 2026-12-01", "v2",
        "effects of the candidate were not captured", "140", GOTCHAS[0],
    ):  # fmt: skip
        assert wanted in words, wanted


def test_an_empty_report_is_a_page_too() -> None:
    words = Read(html(reports.report(()))).words
    assert "nothing was compared, so nothing is proved" in words


def test_what_is_too_much_is_left_out_and_counted() -> None:
    strata = tuple(
        reports.stratum(
            f"/a{place}", Evidence(matched=10, seconds=1),
            differences=tuple(reports.difference(f"p{place}.{number}", confirmed=place) for number in range(100)),
        )
        for place in range(25)
    )  # fmt: skip
    page = html(reports.report(strata), [reports.sample(number) for number in range(500)])
    assert page.count('class="difference"') == SHOWN
    assert "500 more are not on this page" in page
    assert "p24.99" in page
    assert page.count('class="sample"') == 200


def test_large_bodies_are_cut() -> None:
    body = "[" + ",".join(f'"{number:040d}"' for number in range(100_000)) + "]"
    answer = reports.sample().control
    kept = [
        reports.sample(number, control=_with(answer, body), candidate=_with(answer, body[::-1]))
        for number in range(200)
    ]
    began = time.monotonic()
    page = html(reports.three(), kept)
    assert len(page) < 30_000_000
    assert time.monotonic() - began < 60


def _with(answer, body: str):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(answer, body=body)


@given(st.text(max_size=60), st.text(max_size=60))
def test_marks_change_nothing_but_the_look(control: str, candidate: str) -> None:
    for source, said in zip((control, candidate), marked(control, candidate), strict=True):
        page = Read(said)
        assert set(page.tags) <= {"mark"}
        assert page.words == Read(tag("p", source)).words


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_alignment_loses_no_line_and_keeps_their_order(control: list[str], candidate: list[str]) -> None:
    pairs = aligned(control, candidate)
    assert [a for a, _ in pairs if a is not None] == control
    assert [b for _, b in pairs if b is not None] == candidate
    assert (control == candidate) == all(a == b for a, b in pairs)


def test_far_apart_texts_are_aligned_in_bounded_time() -> None:
    began = time.monotonic()
    pairs = aligned(["x"] * 50_000, ["y", "x"] * 25_000)
    assert len(pairs) >= 50_000
    assert time.monotonic() - began < 5


def test_equal_lines_far_from_a_difference_are_folded() -> None:
    lines = [str(number) for number in range(40)]
    other = [*lines[:20], "changed", *lines[21:]]
    shown = list(folded(aligned(lines, other)))
    assert [getattr(each, "lines", None) for each in shown if not isinstance(each, tuple)] == [17, 16]
    assert ("20", "changed") in shown


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ('{"a": "b\\"c,{}" , "n":1.10}', ["{", '  "a": "b\\"c,{}",', '  "n": 1.10', "}"]),
        ("<p>a</p><p>b</p>", ["<p>a</p>", "<p>b</p>"]),
        ("plain\ntext", ["plain", "text"]),
        ('[1,2,{"cut', ["[", "  1,", "  2,", "  {", '    "cut']),
        ("", [""]),
    ],
)
def test_bodies_are_laid_out_without_being_changed(body: str, lines: list[str]) -> None:
    assert lines_of(body) == lines
