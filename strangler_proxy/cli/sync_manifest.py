"""`strangler sync manifest propose`: an ownership manifest from a project's models, for a person to read and mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from strangler_proxy.cli.output import SCHEMA_VERSION, Format, OutputOption, is_json, say, say_next, show
from strangler_proxy.core.errors import StranglerError
from strangler_proxy.plan.proposal import Proposal, propose_for
from strangler_proxy.plan.proposal_text import data_section
from strangler_proxy.plan.schema import ProjectFacts, read_project

LOOK_WITHIN_S = 60.0

app = typer.Typer(
    no_args_is_help=True, help="The manifest of rows that move: propose one.", pretty_exceptions_enable=False
)


class ModelsUnread(StranglerError):
    """The project's models could not be looked at."""


@app.command("propose")
def propose_manifest(
    flag: Annotated[str, typer.Argument(help="The flag that the rows will move with.")],
    django: Annotated[str, typer.Option("--django", help="Settings module of the project.")],
    chosen: Annotated[
        list[str] | None, typer.Option("--app", help="App or app.Model that moves; again for more. Default: the flag.")
    ] = None,
    extracted: Annotated[str, typer.Option("--extracted", help="Name of the new database. Default: the flag.")] = "",
    python: Annotated[Path, typer.Option("--python", help="The project's interpreter, with its packages.")] = Path(
        sys.executable
    ),
    output: OutputOption = Format.TABLE,
) -> None:
    """Propose what moves: tables with their keys, columns and references, and what a person has to decide.

    Example: strangler sync manifest propose payments --django shop.settings --app payments
    """
    proposal = propose_for(project_of(django, python), flag, chosen or [flag], extracted=extracted)
    text = data_section(proposal)
    if is_json():
        findings = [
            {"weight": each.weight.value, "table": each.table, "says": each.says, "where": each.where}
            for each in proposal.findings
        ]
        tables = [table.monolith for table in proposal.manifest.tables]
        head = {"schema_version": SCHEMA_VERSION, "flag": flag}
        show({**head, "data": text, "tables": tables, "findings": findings})
    else:
        typer.echo(text, nl=False)
    say(_summary(proposal))
    say_next(f"strangler apply --dry-run, with this at the end of the capability file of {flag}")


def project_of(settings: str, python: Path) -> ProjectFacts:
    """The models and signals of a Django project. Raises ModelsUnread with what its interpreter said last."""
    command = [str(python), "-m", "strangler_proxy.contrib.django.schema_facts", settings]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_WITHIN_S, env=_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelsUnread(
            f"{python} could not be run: {error}", next_command="strangler sync manifest propose --help"
        ) from error
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
        raise ModelsUnread(
            f"the models of {settings} cannot be looked at:\n" + "\n".join(f"  {line}" for line in last),
            next_command=f"{python} -c 'import django; django.setup()', with DJANGO_SETTINGS_MODULE={settings}",
        )
    try:
        return read_project(json.loads(done.stdout))
    except ValueError as error:
        raise ModelsUnread(f"the models of {settings}: {error}") from error


def _environment() -> dict[str, str]:
    """This toolkit's own package is found by another interpreter too, at the end of its path."""
    here = str(Path(__file__).resolve().parents[2])
    paths = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, here])}


def _summary(proposal: Proposal) -> str:
    counts = Counter(each.weight.value for each in proposal.findings)
    told = ", ".join(f"{counts[weight]} to {weight}" for weight in ("decide", "check", "note") if counts[weight])
    return f"{len(proposal.manifest.tables)} tables move; findings: {told or 'none'}"
