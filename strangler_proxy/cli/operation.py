"""`strangler operation list | show | withdraw`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.options import LimitOption, ReasonOption
from strangler_proxy.cli.output import Format, OutputOption, grid, pairs, say_next, show
from strangler_proxy.cli.tables import operations_table

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, help="What workers do: list, show, withdraw.", pretty_exceptions_enable=False)

NumberArgument = Annotated[int, typer.Argument(help="The operation's number.", min=1)]


@app.command("list")
def list_operations(
    flag: Annotated[
        str | None, typer.Option("--flag", help="Operations of one flag only.", autocompletion=flag_names)
    ] = None,
    limit: LimitOption = 20,
    output: OutputOption = Format.TABLE,
) -> None:
    """Operations, newest first: what was asked of workers, and how it ended.

    Example: strangler operation list
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get("/v1/operations", flag=flag, limit=limit)
    show(document, operations_table(document["operations"]))


@app.command("show")
def show_operation(number: NumberArgument, output: OutputOption = Format.TABLE) -> None:
    """One operation with all its steps.

    Example: strangler operation show 12
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get(f"/v1/operations/{number}")
    one: Json = document["operation"]
    show(document, _facts(one), "", _steps(one["steps"]))
    if one["status"] == "queued":
        say_next(f"strangler operation withdraw {number}")


@app.command()
def withdraw(number: NumberArgument, reason: ReasonOption = "", output: OutputOption = Format.TABLE) -> None:
    """Take back an operation that no worker has taken; one that runs ends by itself.

    Example: strangler operation withdraw 12
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.post(f"/v1/operations/{number}/withdraw", {"reason": reason})
    one: Json = document["operation"]
    show(document, _facts(one))
    say_next(f"strangler flag show {one['flag']}")


def _facts(one: Json) -> Any:
    said = " ".join(f"{name}={value}" for name, value in one["args"].items())
    return pairs(
        ("operation", f"{one['id']} ({one['kind']} of {one['flag']})"),
        ("status", one["status"]),
        ("detail", one["detail"]),
        ("asked", f"{one['requested_at']} by {one['by'] or 'unknown'}"),
        ("ended", one["finished_at"] or ""),
        ("with", said),
        ("reason", one["reason"]),
    )


def _steps(steps: list[Json]) -> Any:
    table = grid("AT", "STEP", "DETAIL")
    for step in steps:
        table.add_row(str(step.get("at", "")), escape(str(step.get("name", ""))), escape(str(step.get("detail", ""))))
    return table
