"""`strangler sync pause | resume | preflight`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from strangler_proxy.cli.options import FlagArgument, ReasonOption
from strangler_proxy.cli.output import Format, OutputOption, ago, pairs, say, say_next, show
from strangler_proxy.cli.sync_asking import asked
from strangler_proxy.core.errors import NotAcknowledged

Json = dict[str, Any]

LARGE_QUEUE = 50_000
"""Keys that wait of a paused stream, from which on people are told."""

_LOOK_S = 0.1

PauseWait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the worker has stopped carrying rows over.")
]
WorkerWait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the worker.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait.")]


class NotPausedYet(NotAcknowledged):
    """The pause stands, and no worker has taken it in time."""


def pause(
    flag: FlagArgument,
    reason: ReasonOption = "",
    wait: PauseWait = True,
    timeout: Timeout = 30.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Carry nothing over until `resume`: changes are noted on, so nothing is lost, and the copy grows old.

    Example: strangler sync pause CAPABILITY --reason "a migration of the target"
    """
    from strangler_proxy.cli.client import Control, named

    with Control() as control:
        document = control.post(f"/v1/flags/{named('flag', flag)}/sync/pause", {"reason": reason})
        if wait:
            document["stream"] = _until_paused(control, flag, timeout)
    show(document, pairs(("flag", flag), ("stream", paused_words(document["paused"]))))
    say_next(f"strangler sync resume {flag}")


def resume(
    flag: FlagArgument,
    reason: ReasonOption = "",
    wait: WorkerWait = True,
    timeout: Timeout = 60.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Go on after a pause: capture and fence are looked at and mended, then rows are carried over and verified anew.

    Example: strangler sync resume CAPABILITY
    """
    operation = asked(flag, "resume", {"reason": reason}, wait=wait, timeout=timeout)
    say_next(f"strangler sync status {flag} --watch" if wait else f"strangler operation show {operation['id']}")


def preflight(
    flag: FlagArgument,
    reason: ReasonOption = "",
    wait: WorkerWait = True,
    timeout: Timeout = 60.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Everything that would refuse a cutover now, all at once; nobody is held, nothing is changed.

    Example: strangler sync preflight CAPABILITY
    """
    operation = asked(flag, "preflight", {"reason": reason}, wait=wait, timeout=timeout)
    say_next(f"strangler sync rehearse {flag}" if wait else f"strangler operation show {operation['id']}")


def paused_words(paused: Json) -> str:
    """Since when, by whom, why."""
    why = f": {paused['reason']}" if paused["reason"] else ""
    return f"paused, since {ago(paused['since'])} by {paused['by'] or 'unknown'}{why}"


def say_large_queue(flag: str, stream: Json) -> None:
    """A hint where much waits for a stream that is paused."""
    waiting = (stream["published"] or {}).get("dirty_keys") or 0
    if stream["paused"] is not None and waiting >= LARGE_QUEUE:
        say(
            f'{waiting} or more changes of "{flag}" wait while its stream is paused: resume it, or end it by'
            f" `strangler sync stop {flag}`"
        )


def _until_paused(control: Any, flag: str, timeout_s: float) -> Json:
    """The stream once its worker says that it is paused. Raises NotPausedYet."""
    deadline = time.monotonic() + timeout_s
    while True:
        stream: Json = control.get(f"/v1/flags/{flag}/sync")["stream"]
        if stream["mode"] == "paused" or stream["paused"] is None:
            return stream
        if time.monotonic() >= deadline:
            raise NotPausedYet(
                f'the pause of "{flag}" stands, but no worker has taken it after {timeout_s:g} s'
                " (is `strangler worker` running?)",
                next_command=f"strangler sync status {flag} --watch",
            )
        time.sleep(_LOOK_S)
