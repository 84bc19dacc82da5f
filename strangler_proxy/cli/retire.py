"""`strangler retire`: the last stage, dropping the old tables, and the way back until then."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from strangler_proxy.cli.options import DryRunOption, FlagArgument, ReasonOption
from strangler_proxy.cli.output import Format, OutputOption, pairs, say, say_next, show
from strangler_proxy.core.errors import GateRefused, StranglerError

Json = dict[str, Any]

_CONDITIONS = {"met": True, "not met": False}


def retire(
    flag: FlagArgument,
    confirm: Annotated[str, typer.Option("--confirm", help="The flag's key again.")] = "",
    dry_run: DryRunOption = False,
    after_days: Annotated[
        float | None,
        typer.Option("--after-days", min=0, max=3650, help="How long extracted must have owned; else the manifest's."),
    ] = None,
    without_census: Annotated[
        bool, typer.Option("--without-census", help="Nobody counted who reads the old tables; go on all the same.")
    ] = False,
    dump_dir: Annotated[
        str, typer.Option("--dump-dir", help="Folder on the worker's host; default var/retired/FLAG.")
    ] = "",
    migration_dir: Annotated[
        Path | None, typer.Option("--migration-dir", help="Write the Django migration of the old models here.")
    ] = None,
    django: Annotated[str, typer.Option("--django", help="Settings module of the monolith, for the migration.")] = "",
    python: Annotated[Path, typer.Option("--python", help="The monolith's interpreter, with its packages.")] = Path(
        sys.executable
    ),
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="The models stay, unmanaged, instead of going from the state.")
    ] = False,
    drop_tables: Annotated[
        bool, typer.Option("--drop-tables", help="Of a retired flag: drop the old tables. Only the dump is left then.")
    ] = False,
    accept_touches: Annotated[
        bool, typer.Option("--accept-touches", help="Who read the old tables since then may fail from now on.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Back to extracted, with the old tables under their names.")
    ] = False,
    reason: ReasonOption = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the worker's steps.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=86_400, help="Seconds to wait.")] = 3600.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """End the way back to the monolith: dump its old tables, set them aside, leave a read-only view in their place.

    Look first with --dry-run. It can be undone until --drop-tables; a command that was interrupted is run again.

    Example: strangler retire CAPABILITY --confirm CAPABILITY
    """
    action = _action(flag, drop_tables=drop_tables, undo=undo, dry_run=dry_run)
    body: Json = {
        "action": action,
        "confirm": confirm,
        "dry_run": dry_run,
        "after_days": after_days,
        "without_census": without_census,
        "accept_touches": accept_touches,
        "dump_dir": dump_dir,
        "reason": reason,
    }
    document = _ask(flag, body, wait=wait, timeout=timeout)
    unwritten = None
    if migration_dir is not None and action == "retire" and not dry_run:
        unwritten = _migrations(document, migration_dir, django, python, keep_models=keep_models)
    show(document, _words(document))
    for written in document.get("migrations", ()):
        say(f"wrote {written}: read it, and delete or change the models with it")
    if unwritten is not None:
        say("the migration was not written; the rest is done, and the same command writes the migration alone")
        raise unwritten
    say_next(*_next(flag, action, document, wait=wait, dry_run=dry_run))


def _action(flag: str, *, drop_tables: bool, undo: bool, dry_run: bool) -> str:
    if drop_tables and undo:
        raise GateRefused("--drop-tables and --undo are opposites", next_command=f"strangler retire {flag} --dry-run")
    if undo and dry_run:
        raise GateRefused("--undo has no dry run", next_command=f"strangler retire {flag} --undo --confirm {flag}")
    return "drop" if drop_tables else "undo" if undo else "retire"


def _ask(flag: str, body: Json, *, wait: bool, timeout: float) -> Json:
    """Ask, and follow what a worker does. Raises GateRefused after the conditions were shown."""
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        document: Json = control.post(f"/v1/flags/{named('flag', flag)}/retire", body)
        if not wait:
            return document
        if document["operation"] is not None:
            _follow(control, document, body, timeout)
        elif document["revision"] is not None:
            _acknowledged(control, document["revision"], document)
        if document["operation"] is not None and not body["dry_run"] and body["action"] != "drop":
            _acknowledged(control, control.get(f"/v1/flags/{flag}")["revision"], document)
    return document


def _follow(control: Any, document: Json, body: Json, timeout: float) -> None:
    """Put the operation's end into the document. Raises GateRefused, OperationFailed (run it again), NotFinished."""
    from strangler_proxy.cli.follow import OperationFailed, follow

    flag, operation = document["flag"], document["operation"]
    say(f"{operation['kind']} of {flag}: operation {operation['id']}")
    try:
        document["operation"] = follow(control, operation, timeout_s=timeout)
    except KeyboardInterrupt:
        say(f"detached: operation {operation['id']} goes on")
        say_next(f"strangler operation show {operation['id']}")
        raise
    except GateRefused as error:
        document["operation"] = control.get(f"/v1/operations/{operation['id']}", flag=flag)["operation"]
        _sort(document)
        show(document, _words(document))
        raise GateRefused(error.message, next_command=_first_command(flag, document)) from error
    except OperationFailed as error:
        again = {"drop": "--drop-tables ", "undo": "--undo "}.get(body["action"], "")
        command = f"strangler retire {flag} {again}--confirm {flag}"
        raise OperationFailed(error.message, next_command=command) from error
    _sort(document)


def _acknowledged(control: Any, revision: int, document: Json) -> None:
    from strangler_proxy.cli.acknowledged import settle

    found = control.acknowledgement(revision, wait_s=control.settings.acknowledge_timeout_s)
    document["acknowledged"], document["revision"] = found, revision
    settle(found, revision)


def _sort(document: Json) -> None:
    """Conditions and plan out of the worker's steps, for programs."""
    steps = document["operation"]["steps"]
    found = [{"met": _CONDITIONS[s["name"]], "says": s["detail"]} for s in steps if s["name"] in _CONDITIONS]
    if found:
        document["conditions"] = found
    document["would"] = [step["detail"] for step in steps if step["name"] == "would"]
    document["dump"] = next((step["detail"] for step in steps if step["name"] == "dump folder"), None)


def _first_command(flag: str, document: Json) -> str:
    missing = [each["says"] for each in document["conditions"] if not each["met"]]
    commands = [says.rpartition("(next: ")[2].rstrip(")") for says in missing if "(next: strangler" in says]
    return commands[0] if commands else f"strangler status {flag}"


def _words(document: Json) -> Any:
    operation = document["operation"]
    missing = sum(not each["met"] for each in document["conditions"])
    known = len(document["conditions"])
    return pairs(
        ("flag", document["flag"] + (" (dry run: nothing is done)" if document["dry_run"] else "")),
        ("conditions", f"{known - missing} of {known} are met" if known else ""),
        ("operation", "" if operation is None else f"{operation['id']}: {operation['status']}"),
        ("result", "" if operation is None else operation["detail"].partition("\n")[0]),
        (
            "left to do",
            "" if operation is None else "\n".join(operation["detail"].split("\n")[1:]) if not missing else "",
        ),
        ("dump", document.get("dump") or ""),
    )


def _next(flag: str, action: str, document: Json, *, wait: bool, dry_run: bool) -> list[str]:
    operation = document["operation"]
    if operation is not None and not wait:
        return [f"strangler operation show {operation['id']}"]
    if action == "drop":
        return [f"strangler retire {flag} --drop-tables --confirm {flag}" if dry_run else f"strangler status {flag}"]
    if action == "undo":
        return [f"strangler sync start {flag}" if operation is not None else f"strangler status {flag}"]
    if dry_run:
        return [f"strangler retire {flag} --confirm {flag}"]
    return [f"strangler retire {flag} --drop-tables --dry-run", f"strangler retire {flag} --undo --confirm {flag}"]


def _migrations(
    document: Json, folder: Path, settings: str, python: Path, *, keep_models: bool
) -> StranglerError | None:
    """Write them, and say in the document which; the error where they could not be written."""
    from strangler_proxy.cli.retire_migration import write_migrations

    try:
        written = write_migrations(document["flag"], folder, settings, python, keep_models=keep_models)
    except StranglerError as error:
        return error
    document["migrations"] = [str(each) for each in written]
    return None
