"""`strangler flag list | show | history`."""

from __future__ import annotations

import typer
from rich.text import Text

from strangler_proxy.cli.options import FlagArgument, LimitOption
from strangler_proxy.cli.output import Format, OutputOption, ago, pairs, say_next, show
from strangler_proxy.cli.tables import (
    entries_table,
    flags_table,
    mirroring_words,
    operations_table,
    served,
    staged,
    stream_words,
)

app = typer.Typer(no_args_is_help=True, help="Flags: list, show, history.", pretty_exceptions_enable=False)


@app.command("list")
def list_flags(output: OutputOption = Format.TABLE) -> None:
    """All flags.

    Example: strangler flag list --output json
    """
    from strangler_proxy.cli.client import Control

    with Control() as control:
        document = control.get("/v1/flags")
    show(document, flags_table(document["flags"]))
    if not document["flags"]:
        say_next("strangler apply")


@app.command("show")
def show_flag(flag: FlagArgument, output: OutputOption = Format.TABLE) -> None:
    """One flag: stage, owner, lists, stream, routes, operations.

    Example: strangler flag show CAPABILITY
    """
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        document = control.get(f"/v1/flags/{named('flag', flag)}")
    one = document["flag"]
    safe, unsafe = served(one)
    taken = document["acknowledged"]
    hold = one["hold"]
    table = pairs(
        ("flag", one["key"]),
        ("stage", staged(one)),
        ("safe requests", safe),
        ("unsafe requests", unsafe),
        ("owner", f"{one['owner']} (epoch {one['owner_epoch']})" if one["owns_data"] else "owns no data"),
        ("held", f"by cutover {hold['cutover_id']} until {hold['deadline_at']}" if hold else ""),
        ("since", f"{ago(one['changed_at'])} ({one['changed_at']})"),
        ("by", one["changed_by"]),
        ("why", one["reason"]),
        ("revision", f"{document['revision']}, acknowledged by {taken['by']} of {taken['of']} live proxies"),
        ("stream", stream_words(one)),
        ("mirroring", Text.from_markup(mirroring_words(one)).plain),
        ("salt", one["salt"]),
        ("allow", ", ".join(one["allow"])),
        ("deny", ", ".join(one["deny"])),
        ("fallback_safe", "yes" if one["fallback_safe"] else "no"),
        ("routes", ", ".join(route["name"] for route in document["routes"])),
    )
    show(document, table, *([operations_table(one["operations"])] if one["operations"] else []))
    say_next(*one["next"])


@app.command()
def history(flag: FlagArgument, limit: LimitOption = 20, output: OutputOption = Format.TABLE) -> None:
    """Who changed a flag, when, why, from what to what; newest first.

    Example: strangler flag history CAPABILITY --limit 5
    """
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        document = control.get(f"/v1/flags/{named('flag', flag)}/history", limit=limit)
    show(document, entries_table(document["entries"]))
