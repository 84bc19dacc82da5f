"""What the live report shows: one screen, or one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from strangler_proxy import report_words as words
from strangler_proxy.cli.output import duration
from strangler_proxy.cli.shadow_report_text import COLOURS, verdict

Json = Mapping[str, Any]

_FEWEST_STRATA: Final = 3
_OTHER_LINES: Final = 11
_DIFFERENCES: Final = 5
_ROOMY: Final = 110


class LiveView:
    """One screen that fits the terminal: verdict, coverage, the worst strata, the differences that matter most.

    `seconds` since the start; `problem` is shown above what was known last.
    """

    def __init__(self, document: Json | None, problem: str, *, seconds: float, evidence: str) -> None:
        self._document = document
        self._problem = problem
        self._seconds = seconds
        self._evidence = words.printable(evidence)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        width = options.max_width
        yield from self._head()
        if self._document is not None and self._document["strata"]:
            yield ""
            yield from _strata(self._document, width, max(_FEWEST_STRATA, height - _OTHER_LINES - _DIFFERENCES))
            yield from _differences(self._document)
        yield ""
        yield _one_line(f"evidence: {self._evidence}", "dim")
        yield _one_line("Ctrl-C ends it, prints the report and says what comes next", "dim")

    def _head(self) -> Iterable[RenderableType]:
        document = self._document
        running = f"  running {duration(self._seconds)}"
        if self._problem:
            yield _one_line(words.printable(self._problem, 400), "red")
        if document is None:
            yield _one_line(f"no evidence yet{running}")
            return
        title = _one_line(words.printable(document["title"]), "bold")
        title.append(running, style="dim")
        yield title
        yield _one_line(verdict(document["verdict"]) + Text(f": {words.headline(document)}"))
        yield _one_line(f"coverage {words.coverage_words(document['coverage'])}")
        if document["drops"]:
            yield _one_line(f"dropped: {drop_words(document['drops'])}", "dim")


def line(document: Json | None) -> str:
    """The state of everything in one line."""
    if document is None:
        return "no evidence yet"
    counts = ", ".join(f"{count:,} {name}" for name, count in words.verdict_counts(document).items() if count)
    standing = sum(1 for _ in words.differences(document, covered=False))
    parts = [f"coverage {words.coverage_words(document['coverage'])}"]
    parts += [f"strata {counts}"] if counts else []
    parts += [f"differences {standing:,}"] if standing else []
    parts += [f"dropped {drop_words(document['drops'])}"] if document["drops"] else []
    return "; ".join(parts)


def drop_words(drops: Mapping[str, int]) -> str:
    """`queue_full 3, upgrade 1`, the most frequent first."""
    ordered = sorted(drops.items(), key=lambda each: (-each[1], each[0]))
    said = [f"{words.printable(reason, 40)} {count:,}" for reason, count in ordered[:6]]
    return ", ".join(said + ([f"and {len(ordered) - 6} more reasons"] if len(ordered) > 6 else []))


def _one_line(text: str | Text, style: str = "") -> Text:
    said = text if isinstance(text, Text) else Text(text, style=style)
    said.no_wrap = True
    said.overflow = "ellipsis"
    return said


def _strata(document: Json, width: int, rows: int) -> Iterable[RenderableType]:
    roomy = width >= _ROOMY
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("VERDICT", no_wrap=True, width=12)
    table.add_column("STRATUM", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("COMPARED", no_wrap=True, justify="right")
    table.add_column("MISMATCHED", no_wrap=True, justify="right")
    if roomy:
        table.add_column("RATE UP TO", no_wrap=True, justify="right")
        table.add_column("P50 MS", no_wrap=True)
        table.add_column("WHY", no_wrap=True, overflow="ellipsis", ratio=2)
    gathered = words.gathered_s(document)
    for each in document["strata"][:rows]:
        cells: list[RenderableType] = [
            verdict(each["verdict"]),
            Text(words.stratum_name(each)),
            f"{each['compared']:,}",
            Text(f"{each['mismatched']:,}", style=COLOURS["mismatched"] if each["mismatched"] else ""),
        ]
        if roomy:
            cells += [
                words.percent(each["rate"]["high"]),
                words.latency_words(each["latency"], "p50"),
                Text(words.printable(words.missing_words(each, gathered))),
            ]
        table.add_row(*cells)
    yield table
    if len(document["strata"]) > rows:
        yield _one_line(f"... and {words.counted(len(document['strata']) - rows, 'stratum', 'strata')} more", "dim")


def _differences(document: Json) -> Iterable[RenderableType]:
    found = list(words.differences(document, covered=False))
    for stratum, each in found[:_DIFFERENCES]:
        said = Text(words.printable(each["path"], 60), style="bold")
        said.append(f" ({words.printable(each['kind'], 20)}) {each['count']:,}x ", style="not bold")
        said.append(words.printable(each["control"], 40) or "-", style="not bold cyan")
        said.append(" -> ", style="not bold")
        said.append(words.printable(each["candidate"], 40) or "-", style="not bold magenta")
        said.append(f"  {words.stratum_name(stratum)}", style="not bold dim")
        yield _one_line(said)
    if len(found) > _DIFFERENCES:
        yield _one_line(f"... and {words.counted(len(found) - _DIFFERENCES, 'difference')} more", "dim")
