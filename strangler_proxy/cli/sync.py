"""`strangler sync start | status | pause | resume | preflight | verify | repair | rehearse | stop`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from strangler_proxy.cli import sync_census, sync_ddl, sync_manifest, sync_pause
from strangler_proxy.cli.options import FlagArgument, ReasonOption
from strangler_proxy.cli.output import Format, OutputOption, duration, grid, pairs, say, say_next, show
from strangler_proxy.cli.sync_asking import asked
from strangler_proxy.cli.tables import operations_table, stream_words

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True, help="Keep a flag's rows in step, verify them, rehearse.", pretty_exceptions_enable=False
)

sync_manifest.app.command("ddl")(sync_ddl.manifest_ddl)
app.add_typer(sync_manifest.app, name="manifest")

WaitForWorker = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the worker, a start until the copy is live and verified.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait.")]


@app.command()
def start(
    flag: FlagArgument,
    replace: Annotated[bool, typer.Option("--replace", help="Rows that a first copy finds in the target go.")] = False,
    reason: ReasonOption = "",
    wait: WaitForWorker = True,
    timeout: Timeout = 300.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Start to copy a flag's rows to the side that is not their owner, and keep them in step from then on.

    Example: strangler sync start CAPABILITY
    """
    _switch(flag, {"running": True, "reason": reason, "replace": replace}, wait=wait, timeout=timeout)


@app.command()
def stop(
    flag: FlagArgument,
    confirm: Annotated[str, typer.Option("--confirm", help="The flag's key again, where copies are in use.")] = "",
    reason: ReasonOption = "",
    wait: WaitForWorker = True,
    timeout: Timeout = 60.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Stop the stream of a flag. The rows that were copied stay.

    Example: strangler sync stop CAPABILITY
    """
    _switch(flag, {"running": False, "reason": reason, "confirm": confirm}, wait=wait, timeout=timeout)


@app.command()
def status(
    flag: FlagArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """How far the copy is: mode, lag, rows done, stuck keys, last verification.

    Example: strangler sync status CAPABILITY --watch
    """
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        while True:
            document = control.get(f"/v1/flags/{named('flag', flag)}/sync")
            show(document, *_tables(document))
            if not watch:
                break
            time.sleep(1.0)
    stream = document["stream"]
    if stream is None:
        say(f'flag "{flag}" owns no data: there is nothing to keep in step')
    elif not stream["wanted"]:
        say_next(f"strangler sync start {flag}")
    elif stream["paused"] is not None:
        sync_pause.say_large_queue(flag, stream)
        say_next(f"strangler sync resume {flag}")


@app.command()
def verify(
    flag: FlagArgument,
    reason: ReasonOption = "",
    wait: WaitForWorker = True,
    timeout: Timeout = 600.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Compare every row of both sides, from now on, while both go on; 1 where something differs.

    Example: strangler sync verify CAPABILITY
    """
    _ask(flag, "verify", {"reason": reason}, wait=wait, timeout=timeout)


@app.command()
def repair(
    flag: FlagArgument,
    reason: ReasonOption = "",
    wait: WaitForWorker = True,
    timeout: Timeout = 600.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Verify again and again until nothing differs: what does is carried over from the owner once more.

    Example: strangler sync repair CAPABILITY
    """
    _ask(flag, "verify", {"reason": reason, "repair": True}, wait=wait, timeout=timeout)


@app.command()
def rehearse(
    flag: FlagArgument,
    reason: ReasonOption = "",
    wait: WaitForWorker = True,
    timeout: Timeout = 60.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Do everything of a cutover up to its decision, then go back: requests are held, and you see for how long.

    Example: strangler sync rehearse CAPABILITY
    """
    _ask(flag, "rehearse", {"reason": reason}, wait=wait, timeout=timeout)


@app.command("promote-copy")
def promote_copy(
    flag: FlagArgument,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="What the owner had not handed on may be missing.")
    ] = False,
    confirm: Annotated[str, typer.Option("--confirm", help="The flag's key again.")] = "",
    reason: ReasonOption = "",
    wait: WaitForWorker = True,
    timeout: Timeout = 120.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """For the day the owner's database is gone: make the copy the owner, as it is. Refused while the owner answers.

    Example: strangler sync promote-copy CAPABILITY --accept-loss --confirm CAPABILITY
    """
    body = {"reason": reason, "accept_loss": accept_loss, "confirm": confirm}
    _ask(flag, "promote", body, wait=wait, timeout=timeout)


for _verb in (sync_pause.pause, sync_pause.resume, sync_pause.preflight, sync_census.census):
    app.command()(_verb)


def _ask(flag: str, verb: str, body: Json, *, wait: bool, timeout: float) -> None:
    operation = asked(flag, verb, body, wait=wait, timeout=timeout)
    say_next(f"strangler flag show {flag}" if wait else f"strangler operation show {operation['id']}")


def _switch(flag: str, body: Json, *, wait: bool, timeout: float) -> None:
    from strangler_proxy.cli.client import Control, named
    from strangler_proxy.cli.follow import follow, until_ready

    with Control() as control:
        document = control.post(f"/v1/flags/{named('flag', flag)}/sync", body)
        operation = document["operation"]
        if operation is not None and wait:
            say(f"{operation['kind']} of {flag}: operation {operation['id']}")
            try:
                document["operation"] = operation = follow(control, operation, timeout_s=timeout)
            except KeyboardInterrupt:
                say(f"detached: operation {operation['id']} goes on")
                say_next(f"strangler sync status {flag} --watch")
                raise
        if body["running"] and wait:
            try:
                document["stream"] = until_ready(control, flag, timeout_s=timeout)["stream"]
            except KeyboardInterrupt:
                say("detached: the stream goes on")
                say_next(f"strangler sync status {flag} --watch")
                raise
    verb = "started" if body["running"] else "stopped"
    ready = "stream" in document
    says = (
        f"the stream is {verb} already" if operation is None else f"operation {operation['id']}: {operation['status']}"
    )
    show(document, pairs(("flag", flag), ("stream", says), ("copy", "live and verified" if ready else "")))
    say_next(f"strangler flag show {flag}" if ready else f"strangler sync status {flag}")


def _tables(document: Json) -> list[Any]:
    stream = document["stream"]
    if stream is None:
        return [pairs(("flag", document["flag"]), ("stream", "owns no data"))]
    published: Json = stream["published"] or {}
    eta = published.get("eta_seconds")
    verified = published.get("verified_at")
    head = pairs(
        ("flag", f"{document['flag']} (stage {document['stage']}, owner {document['owner']})"),
        ("stream", Text.from_markup(stream_words(document)).plain),
        ("direction", f"{published['source']} -> {published.get('target', '?')}" if published.get("source") else ""),
        ("rows", _progress(published)),
        ("ready in", duration(eta) if isinstance(eta, int | float) and eta > 0 else ""),
        ("dirty keys", _dirty(published)),
        ("stuck keys", str(stream["stuck"])),
        ("verified", _verified(published) if verified else "never"),
        ("replicated through", str(published.get("replicated_through") or "")),
        ("worker", str(published.get("worker") or "")),
        ("error", stream["error"]),
    )
    parts: list[Any] = [head]
    if published.get("tables"):
        parts += ["", _tables_of_rows(published["tables"])]
    if document["operations"]:
        parts += ["", operations_table(document["operations"])]
    return parts


def _tables_of_rows(tables: list[Json]) -> Any:
    table = grid("TABLE", "ROWS", "ESTIMATED", "SNAPSHOT")
    for each in tables:
        done = "done" if each.get("done") else "going on"
        table.add_row(
            escape(str(each.get("table"))), str(each.get("rows_done", "")), str(each.get("rows_estimated", "")), done
        )
    return table


def _progress(published: Json) -> str:
    if "rows_done" not in published:
        return ""
    return f"{published['rows_done']} of about {published.get('rows_estimated', '?')}"


def _dirty(published: Json) -> str:
    if "dirty_keys" not in published:
        return ""
    return f"{published['dirty_keys']}, the oldest {published.get('oldest_key_seconds') or 0:.1f} s old"


def _verified(published: Json) -> str:
    verdict = "equal" if published.get("verified") else f"{published.get('mismatches', '?')} rows differ"
    return f"{published['verified_at']}: {verdict}"
