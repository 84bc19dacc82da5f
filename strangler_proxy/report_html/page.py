"""The page as a whole: its parts, its style and script inside it, and a policy that forbids everything else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Final

from strangler_proxy import report_words as words
from strangler_proxy.core.sample import Sample
from strangler_proxy.report_html import plots
from strangler_proxy.report_html.differences_part import differences_part
from strangler_proxy.report_html.element import Html, join, tag
from strangler_proxy.report_html.samples_part import chosen, samples_part
from strangler_proxy.report_html.strata_part import badge, strata_part

Json = Mapping[str, Any]

GOTCHAS: Final = (
    "Matched is said of what was compared. Coverage and the list of what was never compared say what was not.",
    "Each stratum has a verdict of its own; none of them is wrong with more than its alpha (5 % unless set), but among "
    "many strata some may be.",
    "Noise is what the control does to itself. A fault that hides in a path that is noisy anyway is seen only where it "
    "is more frequent than the noise.",
    "A rule covers what somebody said it may cover. Every one has an owner, a reason and a day on which it ends.",
    "Equal answers do not prove equal effects: rows, mails and calls are compared only where both sides capture them.",
    "Verdicts are about the code and the rules they were gathered with; after a change they are stale.",
    "Times of the candidate are those of a mirrored request, which waits for nobody: under real load they may differ.",
    "Values are redacted. Equal marks stand for equal secrets, and nothing else can be read from them.",
)
"""What a report does not say. docs/explanation/shadow.md has the long form."""

_SECTIONS: Final = (
    ("overview", "Overview"),
    ("plots", "Plots"),
    ("strata", "Strata"),
    ("differences", "Differences"),
    ("samples", "Samples"),
    ("unseen", "Never compared"),
    ("rules", "Rules and notes"),
    ("gotchas", "How to read this"),
)


def html(document: Json, samples: Iterable[Sample] = ()) -> str:
    """The page of a report's document (see docs/reference/shadow-report.schema.json) with samples of it.

    It holds at most 2,000 differences and 200 samples (4 MB of them); it says what it leaves out.
    """
    shown = chosen(document, samples)
    places = {each.id: place for place, each in enumerate(shown)}
    style, script = _own("page.css"), _own("page.js")
    parts = {
        "overview": _overview(document),
        "plots": _plots(document),
        "strata": strata_part(document),
        "differences": differences_part(document, places),
        "samples": samples_part(shown),
        "unseen": _unseen(document),
        "rules": _rules(document),
        "gotchas": tag("ol", *(tag("li", each) for each in GOTCHAS)),
    }
    body = tag(
        "body",
        tag("a", "Skip to the strata", href="#strata", class_="skip"),
        _header(document),
        tag("nav", tag("ul", *(tag("li", tag("a", says, href=f"#{name}")) for name, says in _SECTIONS)),
            aria_label="Sections"),
        tag("main", *(_section(name, says, parts[name]) for name, says in _SECTIONS)),
        tag("footer", tag("p", "Made by strangler-toolkit. Everything in it is redacted; it loads nothing.")),
        tag("script", Html(script)),
    )  # fmt: skip
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{document['verdict']}: {words.printable(document['title'], 120)}"),
        tag("style", Html(style)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _section(name: str, says: str, content: Html) -> Html:
    return tag(
        "section", tag("h2", says, id=f"{name}-title"), content, id=name, tabindex=-1, aria_labelledby=f"{name}-title"
    )


def _header(document: Json) -> Html:
    facts = [("Made", document["made_at"])]
    facts += [("Evidence since", document["since"])] if document["since"] else []
    facts += [
        (f"Code of the {side}", said) for side in ("control", "candidate") if (said := document[f"{side}_version"])
    ]
    return tag(
        "header",
        tag("h1", document["title"]),
        tag("p", badge(document["verdict"]), f": {words.headline(document)}", class_="verdict"),
        tag("p", f"Coverage {words.coverage_words(document['coverage'])}", class_="coverage-words"),
        tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in facts)),
    )


def _overview(document: Json) -> Html:
    of = f" of {words.counted(len(document['strata']), 'stratum', 'strata')}"
    tiles = [
        tag("li", badge(name), tag("strong", f"{count:,}"), of, tag("small", words.LEGEND[name]))
        for name, count in words.verdict_counts(document).items()
    ]  # fmt: skip
    drops = sorted(document["drops"].items(), key=lambda each: (-each[1], each[0]))
    rows = [
        tag("tr", tag("td", f"{count:,}", class_="number"), tag("td", tag("code", reason)),
            tag("td", words.DROPS.get(reason, "")))
        for reason, count in drops
    ]  # fmt: skip
    table = tag(
        "table",
        tag("caption", "Requests that were dropped, by reason"),
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in ("Requests", "Reason", "It means")))),
        tag("tbody", *rows),
    )
    return join(
        tag("ul", *tiles, class_="tiles"),
        tag("h3", "Coverage"),
        plots.coverage_bar(document["coverage"]["share"]),
        tag("p", words.coverage_words(document["coverage"])),
        table if rows else tag("p", "Nothing was dropped."),
    )


def _plots(document: Json) -> Html:
    strata = document["strata"]
    left = len(strata) - plots.ROWS
    latency = plots.latencies(strata)
    return join(
        tag("h3", "Mismatch rate"),
        tag("p", "From the lower to the upper bound (dot) of the rate; the upright line is the limit. "
                 "Logarithmic, and valid at every look."),
        tag("figure", plots.rates(strata)) if strata else tag("p", "No stratum yet."),
        tag("p", f"The first {plots.ROWS} of {len(strata):,} strata; the table has all.") if left > 0 else None,
        tag("h3", "Latency"),
        tag("p", "Control: circles. Candidate: squares. From p50 to p99, logarithmic."),
        tag("figure", latency) if latency is not None else tag("p", "No times were measured."),
        tag("h3", "What became of the eligible requests"),
        tag("figure", plots.mirrored(document["coverage"], document["drops"])),
    )  # fmt: skip


def _unseen(document: Json) -> Html:
    if not document["unseen"]:
        return tag("p", "Every stratum that was seen in production has evidence.")
    rows = [
        tag("tr", tag("td", f"{each['requests']:,}", class_="number"), tag("td", words.percent(each["share"])),
            tag("th", tag("code", words.stratum_name(each)), scope="row"))
        for each in document["unseen"][:1_000]
    ]  # fmt: skip
    return tag(
        "table",
        tag("caption", f"{words.counted(len(document['unseen']), 'stratum', 'strata')} of production without evidence"),
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in ("Requests", "Share", "Stratum")))),
        tag("tbody", *rows),
    )


def _rules(document: Json) -> Html:
    found, notes = document["rule_findings"], document["notes"]
    return join(
        tag("h3", "Rules"),
        tag("ul", *(tag("li", each) for each in found)) if found else tag("p", "Nothing is wrong with the rules."),
        tag("h3", "Notes"),
        tag("ul", *(tag("li", each) for each in notes)) if notes else tag("p", "None."),
    )
