"""What the verbs of `sync` share: ask for an operation, follow it to its end, show what came of it."""

from __future__ import annotations

from typing import Any

from strangler_proxy.cli.output import pairs, say, say_next, show

Json = dict[str, Any]


def asked(flag: str, verb: str, body: Json, *, wait: bool, timeout: float) -> Json:
    """The operation that `verb` of a flag became, at its end with `wait`. Raises what the API and the operation say."""
    from strangler_proxy.cli.client import Control, named
    from strangler_proxy.cli.follow import follow

    with Control() as control:
        document = control.post(f"/v1/flags/{named('flag', flag)}/sync/{verb}", body)
        operation: Json = document["operation"]
        if wait:
            say(f"{verb} of {flag}: operation {operation['id']}")
            try:
                document["operation"] = operation = follow(control, operation, timeout_s=timeout)
            except KeyboardInterrupt:
                say(f"detached: operation {operation['id']} goes on")
                say_next(f"strangler operation show {operation['id']}")
                raise
    result = ("result", operation["detail"])
    show(document, pairs(("flag", flag), ("operation", f"{operation['id']}: {operation['status']}"), result))
    return operation
