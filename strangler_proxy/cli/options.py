"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from strangler_proxy.cli.live_names import flag_names

FlagArgument = Annotated[str, typer.Argument(metavar="FLAG", help="The flag's key.", autocompletion=flag_names)]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit entry.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
IfRevisionOption = Annotated[
    int | None,
    typer.Option("--if-revision", min=0, help="Only if the table is still at this revision, else exit code 4."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until every live proxy has taken it, and a cutover is over.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0.1, max=300, help="Seconds to wait (else STRANGLER_ACKNOWLEDGE_TIMEOUT_S; a cutover: 60)."
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most, newest first.")]
EvidenceOption = Annotated[
    str | None,
    typer.Option("--evidence", metavar="FILE", help="Evidence in a file (of a proxy without a control database)."),
]
