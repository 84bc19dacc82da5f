"""`strangler up | ps | logs | down`: both stacks side by side on this machine, as strangler.toml lists them."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from strangler_proxy.local import remote, shell_file
from strangler_proxy.local.parse import load_project
from strangler_proxy.local.run import UpOptions
from strangler_proxy.local.run import up as run_up
from strangler_proxy.local.state_file import SCHEMA_VERSION, RunRecord, UnitRecord

File = Annotated[Path, typer.Option("--file", "-f", help="strangler.toml, or the folder it is in.")]
Var = Annotated[
    Path | None,
    typer.Option(
        "--var", envvar="STRANGLER_VAR", help="Folder for data, secrets and logs; default: what the file says."
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json.")]

GOOD = {"ready", "done"}
BAD = {"failed", "killed", "left over", "restarting"}


def up(
    file: File = Path(),
    var: Var = None,
    port_offset: Annotated[
        int, typer.Option("--port-offset", envvar="STRANGLER_PORT_OFFSET", help="Add this to every port.")
    ] = 0,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Use free ports, whatever is listed.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background; return when ready.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show what strangler does, not every line.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds that --detach waits.")] = 180.0,
) -> None:
    """Start everything that strangler.toml lists, and keep it running until Ctrl-C.

    Example: strangler up --detach && strangler ps
    """
    options = UpOptions(
        file=file,
        var=var,
        port_offset=port_offset,
        free_ports=free_ports,
        quiet=quiet,
        colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    )
    if not detach:
        run_up(options)
        return
    record = remote.detach(options, timeout_s=timeout)
    _print_table(record)
    folder = load_project(file, var=var).var
    typer.echo(
        f"everything is ready; next: strangler logs --follow, and to end it: strangler down{_var(var)}", err=True
    )
    if (folder / shell_file.NAME).exists():
        typer.echo(f"for this terminal: . {folder / shell_file.NAME}", err=True)


def ps(file: File = Path(), var: Var = None, output: Output = "table") -> None:
    """Show what runs: state, since when, restarts, address, health.

    Example: strangler ps --output json
    """
    if output not in ("table", "json"):
        raise typer.BadParameter(f"{output!r} is not table or json", param_hint="--output")
    record = remote.look(load_project(file, var=var).var)
    if output == "json":
        document = asdict(record)
        rows = {"processes": document.pop("units"), **{name: document.pop(name) for name in ("ports", "databases")}}
        typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **rows, "up": document}))
        return
    _print_table(record)


def logs(
    name: Annotated[str | None, typer.Argument(help="A name that ps shows; without one, everything.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as lines come, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    file: File = Path(),
    var: Var = None,
) -> None:
    """Show what processes wrote.

    Example: strangler logs proxy --follow
    """
    path = remote.log_path(load_project(file, var=var).var, name)
    coming = remote.follow(path) if follow else iter(())
    try:
        for line in itertools.chain(remote.last_lines(path, lines), coming):
            typer.echo(line)
    except KeyboardInterrupt:
        return


def down(
    file: File = Path(),
    var: Var = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait before killing.")] = 90.0,
) -> None:
    """End what `strangler up` runs, also what a killed one left. Data are kept.

    Example: strangler down
    """
    typer.echo(remote.down(load_project(file, var=var).var, timeout_s=timeout), err=True)


def _print_table(record: RunRecord) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "STATE", "SINCE", "PID", "RESTARTS", "ADDRESS", "HEALTH"):
        table.add_column(column, no_wrap=column != "HEALTH")
    for unit in record.units:
        colour = "green" if unit.state in GOOD else "red" if unit.state in BAD else "yellow"
        table.add_row(
            unit.name,
            f"[{colour}]{unit.state}[/]",
            _age(unit),
            str(unit.pid or ""),
            str(unit.restarts) if unit.kind != "step" else "",
            unit.url or " ".join(f":{port}" for port in unit.ports),
            escape(unit.health),
        )
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    told = f": {record.reason.splitlines()[0]}" if record.reason else ""
    typer.echo(f"{record.project} is {record.state} (pid {record.pid}){told}", err=True)


def _age(unit: UnitRecord) -> str:
    seconds = max(0, int(time.time() - unit.since))
    if seconds < 60:
        return f"{seconds}s"
    return (
        f"{seconds // 60}m{seconds % 60:02d}s" if seconds < 3600 else f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    )


def _var(var: Path | None) -> str:
    return f" --var {var}" if var is not None else ""
