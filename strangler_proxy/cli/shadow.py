"""`strangler shadow report | show | export | import | replay`, and the group `rule`."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from strangler_proxy.cli import shadow_replay, shadow_rule, shadow_transfer
from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.options import EvidenceOption
from strangler_proxy.cli.output import Format, OutputOption, is_json, say, say_next, show, stdout
from strangler_proxy.cli.shadow_source import Source, find_sample, moment, no_evidence, source_of
from strangler_proxy.core.errors import DeclarationError, StranglerError

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True, help="What mirroring has found: report, show, rule, replay.", pretty_exceptions_enable=False
)
_SAMPLES_IN_HTML = 300


@app.command()
def report(
    flag: Annotated[
        str | None, typer.Argument(metavar="[FLAG]", help="The flag's key.", autocompletion=flag_names)
    ] = None,
    evidence: EvidenceOption = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only of proxies that published later: 90m, 2h, 3d or a time.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write it as one page, FILE.html.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.5, max=600, help="Seconds between looks.")] = 2.0,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many looks.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """What the evidence says: verdict and coverage by stratum, differences, what was not mirrored, latency.

    Example: strangler shadow report CAPABILITY --html report.html
    """
    from strangler_proxy.cli.shadow_report_file import check_report_path, write_report
    from strangler_proxy.cli.shadow_report_text import ReportText, next_commands

    if html is not None:
        if html.suffix != ".html":
            raise DeclarationError([f"--html {str(html)!r}: the name must end in .html"])
        check_report_path(html)
    with source_of(flag, evidence) as source:
        if watch:
            return _watch(source, since, interval, count)
        found = source.report(_since(since), _SAMPLES_IN_HTML if html is not None else 0)
        document = found["report"]
        show(document, ReportText(document))
        if html is not None:
            write_report(html, document, found["samples"])
            say(f"report: {html}")
    if not document["coverage"]["eligible"] and not document["strata"]:
        say("there is no evidence yet: nothing was mirrored and compared")
        say_next(*no_evidence(found["stage"], source.where))
    else:
        say_next(*next_commands(document, list(source.where)))


@app.command("show")
def show_sample(
    sample: Annotated[str, typer.Argument(metavar="ID", help="A sample's id, or its beginning (6 or more).")],
    evidence: EvidenceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """One comparison that was kept: the request and both answers side by side, what differs, and what covers it.

    Secrets are marks (`[email:0123456789ab]`): equal secrets have equal marks.

    Example: strangler shadow show 1f0c9a7e
    """
    from strangler_proxy.cli.shadow_sample_text import SampleText, next_commands

    found = find_sample(sample, evidence)
    show(found.document() if is_json() else {}, SampleText(found))
    say_next(*next_commands(found, evidence))


def _since(text: str | None) -> dt.datetime | None:
    return moment(text, now=dt.datetime.now(dt.UTC))


def _watch(source: Source, since: str | None, interval: float, count: int | None) -> None:
    from rich.live import Live

    looks = 0
    if is_json():
        while True:
            typer.echo(json.dumps(source.report(_since(since), 0)["report"], ensure_ascii=False))
            looks += 1
            if looks == count:
                return
            time.sleep(interval)
    with Live(console=stdout(), auto_refresh=False, transient=False) as live:
        known: Json | None = None
        while True:
            problem = ""
            try:
                known = source.report(_since(since), 0)["report"]
            except StranglerError as error:
                if known is None:
                    raise
                problem = error.message
            live.update(_picture(known, problem), refresh=True)
            looks += 1
            if looks == count:
                return
            time.sleep(interval)


def _picture(document: Json, problem: str) -> Any:
    from rich.console import Group
    from rich.text import Text

    from strangler_proxy.cli.shadow_report_text import ReportText

    head = Text(f"{time.strftime('%H:%M:%S')} {problem}: what was known last:", style="bold red") if problem else None
    return Group(*([] if head is None else [head]), ReportText(document, strata=12, differences=5))


app.add_typer(shadow_rule.app, name="rule")
app.command("replay")(shadow_replay.replay)
app.command("export")(shadow_transfer.export)
app.command("import")(shadow_transfer.import_)
