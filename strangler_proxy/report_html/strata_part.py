"""The table of strata, which can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from strangler_proxy import report_words as words
from strangler_proxy.report_html.element import Html, join, tag

Json = Mapping[str, Any]

_COLUMNS: Final = (
    "Verdict", "Method", "Path", "Status", "Who", "Content type", "Compared", "Coverage", "Mismatched", "Rate up to",
    "Differences", "Why", "p50 ms", "p99 ms", "Ignored", "Limit",
)  # fmt: skip
_CLASSES: Final = {"Verdict": None, "Why": "why"}
_ORDER: Final = {name: place for place, name in enumerate(words.VERDICTS)}


def strata_part(document: Json) -> Html:
    """Controls and table. Without scripts the table is there, in the order of the report."""
    strata = document["strata"]
    if not strata:
        return tag("p", "No stratum has evidence: nothing was compared.")
    gathered = words.gathered_s(document)
    header = tag(
        "tr",
        *(
            tag("th", tag("button", name, type="button", data_sort=place), scope="col", aria_sort="none")
            for place, name in enumerate(_COLUMNS)
        ),
    )
    table = tag(
        "table",
        tag("caption", "Strata: requests that are judged together. Activate a column's name to sort by it."),
        tag("thead", header),
        tag("tbody", *(_row(place, each, gathered) for place, each in enumerate(strata))),
        id="strata-table",
    )
    return join(
        _controls(len(strata)),
        tag("div", table, class_="wide", role="region", aria_label="Table of strata", tabindex=0),
    )


def _controls(count: int) -> Html:
    verdicts = [
        tag("label", tag("input", type="checkbox", checked=True, value=name, name="verdict"), f" {name}")
        for name in words.VERDICTS
    ]
    return tag(
        "form",
        tag("label", "Filter strata by text ", tag("input", type="search", id="strata-filter", autocomplete="off")),
        tag("fieldset", tag("legend", "Verdicts"), *verdicts),
        tag("output", f"{count:,} of {count:,} shown", id="strata-shown", aria_live="polite"),
        class_="controls",
        id="strata-controls",
    )


def _row(place: int, each: Json, gathered: float | None) -> Html:
    requests = each.get("requests") or 0
    share = each["compared"] / requests if requests >= each["compared"] and requests else None
    latency = each["latency"]
    standing = sum(1 for one in each["differences"] if one["covered"] < one["count"])
    link = tag("a", f"{len(each['differences']):,}", href=f"#s{place}") if each["differences"] else "0"
    cells = (
        (_ORDER.get(each["verdict"], 9), badge(each["verdict"])),
        (None, each["method"]),
        (None, tag("code", each["path_template"])),
        (None, each["status_class"]),
        (None, "signed in" if each["signed_in"] else "guest"),
        (None, each["content_type"] or "no body"),
        (each["compared"], f"{each['compared']:,}"),
        (-1 if share is None else share, "-" if share is None else words.percent(share)),
        (each["mismatched"], f"{each['mismatched']:,}"),
        (each["rate"]["high"], words.percent(each["rate"]["high"])),
        (standing, link),
        (None, words.missing_words(each, gathered) or "-"),
        (-1 if latency is None else latency["candidate_p50_ms"], words.latency_words(latency, "p50")),
        (-1 if latency is None else latency["candidate_p99_ms"], words.latency_words(latency, "p99")),
        (each["ignored"], f"{each['ignored']:,}"),
        (words.limit_of(each), words.percent(words.limit_of(each))),
    )
    made = [_cell(name, value, said) for name, (value, said) in zip(_COLUMNS, cells, strict=True)]
    return tag("tr", *made, data_verdict=each["verdict"])


def _cell(column: str, value: float | None, said: object) -> Html:
    """`value` is what is sorted by; text where it is None."""
    kind = _CLASSES.get(column, "number" if value is not None else None)
    if column == "Path":
        return tag("th", said, scope="row")
    return tag("td", said, data_v=value, class_=kind)


def badge(verdict: str) -> Html:
    """A verdict in its colour, with a sign of its own."""
    signs = {"matched": "✓", "mismatched": "✗", "inconclusive": "?"}
    return tag(
        "span",
        tag("span", signs.get(verdict, "?"), aria_hidden="true"),
        f" {verdict}",
        class_=f"badge {verdict if verdict in signs else ''}",
    )
