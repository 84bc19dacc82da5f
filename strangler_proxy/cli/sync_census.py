"""`strangler sync census`: who still reads or writes a flag's tables, and how that is counted."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from strangler_proxy.cli.options import FlagArgument, ReasonOption
from strangler_proxy.cli.output import SCHEMA_VERSION, Format, OutputOption, ago, grid, pairs, say_next, show

Json = dict[str, Any]

_STEP = "census"


class Side(enum.Enum):
    """Whose database."""

    MONOLITH = "monolith"
    EXTRACTED = "extracted"


class CensusMode(enum.Enum):
    """What is done about what is seen."""

    OFF = "off"
    LOG = "log"
    REFUSE = "refuse"


def census(
    flag: FlagArgument,
    side: Annotated[Side | None, typer.Option("--side", help="One side only; without it both.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what was seen later: 90m, 2h, 3d or a time.")
    ] = None,
    mode: Annotated[
        CensusMode | None,
        typer.Option("--mode", help="Count from now on (log), also refuse reads where the rows moved away, or off."),
    ] = None,
    triggers: Annotated[
        bool | None, typer.Option("--triggers/--no-triggers", help="Note writes of all sessions by a trigger, too.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="May read where reads are refused: KIND:NAME, FILE or table:TABLE; * is allowed."),
    ] = None,
    sample: Annotated[
        float, typer.Option("--sample", min=0, max=600, help="Seconds to watch what sessions run just now.")
    ] = 0.0,
    confirm: Annotated[str, typer.Option("--confirm", help="The flag's key again: refuse, whatever breaks.")] = "",
    reason: ReasonOption = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait.")] = 60.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Who still reads or writes a flag's tables: view, task, command, shell, session; with file and line.

    Example: strangler sync census CAPABILITY --mode log
    """
    import datetime as dt

    from strangler_proxy.cli.client import Control, named
    from strangler_proxy.cli.follow import follow
    from strangler_proxy.cli.shadow_source import moment

    when = moment(since, now=dt.datetime.now(dt.UTC))
    body: Json = {
        "side": None if side is None else side.value,
        "mode": None if mode is None else mode.value,
        "triggers": triggers,
        "allow": allow or None,
        "since": None if when is None else when.isoformat(),
        "sample_s": sample,
        "confirm": confirm,
        "reason": reason,
    }
    with Control() as control:
        operation: Json = control.post(f"/v1/flags/{named('flag', flag)}/sync/census", body)["operation"]
        operation = follow(control, operation, timeout_s=timeout + sample, untold=(_STEP,))
    sides = [json.loads(step["detail"]) for step in operation["steps"] if step.get("name") == _STEP]
    document = {"schema_version": SCHEMA_VERSION, "flag": flag, "operation": operation["id"], "sides": sides}
    show(document, *_tables(sides))
    say_next(*_next(flag, sides))


def _tables(sides: list[Json]) -> list[Any]:
    parts: list[Any] = []
    for one in sides:
        parts += [_head(one), ""]
    if any(one["places"] for one in sides):
        parts += [_places(sides), ""]
    parts += [escape(line) for one in sides for line in one["verdict"]]
    return parts


def _head(one: Json) -> Any:
    processes, counted = one["processes"], one["counting_since"]
    programs = f" ({', '.join(processes['programs'])})" if processes["programs"] else ""
    return pairs(
        ("side", f"{one['side']} (owner: {one['owner']})"),
        ("mode", one["mode"] + (", with triggers" if one["triggers"] else "")),
        ("counting", f"since {counted}" if counted else "never"),
        ("allowed", ", ".join(one["allow"])),
        ("Django processes", f"{processes['count']}{programs}" if counted else ""),
        ("left out", f"{one['places_left_out']} places" if one["places_left_out"] else ""),
    )


def _places(sides: list[Json]) -> Any:
    table = grid("SIDE", "TABLE", "ACCESS", "WHO", "PLACE", "APPLICATION", "COUNT", "REFUSED", "FIRST", "LAST")
    for one in sides:
        for place in one["places"]:
            table.add_row(
                one["side"],
                escape(place["table"]),
                place["access"],
                escape(f"{place['kind']} {place['name']}"),
                escape(place["place"]),
                escape(place["application"]),
                str(place["count"]),
                str(place["refused"] or ""),
                ago(place["first_seen"]),
                ago(place["last_seen"]),
            )
    return table


def _next(flag: str, sides: list[Json]) -> list[str | None]:
    found: list[str | None] = []
    for one in sides:
        away = one["side"] != one["owner"]
        if one["mode"] == "off" and not found:
            found.append(f"strangler sync census {flag} --mode log")
        elif one["mode"] == "log" and away:
            found.append(f"strangler sync census {flag} --mode refuse --side {one['side']}")
    if any(one["mode"] == "refuse" for one in sides):
        found.append(f"strangler sync census {flag} --mode log")
    return found or [f"strangler sync census {flag} --since 1h"]
