"""`strangler why`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from strangler_proxy.cli.output import Format, OutputOption, grid, pairs, say, show

Json = dict[str, Any]


def why(
    method: Annotated[str, typer.Argument(help="The request's method.")],
    url: Annotated[str, typer.Argument(help="Its URL, or a path.")],
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", help="Targeting key: visitor id, else the token's subject, else the address."),
    ] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header, NAME: VALUE.")] = None,
    override: Annotated[
        str | None, typer.Option("--override", help="Suppose a trusted override to monolith or extracted.")
    ] = None,
    killed: Annotated[bool, typer.Option("--killed", help="Suppose the kill switch is on.")] = False,
    own_write: Annotated[bool, typer.Option("--own-write", help="Suppose this user wrote a moment ago.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Where a request would go, by the decision that proxies use, and what each step of the precedence saw.

    Example: strangler why GET http://localhost:8000/api/things/7 --user 42
    """
    from strangler_proxy.cli.client import Control

    if override not in (None, "monolith", "extracted"):
        raise typer.BadParameter(f'"{override}" is neither monolith nor extracted', param_hint="--override")
    body = {
        "method": method,
        "url": url,
        "user": user,
        "headers": dict(_header(text) for text in header or ()),
        "override": override,
        "killed": killed,
        "own_write": own_write,
    }
    with Control() as control:
        document = control.ask("/v1/why", body)
    show(document, *_tables(document))
    if user is None and any(step["decided"] and step["name"] == "bucket" for step in document["considerations"]):
        say("no --user was given: this is the answer for somebody whom the weight leaves out")


def _tables(document: Json) -> list[Any]:
    route, flag = document["route"], document["flag"]
    if document["refused"] and route is None:
        return [pairs(("answer", f"{document['refused_status']} by the proxy itself: {document['refused']}"))]
    goes = f"{document['serve'] or 'default'}: cluster {document['cluster']} ({', '.join(document['endpoints'])})"
    if document["refused"]:
        goes = f"503 by the proxy itself: {document['refused']}"
    elif document["hold"]:
        goes += ", once the cutover is over: it is held until then"
    head = pairs(
        ("goes to", goes),
        ("because", document["reason"]),
        ("route", f"{route['name']} ({route['path']})" if route else "none matches"),
        ("flag", f"{flag['key']} (stage {flag['stage']})" if flag else ""),
        ("access", f"{route['access']}" if route and route["access"] != "public" else ""),
        ("revision", str(document["revision"])),
    )
    if not document["considerations"]:
        return [head]
    steps = grid("", "STEP", "APPLIES", "SAW")
    for step in document["considerations"]:
        mark = "[bold green]=>[/]" if step["decided"] else ""
        steps.add_row(mark, step["name"], "yes" if step["applies"] else "no", escape(step["says"]))
    return [head, "", steps]


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition(":")
    if not found or not name.strip():
        raise typer.BadParameter(f'"{text}" is not NAME: VALUE', param_hint="--header")
    return name.strip(), value.strip()
