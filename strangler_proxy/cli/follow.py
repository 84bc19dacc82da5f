"""Following an operation that a worker does: its steps as they come, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Container
from typing import Any

from strangler_proxy.cli.client import Control
from strangler_proxy.cli.output import say
from strangler_proxy.core.errors import ControlUnreachable, GateRefused, NotAcknowledged, StranglerError

Json = dict[str, Any]

FOLLOW_TIMEOUT_S = 60.0
_PAUSE_S = 0.1
_IMPATIENT_S = 5.0


class NotFinished(NotAcknowledged):
    """An operation was not over at the time-out; it goes on."""


class OperationFailed(StranglerError):
    """An operation was aborted or failed."""


def follow(control: Control, operation: Json, *, timeout_s: float, untold: Container[str] = ()) -> Json:
    """Say each step of an operation until it is done, but those named in `untold`; its last document.

    Raises GateRefused with every reason, OperationFailed (aborted or failed), NotFinished at the time-out.
    """
    deadline = time.monotonic() + timeout_s
    impatient = time.monotonic() + _IMPATIENT_S
    told, away = 0, False
    while True:
        try:
            operation = control.get(f"/v1/operations/{operation['id']}", flag=operation["flag"])["operation"]
            away = False
        except StranglerError as error:
            if not _passes(error) or time.monotonic() >= deadline:
                raise
            if not away:
                say(f"  {error.message}; the operation does not need it, looking again")
            away = True
            time.sleep(_PAUSE_S)
            continue
        for step in operation["steps"][told:]:
            if step.get("name") not in untold:
                say(f"  {step.get('name', '?'):<12} {step.get('detail', '')}".rstrip())
        told = len(operation["steps"])
        if operation["status"] not in ("queued", "running"):
            return _ended(operation)
        if time.monotonic() >= deadline:
            raise NotFinished(
                f"operation {operation['id']} ({operation['kind']}) is {operation['status']} after {timeout_s:g} s;"
                " it goes on without this command",
                next_command="strangler watch",
            )
        if operation["status"] == "queued" and time.monotonic() >= impatient:
            say("  no worker has taken it yet: is `strangler worker` running?")
            impatient = deadline + 1
        time.sleep(_PAUSE_S)


def until_ready(control: Control, flag: str, *, timeout_s: float) -> Json:
    """Wait until the stream of a flag is fit for everything: live, close behind, verified; its last document.

    Raises NotFinished at the time-out, with what is missing; the stream goes on.
    """
    deadline = time.monotonic() + timeout_s
    told = ""
    while True:
        document = control.get(f"/v1/flags/{flag}/sync")
        stream = document["stream"]
        if not stream["missing"]:
            return document
        words = _progress(stream)
        if words != told:
            say(f"  {words}")
            told = words
        if time.monotonic() >= deadline:
            missing = "; ".join(stream["missing"])
            raise NotFinished(
                f'the stream of "{flag}" is not ready after {timeout_s:g} s, it goes on: {missing}',
                next_command=f"strangler sync status {flag} --watch",
            )
        time.sleep(_PAUSE_S * 2)


def _progress(stream: Json) -> str:
    published: Json = stream["published"] or {}
    if stream["mode"] == "snapshot" and published.get("rows_estimated"):
        share = int(10 * published.get("rows_done", 0) / published["rows_estimated"]) * 10
        return f"snapshot: about {min(share, 100)} % of {published['rows_estimated']} rows"
    return str(stream["missing"][0]).split(", needed")[0] if stream["mode"] != "live" else "live, not verified yet"


def _passes(error: StranglerError) -> bool:
    """Is it an outage that may end while the worker goes on?"""
    return isinstance(error, ControlUnreachable) or getattr(error, "code", "") == "store_unavailable"


def _ended(operation: Json) -> Json:
    status, detail = operation["status"], operation["detail"]
    name = f"{operation['kind']} of {operation['flag']}"
    if status == "refused":
        reasons = "\n".join(f"- {line}" for line in detail.splitlines() if line)
        raise GateRefused(
            f"{name} was refused, nothing was changed:\n{reasons}",
            next_command=f"strangler sync status {operation['flag']}",
        )
    if status in ("aborted", "failed"):
        meaning = "the owner is the same as before" if status == "aborted" else "a worker could not go on"
        raise OperationFailed(
            f"{name} {'was aborted' if status == 'aborted' else 'failed'} ({meaning}): {detail}",
            next_command=f"strangler status {operation['flag']}",
        )
    return operation
