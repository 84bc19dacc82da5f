"""Samples: kept comparisons, both answers side by side with what differs marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from strangler_proxy import report_words as words
from strangler_proxy.core.sample import Sample, SampledAnswer
from strangler_proxy.report_html.alignment import LINES, WIDTH, Gap, aligned, folded, lines_of, marked
from strangler_proxy.report_html.element import Html, join, tag

Json = Mapping[str, Any]

SHOWN: Final = 200
_BODY: Final = 20_000
"""Characters of a body that are shown."""
_BYTES: Final = 4_000_000
_FIELDS: Final = 60

Rows = Iterable[tuple[Html | str, Html | str, str]]


def chosen(document: Json, samples: Iterable[Sample]) -> list[Sample]:
    """The samples for the page: those that differences name first, as many as fit."""
    by_id = {each.id: each for each in samples}
    named = [one["sample"] for covered in (False, True) for _, one in words.differences(document, covered=covered)]
    ordered = [by_id[name] for name in dict.fromkeys(named) if name in by_id]
    ordered += [each for each in by_id.values() if each.id not in set(named) and each.outcome == "mismatched"]
    found, size = [], 0
    for each in ordered[:SHOWN]:
        size += sum(min(_BODY, len(body)) for body in (each.body, each.control.body, each.candidate.body)) + 2_000
        if size > _BYTES:
            break
        found.append(each)
    return found


def samples_part(samples: Sequence[Sample]) -> Html:
    """All samples, closed."""
    if not samples:
        return tag("p", "No sample of a difference was kept.")
    return join(*(_sample(place, each) for place, each in enumerate(samples)))


def _sample(place: int, sample: Sample) -> Html:
    summary = tag(
        "summary",
        tag("code", f"{words.printable(sample.method, 20)} {words.printable(sample.target, 200)}"),
        tag("span", "confirmed" if sample.confirmed else sample.outcome, class_="kind"),
    )
    return tag(
        "details",
        summary,
        tag("p", f"Sample {words.printable(sample.id, 64)}, {sample.at.isoformat(timespec='seconds')}, "
                 f"the control was {words.printable(sample.control_origin, 40)}. ",
            words.printable(sample.why, 400)),
        _found(sample),
        _request(sample),
        _sides("Status and headers", _head_rows(sample.control, sample.candidate)),
        _sides("Body", _body_rows(sample.control.body, sample.candidate.body)),
        _effects(sample),
        tag("p", tag("a", "Back to the differences", href="#differences")),
        class_="sample",
        id=f"n{place}",
    )  # fmt: skip


def _found(sample: Sample) -> Html:
    items = []
    for each in sample.differences[:_FIELDS]:
        control, candidate = marked(each.control, each.candidate)
        covered = f" (covered by {words.printable(each.covered_by, 60)})" if each.covered_by else ""
        items.append(
            tag("li", tag("code", each.at or each.path), f" {words.printable(each.kind, 20)}: ", tag("code", control),
                " / ", tag("code", candidate), covered)
        )  # fmt: skip
    more = len(sample.differences) - _FIELDS
    return join(tag("ul", *items), tag("p", f"{more:,} more differences.") if more > 0 else None)


def _request(sample: Sample) -> Html:
    lines = [
        f"{words.printable(name, 100)}: {words.printable(value, WIDTH)}" for name, value in sample.fields[:_FIELDS]
    ]
    lines += ["", *_cut(sample.body)] if sample.body else []
    shown = tag("pre", *(join(line[:WIDTH], Html("\n")) for line in lines or ["It had no headers that were kept."]))
    return tag("details", tag("summary", "The request, redacted"), shown)


def _cut(body: str) -> list[str]:
    lines = lines_of(body[:_BODY])
    return [*lines[:LINES], *(["..."] if len(lines) > LINES or len(body) > _BODY else [])]


def _head_rows(control: SampledAnswer, candidate: SampledAnswer) -> Rows:
    yield _pair_row(_first_line(control), _first_line(candidate), same=control.status == candidate.status)
    if control.failure or candidate.failure:
        yield _pair_row(control.failure, candidate.failure)
    names = list(dict.fromkeys(name for name, _ in (*control.fields, *candidate.fields)))
    for name in names[:_FIELDS]:
        a, b = ([f"{name}: {value}" for other, value in each.fields if other == name] for each in (control, candidate))
        for left, right in aligned(a, b):
            yield _pair_row(left or "", right or "")


def _first_line(answer: SampledAnswer) -> str:
    return f"{answer.status} in {words.milliseconds(answer.duration_ms)} ms, {answer.body_bytes:,} bytes"


def _body_rows(control: str, candidate: str) -> Rows:
    for each in folded(aligned(_cut(control), _cut(candidate))):
        if isinstance(each, Gap):
            said = f"{words.counted(each.lines, 'equal line')}"
            yield said, said, "gap"
        else:
            yield _pair_row(each[0] or "", each[1] or "")


def _pair_row(left: str, right: str, same: bool | None = None) -> tuple[Html | str, Html | str, str]:
    if left == right or same:
        return left[:WIDTH], right[:WIDTH], "same"
    return (*marked(left, right), "differs")


def _effects(sample: Sample) -> Html | None:
    sides = sample.control.effects, sample.candidate.effects
    if sides == (None, None):
        return None
    said = [sorted(f"{kind}: {detail}" for kind, detail in side or ()) for side in sides]
    return _sides("Effects", (_pair_row(a or "", b or "") for a, b in aligned(said[0][:LINES], said[1][:LINES])))


def _sides(caption: str, rows: Rows) -> Html:
    made = [
        tag("tr", tag("td", tag("code", left)), tag("td", tag("code", right)), class_=kind)
        for left, right, kind in rows
    ]
    if not made:
        return Html("")
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", tag("th", "Control", scope="col"), tag("th", "Candidate", scope="col"))),
        tag("tbody", *made),
        class_="sides",
    )
