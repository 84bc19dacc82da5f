"""Documents of the control plane as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from strangler_proxy.cli.output import ago, duration, grid
from strangler_proxy.core.bucketing import BUCKETS
from strangler_proxy.core.flip import percent

Json = dict[str, Any]

_COLOURS = {"monolith": "cyan", "shadow": "blue", "canary": "yellow", "extracted": "green", "retired": "magenta"}
_SICK = {"breakers": "breaker", "ejected": "ejected", "unmirrored": "mirror paused to", "unproven": "no writes to"}
"""What a heartbeat says of upstreams, in words."""


def staged(flag: Json) -> str:
    """Stage with weight."""
    return f"canary {percent(flag['weight'])}" if flag["stage"] == "canary" else str(flag["stage"])


def served(flag: Json) -> tuple[str, str]:
    """Who answers safe and unsafe requests, in words."""
    return _serves(flag["safe_served_by"], flag), _serves(flag["unsafe_served_by"], flag)


def _serves(side: str, flag: Json) -> str:
    if side != "by weight":
        return side
    return f"{percent(flag['weight'])} extracted / {percent(BUCKETS - flag['weight'])} monolith"


def flags_table(flags: Sequence[Json], acknowledged: Json | None = None) -> Table:
    """One line a flag: what serves what, who owns, since when, by whom, why, taken by whom, how the copy is."""
    table = grid("FLAG", "STAGE", "SAFE", "UNSAFE", "OWNER", "SINCE", "BY", "WHY", "PROXIES", "STREAM", "MIRRORING")
    for flag in flags:
        safe, unsafe = served(flag)
        taken = "-" if acknowledged is None else f"{acknowledged['by']}/{acknowledged['of']}"
        table.add_row(
            f"[bold]{escape(flag['key'])}[/]",
            f"[{_COLOURS[flag['stage']]}]{staged(flag)}[/]",
            safe,
            unsafe,
            f"{flag['owner']} (epoch {flag['owner_epoch']})" if flag["owns_data"] else "no data",
            ago(flag["changed_at"]),
            escape(flag["changed_by"] or "-"),
            escape(flag["reason"] or "-"),
            taken,
            stream_words(flag),
            mirroring_words(flag),
        )
    return table


def mirroring_words(flag: Json) -> str:
    """Where how much is mirrored, and what the evidence says with its coverage."""
    words: str = flag["mirroring"]
    if flag.get("mirrored_to") is None or "evidence" not in flag:
        return words
    found = flag["evidence"]
    if found is None:
        return f"{words}; [red]the evidence cannot be read[/]"
    if found["verdict"] is None:
        return f"{words}; no evidence yet"
    colour = {"matched": "green", "mismatched": "red"}.get(found["verdict"], "yellow")
    words += f"; [{colour}]{found['verdict']}[/], {found['coverage']:.1%} compared"
    if found["unproven"]:
        words += f", {found['unproven']:,} not mirrored: no_proof of captured effects"
    return words


def stream_words(flag: Json) -> str:
    """How the copy is kept in step."""
    stream = flag.get("stream")
    if stream is None:
        return "-"
    if not stream["wanted"]:
        return "not started"
    if stream["paused"] is not None:
        paused, published = stream["paused"], stream["published"] or {}
        waiting = f", {published['dirty_keys']} changes wait" if "dirty_keys" in published else ""
        why = f": {escape(paused['reason'])}" if paused["reason"] else ""
        return f"[yellow]paused[/] {ago(paused['since'])} by {escape(paused['by'] or 'unknown')}{waiting}{why}"
    if not stream["mode"]:
        return "[red]no worker yet[/]"
    lag = "unknown" if stream["lag_seconds"] is None else f"{stream['lag_seconds']:.2f} s"
    words = f"{stream['mode']}, lag {lag}"
    if stream["stuck"]:
        words += f", [red]{stream['stuck']} stuck[/]"
    if (stream["reported_seconds_ago"] or 0) > 15:
        words += f", [red]silent for {duration(stream['reported_seconds_ago'])}[/]"
    return words


def retired_table(flags: Sequence[Json]) -> Table | None:
    """Retired flags: since when, by whom and why, what became of the old tables, where their dump is."""
    found = [flag for flag in flags if flag.get("retired") is not None]
    if not found:
        return None
    table = grid("RETIRED", "SINCE", "BY", "WHY", "OLD TABLES", "DUMP (ON THE WORKER'S HOST)")
    for flag in found:
        known = flag["retired"]
        table.add_row(
            escape(flag["key"]),
            ago(known["since"]),
            escape(known["by"] or "-"),
            escape(known["reason"] or "-"),
            known["tables"],
            escape(known["dump"] or "-"),
        )
    return table


def proxies_table(proxies: Sequence[Json], revision: int) -> Table:
    """Proxies: what each serves, how old its report is, and which tables it refused."""
    table = grid("PROXY", "STATE", "REVISION", "REPORTED", "HOLDING", "ADDRESS", "SICK UPSTREAMS", "REFUSED TABLE")
    for proxy in proxies:
        behind = proxy["live"] and proxy["revision"] < revision
        state = "[yellow]behind[/]" if behind else "[green]live[/]" if proxy["live"] else "[red]silent[/]"
        holding = ", ".join(f"{key} {count}" for key, count in proxy["holding"].items() if count)
        table.add_row(
            escape(proxy["proxy_id"]),
            state,
            str(proxy["revision"]),
            "-" if proxy["age_seconds"] is None else f"{duration(proxy['age_seconds'])} ago",
            escape(holding) or "-",
            escape(proxy["address"]) or "-",
            f"[yellow]{escape(sick)}[/]" if (sick := sick_words(proxy)) else "-",
            f"[red]{escape(proxy['refused_table'])}[/]" if proxy["refused_table"] else "-",
        )
    return table


def sick_words(proxy: Json) -> str:
    """What is sick, as one proxy sees it: breakers, ejected endpoints, and what the mirror sends nothing to."""
    upstreams = proxy.get("upstreams") or {}
    return ", ".join(f"{word} {each}" for kind, word in _SICK.items() for each in upstreams.get(kind, ()))


def operations_table(operations: Sequence[Json]) -> Table:
    """Operations: what was asked of workers, and how far they are."""
    table = grid("OPERATION", "KIND", "FLAG", "STATUS", "STEP", "ASKED", "BY", "DETAIL")
    for each in operations:
        step = each["steps"][-1] if each["steps"] else {}
        table.add_row(
            str(each["id"]),
            each["kind"],
            escape(each["flag"]),
            each["status"],
            escape(str(step.get("name", "-"))),
            ago(each["requested_at"]),
            escape(each["by"] or "-"),
            escape(each["detail"].partition("\n")[0]) or "-",
        )
    return table


def entries_table(entries: Sequence[Json]) -> Table:
    """Audit entries: who changed what, when and why."""
    table = grid("ENTRY", "WHEN", "BY", "VERB", "SUBJECT", "CHANGE", "WHY", "REVISION")
    for entry in entries:
        table.add_row(
            str(entry["id"]),
            ago(entry["at"]),
            escape(entry["actor"]),
            escape(entry["verb"]),
            escape(entry["subject"]),
            escape(changes_of(entry)) or "-",
            escape(entry["reason"] or "-"),
            str(entry["revision"]),
        )
    return table


def changes_of(entry: Json) -> str:
    """`stage monolith -> shadow, weight 0 -> 500`; long values are left to JSON."""
    names = list(dict.fromkeys([*entry["before"], *entry["after"]]))
    parts = []
    for name in names:
        if any(_is_long(entry[side].get(name)) for side in ("before", "after")):
            parts.append(f"{name} ...")
            continue
        old, new = (_short(entry[side].get(name)) for side in ("before", "after"))
        parts.append(f"{name} {old} -> {new}" if name in entry["before"] else f"{name} {new}")
    return ", ".join(parts[:8])


def _is_long(value: object) -> bool:
    return isinstance(value, list) or (
        isinstance(value, dict) and any(isinstance(v, list | dict) for v in value.values())
    )


def _short(value: object) -> str:
    if isinstance(value, dict):
        value = " ".join(f"{name}={inner}" for name, inner in value.items())
    text = "-" if value in (None, "") else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
