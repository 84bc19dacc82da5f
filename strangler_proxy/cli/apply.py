"""`strangler apply`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from strangler_proxy.cli.options import DryRunOption, IfRevisionOption, ReasonOption, TimeoutOption, WaitOption
from strangler_proxy.cli.output import Format, OutputOption, say, say_next, show

Json = dict[str, Any]


def apply(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Capability files, or folders of them (else STRANGLER_PLANS_DIR)."),
    ] = None,
    dry_run: DryRunOption = False,
    reason: ReasonOption = "",
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    if_revision: IfRevisionOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Check capability files and write what they declare to the flag table; the difference is shown.

    Stages and weights are not declared, and stay as they are. A flag that is new starts at monolith.

    Example: strangler apply --dry-run
    """
    from strangler_proxy.cli.client import Control
    from strangler_proxy.plan.plans import load_plans, named_variables, read_files
    from strangler_proxy.settings import ClientSettings, load

    settings = load(ClientSettings)
    sources = read_files(files or [settings.plans_dir])
    environment = {name: os.environ[name] for name in sorted(named_variables(sources)) if name in os.environ}
    load_plans(sources, environment)
    wait_s = (timeout or settings.acknowledge_timeout_s) if wait and not dry_run else 0.0
    body: Json = {
        "files": [{"name": source.name, "text": source.text} for source in sources],
        "environment": environment,
        "reason": reason,
        "dry_run": dry_run,
        "if_revision": if_revision,
        "wait_s": wait_s,
    }
    with Control(settings) as control:
        document = control.post("/v1/apply", body, wait_s=wait_s)
    show(document, *_lines(document))
    _close(document)


def _lines(document: Json) -> list[Any]:
    from rich.text import Text

    colours = {"+": "green", "-": "red", "~": "yellow"}
    return [Text(change["text"], style=colours[change["sign"]]) for change in document["changes"]]


def _close(document: Json) -> None:
    from strangler_proxy.cli.acknowledged import settle

    names, count = ", ".join(document["flags"]), len(document["changes"])
    if document["unmentioned"]:
        say(f"not in these files, left as they are: {', '.join(document['unmentioned'])}")
    if document["dry_run"]:
        say(f"dry run: {count} differences would be applied to revision {document['revision_before']}")
        say_next("strangler apply" if count else "strangler status")
        return
    if not document["changed"]:
        say(f"{names}: as declared already, revision {document['revision']}")
        say_next("strangler status")
        return
    say(f"{names}: {count} differences applied, revision {document['revision_before']} -> {document['revision']}")
    settle(document["acknowledged"], document["revision"])
    say_next("strangler status")
