"""`strangler flip`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from strangler_proxy.cli.live_names import stage_names
from strangler_proxy.cli.options import (
    DryRunOption,
    FlagArgument,
    IfRevisionOption,
    ReasonOption,
    TimeoutOption,
    WaitOption,
)
from strangler_proxy.cli.output import Format, OutputOption, pairs, say, say_next, show
from strangler_proxy.cli.tables import served, staged
from strangler_proxy.core.errors import BadWeight

Json = dict[str, Any]

WAY_BACK_S = 20.0


def flip(
    flag: FlagArgument,
    stage: Annotated[str, typer.Argument(help="monolith, shadow, canary or extracted.", autocompletion=stage_names)],
    weight: Annotated[
        str | None, typer.Option("--weight", "-w", help="At canary: how much extracted serves, as 25% or 0..10000.")
    ] = None,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    if_revision: IfRevisionOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Change a flag's stage or weight. Forward one stage at a time, back to any earlier one.

    A flip that moves the writer is a cutover: workers do it, and this command follows their steps; Ctrl-C detaches.

    Example: strangler flip CAPABILITY canary --weight 25% --reason "first quarter"
    """
    from strangler_proxy.cli.client import Control, named

    body: Json = {"stage": stage, "weight": _weight(weight, flag), "reason": reason, "dry_run": dry_run}
    body["if_revision"] = if_revision
    with Control() as control:
        body["wait_s"] = (timeout or control.settings.acknowledge_timeout_s) if wait and not dry_run else 0.0
        document = _flip(control, named("flag", flag), body)
        followed = document["operation"] is not None and wait
        if followed:
            document = _cutover(control, document, timeout)
        show(document, _words(document))
        _close(document, waited=wait)
        if followed:
            _await_way_back(control, document["flag"])
    if document["operation"] is not None and not wait:
        say_next("strangler watch")
    elif dry_run and document["before"] != document["after"]:
        say_next(_command(document))
    else:
        say_next(*document["next"])


def _close(document: Json, *, waited: bool) -> None:
    """Say what became of it. Raises NotAcknowledged."""
    if not document["changed"]:
        if not document["dry_run"]:
            say(f'flag "{document["flag"]}" is at {staged(document["after"])} already: nothing was changed')
        return
    if document["operation"] is not None and not waited:
        say(f"operation {document['operation']['id']} was asked for; a worker does it")
        return
    from strangler_proxy.cli.acknowledged import settle

    settle(document["acknowledged"], document["revision"])


def _flip(control: Any, flag: str, body: Json) -> Json:
    try:
        found: Json = control.post(f"/v1/flags/{flag}/flip", body, wait_s=body["wait_s"])
    except KeyboardInterrupt:
        say("detached: the flip may stand")
        say_next(f"strangler flag show {flag}")
        raise
    return found


def _cutover(control: Any, document: Json, timeout: float | None) -> Json:
    """Follow the operation, then ask who has taken what it released."""
    from strangler_proxy.cli.follow import FOLLOW_TIMEOUT_S, follow

    key, operation = document["flag"], document["operation"]
    say(f"cutover of {key} to {operation['args']['to']}: operation {operation['id']}")
    try:
        done = follow(control, operation, timeout_s=timeout or FOLLOW_TIMEOUT_S)
        found = control.get(f"/v1/flags/{key}")
        seconds = timeout or control.settings.acknowledge_timeout_s
        taken = control.acknowledgement(found["revision"], wait_s=seconds)
    except KeyboardInterrupt:
        say(f"detached: operation {operation['id']} goes on")
        say_next("strangler watch")
        raise
    return document | {
        "after": found["flag"],
        "operation": done,
        "revision": found["revision"],
        "acknowledged": taken,
        "next": found["flag"]["next"],
    }


def _await_way_back(control: Any, key: str) -> None:
    """Rows have to flow the other way before the writer can go back: wait for that a while, and say so."""
    from strangler_proxy.cli.follow import NotFinished, until_ready

    try:
        until_ready(control, key, timeout_s=WAY_BACK_S)
        say("rows flow the other way now, verified: the way back is open")
    except NotFinished as error:
        say(error.message)
    except KeyboardInterrupt:
        say("detached: the cutover is done, the way back is not open yet")


def _words(document: Json) -> Any:
    before, after = document["before"], document["after"]
    safe, unsafe = served(after)
    was_safe, was_unsafe = served(before)
    return pairs(
        ("flag", document["flag"] + (" (dry run: nothing is done)" if document["dry_run"] else "")),
        ("stage", _arrow(staged(before), staged(after))),
        ("safe requests", _arrow(was_safe, safe)),
        ("unsafe requests", _arrow(was_unsafe, unsafe)),
        ("owner", _arrow(before["owner"], after["owner"]) if after["owns_data"] else ""),
        ("move", "cutover: the writer moves" if document["move"] == "cutover" else ""),
        ("gates", "\n".join(document["gates"])),
        ("mirroring", _arrow(before["mirroring"], after["mirroring"])),
    )


def _arrow(before: str, after: str) -> str:
    return after if before == after else f"{before} -> {after}"


def _command(document: Json) -> str:
    after = document["after"]
    weight = f" --weight {staged(after).partition(' ')[2]}" if after["stage"] == "canary" else ""
    return f"strangler flip {document['flag']} {after['stage']}{weight}"


def _weight(text: str | None, flag: str) -> int | None:
    if text is None:
        return None
    from strangler_proxy.core.bucketing import parse_weight

    try:
        return parse_weight(text)
    except ValueError as error:
        raise BadWeight(str(error), next_command=f"strangler flip {flag} canary --weight 5%") from None
