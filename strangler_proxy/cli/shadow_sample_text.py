"""One sample for people: the request, both answers side by side, and every difference with what covers it."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from strangler_proxy.cli.output import grid
from strangler_proxy.core.sample import Sample, SampledAnswer, SampledDifference
from strangler_proxy.report_words import printable

LINES: Final = 1_500
"""Lines of an answer that are compared; of what differs, everything is shown."""
CONTEXT: Final = 3
_LONGEST: Final = 2_000
_COLOURS: Final = {"matched": "green", "mismatched": "red", "ignored": "blue", "inconclusive": "yellow"}

Row = tuple[str, str, str]
"""How the line is: `equal`, `replace`, `delete`, `insert` or `skip`; the control's and the candidate's."""


class SampleText:
    """A sample as something rich prints."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sample = self._sample
        yield _head(sample)
        yield from _part("Request", _request(sample))
        yield from _part("Differences", _differences(sample.differences))
        yield from _part("Answers", _answers(sample))


def next_commands(sample: Sample, evidence: str | None) -> list[str]:
    """What makes sense now."""
    where = f"--evidence {shlex.quote(evidence)}" if evidence else sample.flag
    found = [f"strangler shadow report {where}"]
    open_now = next((each for each in sample.differences if not each.covered_by), None)
    if open_now is not None:
        route = f" --route {sample.route}" if sample.route else ""
        found.append(
            f"strangler shadow rule test {where} --path {shlex.quote(printable(open_now.path, 80))} --ignore{route}"
        )
    return found


def side_by_side(left: Sequence[str], right: Sequence[str], context: int = CONTEXT) -> Iterator[Row]:
    """Lines of both sides beside each other; long equal stretches are one `skip` row.

    >>> list(side_by_side(["a", "b"], ["a", "c"]))
    [('equal', 'a', 'a'), ('replace', 'b', 'c')]
    """
    matcher = difflib.SequenceMatcher(a=left, b=right, autojunk=True)
    blocks = matcher.get_opcodes()
    for place, (what, a1, a2, b1, b2) in enumerate(blocks):
        if what != "equal":
            for one, other in zip_longest(left[a1:a2], right[b1:b2], fillvalue=""):
                yield what, one, other
            continue
        before = context if place else 0
        after = context if place < len(blocks) - 1 else 0
        skipped = a2 - a1 - before - after
        lines = list(zip(left[a1:a2], right[b1:b2], strict=True))
        if skipped < 2:
            yield from (("equal", *each) for each in lines)
            continue
        yield from (("equal", *each) for each in lines[:before])
        yield "skip", f"... {skipped} equal lines", ""
        yield from (("equal", *each) for each in lines[len(lines) - after :])


def answer_lines(answer: SampledAnswer) -> list[str]:
    """An answer line by line: status, fields by name, body (JSON set out), effects."""
    if answer.failure:
        return [f"no answer: {answer.failure}"]
    lines = [f"{answer.status}"]
    lines += sorted(f"{name.lower()}: {value}" for name, value in answer.fields)
    lines += ["", *_body(answer.body)]
    if answer.effects is not None:
        lines += ["", f"effects: {len(answer.effects)}"]
        for kind, detail in answer.effects:
            lines += [f"{kind}:", *(f"  {line}" for line in _body(detail))]
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"... {len(lines) - LINES} more lines: --output json has all"]
    return [printable(line, _LONGEST) for line in lines]


def _body(text: str) -> list[str]:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).splitlines()
    except (ValueError, RecursionError):
        return text.splitlines()


def _head(sample: Sample) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    outcome = Text(sample.outcome, style=f"bold {_COLOURS.get(sample.outcome, '')}".strip())
    confirmed = ", confirmed: it was so when both were asked again" if sample.confirmed else ""
    versions = [each for each in (sample.basis.control_version, sample.basis.candidate_version) if each]
    for name, value in (
        ("sample", Text(printable(sample.id, 80), style="bold")),
        ("flag", Text(printable(sample.flag or "-", 80))),
        ("stratum", Text(printable(sample.stratum, 300))),
        ("route", Text(printable(sample.route, 80))),
        ("at", Text(sample.at.isoformat(timespec="milliseconds"))),
        ("outcome", outcome + Text(confirmed)),
        ("why", Text(printable(sample.why, 300))),
        ("answered by", Text(f"{printable(sample.control_origin, 40)} (the control)")),
        ("code", Text(printable(" -> ".join(versions), 200))),
    ):
        if value.plain:
            table.add_row(name, value)
    return table


def _request(sample: Sample) -> RenderableType:
    lines = [f"{sample.method} {sample.target}", *(f"{name}: {value}" for name, value in sample.fields)]
    if sample.body:
        lines += ["", *_body(sample.body)[:60]]
    return Text("\n".join(printable(line, _LONGEST) for line in lines))


def _differences(differences: Sequence[SampledDifference]) -> RenderableType:
    if not differences:
        return Text("none")
    table = grid("PATH", "KIND", "TIMES", "CONTROL", "CANDIDATE", "COVERED BY")
    for each in differences:
        table.add_row(
            Text(printable(each.at or each.path, 160), style="bold"),
            Text(printable(each.kind, 20)),
            str(each.count),
            Text(printable(each.control, 400) or "-", style="cyan"),
            Text(printable(each.candidate, 400) or "-", style="magenta"),
            Text(printable(each.covered_by, 80), style="blue") if each.covered_by else Text("nothing", style="red"),
        )
    return table


def _answers(sample: Sample) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    other = "extracted" if sample.control_origin == "monolith" else "monolith"
    table.add_column(" ", no_wrap=True)
    table.add_column(_title("control", sample.control_origin, sample.control), overflow="fold", ratio=1)
    table.add_column(_title("candidate", other, sample.candidate), overflow="fold", ratio=1)
    for what, left, right in side_by_side(answer_lines(sample.control), answer_lines(sample.candidate)):
        if what in ("equal", "skip"):
            table.add_row(" ", Text(left, style="dim"), Text(right, style="dim"))
        else:
            sign = {"replace": "~", "delete": "-", "insert": "+"}[what]
            table.add_row(Text(sign, style="bold"), Text(left, style="red"), Text(right, style="green"))
    return table


def _title(role: str, origin: str, answer: SampledAnswer) -> Text:
    return Text(f"{role.upper()} {printable(origin, 40)}, {answer.duration_ms:.1f} ms, {answer.body_bytes:,} bytes")


def _part(title: str, content: RenderableType) -> Iterator[RenderableType]:
    yield ""
    yield Text(title, style="bold underline")
    yield Padding(content, (0, 0, 0, 2))
