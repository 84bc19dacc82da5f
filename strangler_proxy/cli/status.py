"""`strangler status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.output import Format, OutputOption, say, say_next, show
from strangler_proxy.cli.tables import flags_table, operations_table, proxies_table, retired_table, sick_words


def status(
    flag: Annotated[
        str | None, typer.Argument(metavar="[FLAG]", help="One flag only.", autocompletion=flag_names)
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """What serves what, who owns the data, since when, by whom and why; which proxies have taken it.

    Example: strangler status --output json
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get("/v1/status", flag=flag)
    show(document, *tables_of(document))
    warn(document)


def tables_of(document: dict[str, Any]) -> list[Any]:
    """What people see of a status document."""
    tables: list[Any] = [f"revision {document['revision']}, default cluster {document['default_cluster'] or '-'}", ""]
    tables.append(flags_table(document["flags"], document["acknowledged"]))
    if (retired := retired_table(document["flags"])) is not None:
        tables += ["", retired]
    if document["proxies"]:
        tables += ["", proxies_table(document["proxies"], document["revision"])]
    if operations := [each for flag in document["flags"] for each in flag["operations"]]:
        tables += ["", operations_table(operations)]
    return tables


def warn(document: dict[str, Any]) -> None:
    """What a person should not overlook."""
    if not document["flags"]:
        say("nothing was applied yet: everything goes to the default cluster")
        say_next("strangler apply")
        return
    taken, live = document["acknowledged"]["by"], document["acknowledged"]["of"]
    if live == 0:
        say("no proxy is live: start one with `strangler serve`, or look at `strangler ps`")
    elif taken < live:
        say(f"revision {document['revision']} is acknowledged by {taken} of {live} live proxies")
    for proxy in document["proxies"]:
        if proxy["live"] and (sick := sick_words(proxy)):
            say(f"proxy {proxy['proxy_id']} sees sick upstreams: {sick}")
        if proxy["refused_table"]:
            say(f"proxy {proxy['proxy_id']} refused a newer table and serves revision {proxy['revision']}")
