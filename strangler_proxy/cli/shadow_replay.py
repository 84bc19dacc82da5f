"""`strangler shadow replay`."""

from __future__ import annotations

import asyncio
import datetime as dt
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.options import EvidenceOption
from strangler_proxy.cli.output import Format, OutputOption, say, say_next, show
from strangler_proxy.cli.shadow_source import source_of

Json = dict[str, Any]

MISMATCHED_EXIT = 3
_MARKS_NAMED = 5


def replay(
    control: Annotated[str, typer.Option("--control", metavar="URL", help="Who answers as the control.")],
    candidate: Annotated[str, typer.Option("--candidate", metavar="URL", help="Who is compared with it.")],
    flag: Annotated[
        str | None, typer.Argument(metavar="[FLAG]", help="The flag's key.", autocompletion=flag_names)
    ] = None,
    evidence: EvidenceOption = None,
    credentials: Annotated[
        Path | None, typer.Option("--credentials", metavar="FILE", help="TOML: what the marks of secrets stand for.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=20_000, help="How many at most.")] = 500,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1_000, help="Requests a second to each side.")] = 10.0,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the report as one page, FILE.html.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Ask both sides the safe requests that were recorded once more, and compare. Unsafe ones are never sent.

    Ends with exit code 3 where a difference is confirmed.

    Example: strangler shadow replay CAPABILITY --control http://old --candidate http://new
    """
    from strangler_proxy.cli.shadow_credentials import Credentials, read_credentials
    from strangler_proxy.cli.shadow_replaying import Replayed, askable, check_url
    from strangler_proxy.cli.shadow_report_file import check_report_path
    from strangler_proxy.core.rule_form import read_rule

    urls = check_url("--control", control), check_url("--candidate", candidate)
    known = Credentials() if credentials is None else read_credentials(credentials)
    if html is not None:
        check_report_path(html)
    found = Replayed()
    with source_of(flag, evidence) as source:
        chosen = askable(source.samples(), known, found, limit)
        rules = [read_rule(each) for each in source.rules()]
        where = shlex.join(source.where)
        name = source.flag
    _say_skipped(found)
    if not chosen:
        say("no recorded request can be asked again")
        say_next(f"strangler shadow report {where}")
        raise typer.Exit(1)
    _ask(chosen, name, urls, known, rules, rate, found)
    document = _report(found, name, rules)
    _finish(document, found, html)
    if document["verdict"] == "mismatched":
        raise typer.Exit(MISMATCHED_EXIT)


def _ask(chosen: Any, flag: str, urls: tuple[str, str], credentials: Any, rules: Any, rate: float, found: Any) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from strangler_proxy.cli.shadow_replaying import replay as ask_all

    console = Console(stderr=True)
    columns = TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("asking", total=len(chosen))
        try:
            asyncio.run(
                ask_all(
                    chosen,
                    flag=flag,
                    control=urls[0],
                    candidate=urls[1],
                    credentials=credentials,
                    rules=rules,
                    rate=rate,
                    told=lambda: progress.advance(task),
                    found=found,
                )
            )
        except KeyboardInterrupt:
            say("stopped: this is what was asked until now")


def _report(found: Any, flag: str, rules: Any) -> Json:
    from strangler_proxy.control.shadow import began
    from strangler_proxy.core.reckoning import report_of
    from strangler_proxy.core.verdict import Demands

    now = dt.datetime.now(dt.UTC)
    report = report_of(
        found.tallies,
        title=f"replay of {flag or 'recorded requests'}",
        now=now,
        demands=Demands(min_seconds=0.0),
        rules=rules,
        since=began(found.tallies),
    )
    document: Json = report.document()
    skipped = [f"{count} recorded requests were not asked: {why}" for why, count in sorted(found.skipped.items())]
    document["notes"] = [f"{found.asked} recorded requests were asked again", *skipped, *document["notes"]]
    return document


def _say_skipped(found: Any) -> None:
    for why, count in sorted(found.skipped.items()):
        say(f"not asked: {count} ({why})")
    for mark, count in found.lacking.most_common(_MARKS_NAMED):
        say(f"  {mark} stands in {count} of them: name it in --credentials")


def _finish(document: Json, found: Any, html: Path | None) -> None:
    from strangler_proxy.cli.shadow_report_file import write_report
    from strangler_proxy.cli.shadow_report_text import ReportText

    show(document, ReportText(document))
    if html is not None:
        write_report(html, document, found.samples)
        say(f"report: {html}")
