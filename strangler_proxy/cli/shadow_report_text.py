"""A report of shadow mode for people, in a terminal of any width, or in a pipe."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from strangler_proxy import report_words as words
from strangler_proxy.cli.output import ago, grid
from strangler_proxy.core.sample import Sample

Json = Mapping[str, Any]

COLOURS: Final = {"matched": "green", "mismatched": "red", "inconclusive": "yellow"}
WIDE: Final = 150
"""From this width on strata are a table; below it each has lines of its own."""
_SHORT: Final = 70


class ReportText:
    """A report as something rich prints.

    It shows at most `strata` strata, `differences` differences and as many unseen strata; what it leaves out it counts.
    `samples` are those that were kept: a difference names its sample only where there is one.
    """

    def __init__(
        self, document: Json, samples: Iterable[Sample] = (), *, strata: int = 40, differences: int = 10
    ) -> None:
        self._document = document
        self._samples = {each.id for each in samples}
        self._strata = strata
        self._differences = differences

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        document = self._document
        yield head(document)
        yield from _section("Strata", self._strata_part(options.max_width), document["strata"])
        yield from _section("Differences", self._differences_part(), document["strata"])
        yield from _section("Dropped", [drops_table(document["drops"])], document["drops"])
        yield from _section("Seen in production, never compared", self._unseen_part(), document["unseen"])
        yield from _section("Rules", _lines(document["rule_findings"]), document["rule_findings"])
        yield from _section("Notes", _lines(document["notes"]), document["notes"])

    def _strata_part(self, width: int) -> Iterable[RenderableType]:
        found = self._document["strata"]
        yield strata_view(self._document, width, found[: self._strata])
        yield from _left_out(len(found) - self._strata, "stratum", "strata")

    def _differences_part(self) -> Iterable[RenderableType]:
        found = list(words.differences(self._document, covered=False))
        covered = list(words.differences(self._document, covered=True))
        for stratum, each in found[: self._differences]:
            yield _difference(stratum, each, self._samples)
        if not found:
            yield Text("none that stands")
        yield from _left_out(len(found) - self._differences, "difference", "differences")
        if covered:
            said = ", ".join(_covered(each) for _, each in covered[: self._differences])
            more = f" and {len(covered) - self._differences:,} more" if len(covered) > self._differences else ""
            yield Text(f"covered by rules, noise or races: {said}{more}", style="dim")

    def _unseen_part(self) -> Iterable[RenderableType]:
        found = self._document["unseen"]
        table = grid("REQUESTS", "SHARE", "STRATUM")
        for each in found[: self._differences]:
            table.add_row(f"{each['requests']:,}", words.percent(each["share"]), Text(words.stratum_name(each)))
        yield table
        yield from _left_out(len(found) - self._differences, "stratum", "strata")


def render(document: Json, samples: Sequence[Sample] = (), *, width: int = 100, colour: bool = False) -> str:
    """The report as text of that width, with ANSI colours if `colour`."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
    )
    console.print(ReportText(document, samples))
    return out.getvalue()


def head(document: Json) -> RenderableType:
    """Verdict with its reason, and coverage beside it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    title = Text(words.printable(document["title"], 160), style="bold")
    table.add_row("report", title)
    table.add_row("verdict", verdict(document["verdict"]) + Text(f": {words.headline(document)}"))
    table.add_row("coverage", Text(words.coverage_words(document["coverage"])))
    counts = words.verdict_counts(document)
    table.add_row("strata", Text(", ".join(f"{count:,} {name}" for name, count in counts.items())))
    versions = [f"{side} {words.printable(said, 60)}" for side in ("control", "candidate")
                if (said := document[f"{side}_version"])]  # fmt: skip
    if versions:
        table.add_row("code", Text(", ".join(versions)))
    gathered = words.gathered_s(document)
    since = "" if gathered is None else f", evidence since {document['since']}"
    table.add_row("made", Text(f"{document['made_at']} ({ago(document['made_at'])}){since}"))
    return table


def verdict(name: str) -> Text:
    """A verdict in its colour; the word is always there."""
    return Text(words.printable(name, 20), style=f"bold {COLOURS.get(name, '')}".strip())


def strata_view(document: Json, width: int, strata: Sequence[Json]) -> RenderableType:
    """Strata as a table where there is room, else each on lines of its own."""
    gathered = words.gathered_s(document)
    if width >= WIDE:
        return _strata_table(strata, gathered)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in strata:
        table.add_row(verdict(each["verdict"]), Text(words.stratum_name(each), style="bold"))
        table.add_row("", Text(_facts(each)))
        if each["latency"] is not None:
            table.add_row("", Text(_latency(each["latency"]), style="dim"))
        if missing := words.missing_words(each, gathered):
            table.add_row("", Text(words.printable(missing), style=COLOURS.get(each["verdict"], "")))
    return table


def _strata_table(strata: Sequence[Json], gathered: float | None) -> Table:
    table = grid("VERDICT", "STRATUM", "COMPARED", "MISMATCHED", "IGNORED", "RATE", "P50 MS", "P99 MS", "WHY")
    for each in strata:
        table.add_row(
            verdict(each["verdict"]),
            Text(words.stratum_name(each)),
            words.compared_words(each),
            f"{each['mismatched']:,}",
            f"{each['ignored']:,}",
            words.rate_words(each),
            words.latency_words(each["latency"], "p50"),
            words.latency_words(each["latency"], "p99"),
            Text(words.printable(words.missing_words(each, gathered)) or "-"),
        )
    return table


def drops_table(drops: Mapping[str, int]) -> Table:
    """Requests that were dropped, by reason, the most frequent first."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for reason, count in sorted(drops.items(), key=lambda each: (-each[1], each[0])):
        table.add_row(f"{count:,}", Text(words.printable(reason, 60)), words.DROPS.get(reason, ""))
    return table


def next_commands(document: Json, where: Sequence[str]) -> list[str]:
    """What makes sense now. `where` names the evidence: a flag, or `--evidence FILE` and maybe a flag."""
    file = where[:2] if where[:1] == ["--evidence"] else ()
    sample = next((each["sample"] for _, each in words.differences(document, covered=False) if each["sample"]), "")
    show = [f"strangler shadow show {shlex.join([sample, *file])}"] if sample else []
    return [*show, f"strangler shadow report {shlex.join(where)} --html report.html"]


def _section(title: str, parts: Iterable[RenderableType], there: object) -> Iterable[RenderableType]:
    if there:
        yield ""
        yield Text(title, style="bold underline")
        for part in parts:
            yield Padding(part, (0, 0, 0, 2))


def _lines(sentences: Sequence[str]) -> Iterable[RenderableType]:
    for each in sentences:
        yield Text(words.printable(each, 400))


def _left_out(count: int, one: str, many: str) -> Iterable[RenderableType]:
    if count > 0:
        yield Text(f"... and {words.counted(count, one, many)} more: --output json or --html has all", style="dim")


def _facts(stratum: Json) -> str:
    said = [f"compared {words.compared_words(stratum)}", f"mismatched {stratum['mismatched']:,}"]
    said += [f"{name} {stratum[name]:,}" for name in ("ignored", "inconclusive") if stratum[name]]
    return f"{', '.join(said)}; rate {words.rate_words(stratum)}, limit {words.percent(words.limit_of(stratum))}"


def _latency(latency: Json) -> str:
    return (
        f"ms control -> candidate: p50 {words.latency_words(latency, 'p50')}, p99 {words.latency_words(latency, 'p99')}"
        f", paired ratio {latency['ratio_p50']:.2f}"
    )


def _covered(difference: Json) -> str:
    path, kind = words.printable(difference["path"], _SHORT), words.printable(difference["kind"], 20)
    return f"{path} ({kind}, {words.noise_words(difference)})"


def _difference(stratum: Json, difference: Json, samples: set[str]) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    path = Text(words.printable(difference["path"], 120), style="bold")
    table.add_row(
        "path",
        path + Text(f" ({words.printable(difference['kind'], 20)}), {words.difference_words(difference, stratum)}"),
    )
    table.add_row("of", Text(words.stratum_name(stratum)))
    table.add_row("control", Text(words.printable(difference["control"]) or "-", style="cyan"))
    table.add_row("candidate", Text(words.printable(difference["candidate"]) or "-", style="magenta"))
    if difference["sample"] and (not samples or difference["sample"] in samples):
        table.add_row("sample", Text(words.printable(difference["sample"], 64)))
    return Padding(table, (0, 0, 1, 0))
