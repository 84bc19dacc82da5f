"""`strangler watch`: the state of everything, until Ctrl-C."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from strangler_proxy.cli.output import Format, OutputOption, is_json, stdout
from strangler_proxy.cli.tables import flags_table, operations_table, proxies_table
from strangler_proxy.core.errors import ControlUnreachable, StranglerError

Json = dict[str, Any]


def watch(
    interval: Annotated[float, typer.Option("--interval", min=0.2, max=60, help="Seconds between looks.")] = 1.0,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many looks.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Stages, proxies, streams and operations, live. It goes on while the control plane is away, and says so.

    With --output json: one document a line.

    Example: strangler watch --interval 0.5
    """
    from rich.live import Live

    from strangler_proxy.cli.client import Control

    with Control(attempts=1) as control:
        looks = 0
        if is_json():
            while True:
                typer.echo(json.dumps(_look(control)))
                looks += 1
                if looks == count:
                    return
                time.sleep(interval)
        with Live(console=stdout(), auto_refresh=False, transient=False) as live:
            known: Json | None = None
            while True:
                found = _look(control)
                known = found if "error" not in found else known
                live.update(_picture(known, found.get("error")), refresh=True)
                looks += 1
                if looks == count:
                    return
                time.sleep(interval)


def _look(control: Any) -> Json:
    """The status with the latest operations, or `{"error": ...}` while there is no answer."""
    try:
        document: Json = control.get("/v1/status")
        return document | {"operations": control.get("/v1/operations", limit=8)["operations"]}
    except ControlUnreachable as error:
        return {"schema_version": 1, "error": {"message": error.message, "exit_code": error.exit_code}}
    except StranglerError as error:
        if getattr(error, "code", "") != "store_unavailable":
            raise
        return {"schema_version": 1, "error": {"message": error.message, "exit_code": error.exit_code}}


def _picture(document: Json | None, error: Json | None) -> Any:
    from rich.console import Group
    from rich.markup import escape

    now = time.strftime("%H:%M:%S")
    parts: list[Any] = []
    if error is not None:
        parts += [f"[bold red]{now} {escape(error['message'])}[/]", "" if document is None else "what was known last:"]
    if document is None:
        return Group(*parts)
    taken = document["acknowledged"]
    parts.append(f"{now} revision {document['revision']}, acknowledged by {taken['by']} of {taken['of']} live proxies")
    parts += ["", flags_table(document["flags"], taken)]
    if document["proxies"]:
        parts += ["", proxies_table(document["proxies"], document["revision"])]
    if document["operations"]:
        parts += ["", operations_table(document["operations"])]
    return Group(*parts)
