"""`strangler audit list | verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.options import LimitOption
from strangler_proxy.cli.output import Format, OutputOption, pairs, say, show
from strangler_proxy.cli.tables import entries_table
from strangler_proxy.core.errors import StranglerError

app = typer.Typer(
    no_args_is_help=True, help="Who changed what: list, verify the chain.", pretty_exceptions_enable=False
)


class ChainBroken(StranglerError):
    """The audit log was changed behind the toolkit's back."""


@app.command("list")
def list_entries(
    flag: Annotated[
        str | None, typer.Option("--flag", help="Entries of one flag only.", autocompletion=flag_names)
    ] = None,
    limit: LimitOption = 50,
    output: OutputOption = Format.TABLE,
) -> None:
    """Audit entries, newest first.

    Example: strangler audit list --limit 10
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get("/v1/audit", flag=flag, limit=limit)
    show(document, entries_table(document["entries"]))


@app.command()
def verify(output: OutputOption = Format.TABLE) -> None:
    """Check the hash chain from the first entry to the head; exit code 1 where it is broken.

    Example: strangler audit verify
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get("/v1/audit/verify")
    show(
        document, pairs(("entries", str(document["entries"])), ("chain", "intact" if document["intact"] else "broken"))
    )
    if not document["intact"]:
        raise ChainBroken(
            f"the audit chain is broken at entry {document['broken_at']}: {document['problem']}",
            next_command="strangler audit list",
        )
    say(f"{document['entries']} entries, each fits the one before")
