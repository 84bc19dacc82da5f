"""Words about who has taken a change."""

from __future__ import annotations

from typing import Any

from strangler_proxy.cli.output import say
from strangler_proxy.core.errors import NotAcknowledged

Json = dict[str, Any]


def settle(found: Json | None, revision: int) -> None:
    """Say who has acknowledged a revision and after how long. Raises NotAcknowledged with the proxies that have not."""
    if found is None:
        say(f"revision {revision}: not waited for proxies")
        return
    took, missing = f"{found['seconds']:.2f} s", found["missing"]
    if found["problem"]:
        raise NotAcknowledged(
            f"revision {revision} stands, but who has taken it is not known: {found['problem']}",
            next_command="strangler status",
        )
    if missing:
        names = ", ".join(_missing(each) for each in missing)
        raise NotAcknowledged(
            f"revision {revision} stands, but after {took} it is not acknowledged by {names};"
            " the fence keeps such a proxy harmless for writes",
            next_command="strangler status",
        )
    if not found["by"]:
        say(f"revision {revision}: no proxy is live, so none had to acknowledge")
        return
    say(f"revision {revision}: acknowledged by {len(found['by'])} of {len(found['by'])} live proxies in {took}")


def _missing(proxy: Json) -> str:
    refused = f", refused it: {proxy['refused_table']}" if proxy["refused_table"] else ""
    return f"proxy {proxy['proxy_id']} (serves revision {proxy['revision']}{refused})"
