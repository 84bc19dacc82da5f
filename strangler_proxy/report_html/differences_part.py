"""Differences by stratum, each with both values and the way to its sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from strangler_proxy import report_words as words
from strangler_proxy.report_html.alignment import marked
from strangler_proxy.report_html.element import Html, join, tag
from strangler_proxy.report_html.strata_part import badge

Json = Mapping[str, Any]

SHOWN: Final = 2_000
"""Differences on the page; those that stand come first, and what is left out is counted."""


def differences_part(document: Json, samples: Mapping[str, int]) -> Html:
    """All strata with differences. `samples` gives the place of each sample that is on the page."""
    left = _chosen(document)
    groups, shown, total = [], 0, 0
    for place, stratum in enumerate(document["strata"]):
        total += len(stratum["differences"])
        made = [
            _difference(f"d{place}-{number}", stratum, each, samples)
            for number, each in enumerate(stratum["differences"])
            if (place, number) in left
        ]
        shown += len(made)
        if stratum["differences"]:
            groups.append(_group(place, stratum, made))
    if not groups:
        return tag("p", "No differences were seen in what was compared.")
    note = (
        tag("p", f"{total - shown:,} more are not on this page: the JSON report has them.") if total > shown else None
    )
    return join(_controls(shown), note, *groups)


def _chosen(document: Json) -> set[tuple[int, int]]:
    """The places of differences that are shown."""
    found = [
        (each["covered"] >= each["count"], -each["confirmed"], -each["count"], place, number)
        for place, stratum in enumerate(document["strata"])
        for number, each in enumerate(stratum["differences"])
    ]
    return {(place, number) for *_, place, number in sorted(found)[:SHOWN]}


def _controls(shown: int) -> Html:
    return tag(
        "form",
        tag(
            "label",
            "Filter differences by text ",
            tag("input", type="search", id="differences-filter", autocomplete="off"),
        ),
        tag("label", tag("input", type="checkbox", id="differences-covered", checked=True), " show covered ones"),
        tag("button", "Open all that are shown", type="button", id="differences-open"),
        tag("output", f"{shown:,} of {shown:,} shown", id="differences-shown", aria_live="polite"),
        class_="controls",
        id="differences-controls",
    )


def _group(place: int, stratum: Json, made: list[Html]) -> Html:
    return tag(
        "section",
        tag("h3", badge(stratum["verdict"]), " ", tag("code", words.stratum_name(stratum)), id=f"h{place}"),
        *made,
        class_="group",
        id=f"s{place}",
        tabindex=-1,
        aria_labelledby=f"h{place}",
    )


def _difference(name: str, stratum: Json, each: Json, samples: Mapping[str, int]) -> Html:
    covered = each["covered"] >= each["count"]
    control, candidate = marked(str(each["control"]), str(each["candidate"]))
    place = samples.get(each["sample"])
    summary = tag(
        "summary",
        tag("code", each["path"], class_="path"),
        tag("span", each["kind"], class_="kind"),
        tag("span", f"{each['count']:,} times", class_="count"),
        tag("span", "covered", class_="covered") if covered else None,
    )
    values = tag(
        "table",
        tag("caption", "Both values, redacted"),
        tag("thead", tag("tr", tag("th", "Control", scope="col"), tag("th", "Candidate", scope="col"))),
        tag("tbody", tag("tr", tag("td", tag("code", control)), tag("td", tag("code", candidate)))),
        class_="sides",
    )
    where = None
    if place is not None:
        where = tag("p", tag("a", f"Go to sample {words.printable(each['sample'], 40)}", href=f"#n{place}"))
    elif each["sample"]:
        where = tag("p", "Sample ", tag("code", words.printable(each["sample"], 64)), " is not on this page.")
    return tag(
        "details",
        summary,
        values,
        tag("p", f"It is {words.difference_words(each, stratum)}."),
        where,
        class_="difference",
        id=name,
        data_covered=covered,
    )
