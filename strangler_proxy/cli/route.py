"""`strangler route list | show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from strangler_proxy.cli.live_names import route_names
from strangler_proxy.cli.output import Format, OutputOption, grid, pairs, say_next, show

app = typer.Typer(no_args_is_help=True, help="Routes: list, show.", pretty_exceptions_enable=False)


@app.command("list")
def list_routes(
    flag: Annotated[str | None, typer.Option("--flag", help="Routes of one flag only.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """All routes, with their flag, its stage, and the clusters of either side.

    Example: strangler route list --flag CAPABILITY
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get("/v1/routes")
    if flag is not None:
        document["routes"] = [route for route in document["routes"] if route["flag"] == flag]
    table = grid("ROUTE", "FLAG", "STAGE", "METHODS", "HOST", "PATH", "MONOLITH", "EXTRACTED")
    for route in document["routes"]:
        table.add_row(
            escape(route["name"]),
            escape(route["flag"]),
            route["stage"],
            " ".join(route["methods"]) or "any",
            escape(route["host"]) or "any",
            escape(route["path"]),
            escape(route["clusters"]["monolith"]),
            escape(route["clusters"]["extracted"]),
        )
    show(document, table, f"everything else: cluster {document['default_cluster'] or '-'}")
    if not document["routes"]:
        say_next("strangler apply" if flag is None else "strangler flag list")


@app.command("show")
def show_route(
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="The route's name.", autocompletion=route_names)],
    output: OutputOption = Format.TABLE,
) -> None:
    """One route: match, clusters with their addresses, time-outs, access.

    Example: strangler route show ROUTE
    """
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        document = control.get(f"/v1/routes/{named('route', route)}")
    one = document["route"]
    table = pairs(
        ("route", one["name"]),
        ("flag", f"{one['flag']} (stage {one['stage']})"),
        ("methods", " ".join(one["methods"]) or "any"),
        ("host", one["host"] or "any"),
        ("path", one["path"]),
        ("headers", _predicates(one["headers"])),
        ("query", _predicates(one["query"])),
        ("monolith", _cluster(one, "monolith")),
        ("extracted", _cluster(one, "extracted")),
        ("time-outs", ", ".join(f"{name} {value:g}" for name, value in one["timeouts"].items())),
        ("access", one["access"]),
        ("retries", str(one["retries"])),
        ("fallback", "yes" if one["fallback"] else "no"),
    )
    show(document, table)
    say_next(f"strangler flag show {one['flag']}")


def _cluster(route: dict[str, Any], side: str) -> str:
    return f"{route['clusters'][side]}: {', '.join(route['endpoints'][side])}"


def _predicates(predicates: list[list[str | None]]) -> str:
    return ", ".join(f"{name}={value}" if value is not None else f"{name} present" for name, value in predicates)
