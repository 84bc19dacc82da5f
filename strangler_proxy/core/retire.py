"""Retiring a flag: what has to be true before, as conditions that are all told at once, and the steps in order.

Retiring ends the way back. Until the tables are dropped it can be undone; `retired` is the last stage.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import REPORT_LIMIT_S, Stream, not_ready
from strangler_proxy.core.route import Route
from strangler_proxy.core.stage import Origin, Stage

VERIFIED_WITHIN_S = 24 * 3600.0
"""An older verification says too little of a copy that is about to become the last one."""

SCHEMA = "strangler_retired"
"""Where the old tables are kept, in the monolith's database, until they are dropped."""

STEPS = ("verify", "dump", "route", "stop", "set aside", "settle", "triggers")
STEPS_KEEPING_COPY = ("verify", "route")

_PLANNED = {
    "verify": "compare every row of both sides once more",
    "dump": "write the old tables with checksums to {dump}",
    "route": "set the stage to retired; every live proxy has to take it",
    "stop": "stop the reverse stream",
    "set aside": f"move the old tables to schema {SCHEMA}, each with a view in its place that can only be read",
    "settle": "compare the tables that were set aside with the dump; dump again what differs",
    "triggers": "drop capture and fence on both sides",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that has to be true: what was found, and the command that helps where it is not good enough."""

    met: bool
    says: str
    command: str = ""

    def __str__(self) -> str:
        return self.says if self.met or not self.command else f"{self.says} (next: {self.command})"

    def to_json(self) -> dict[str, object]:
        """As operations and documents carry it."""
        return {"met": self.met, "says": self.says, "command": self.command}


def condition_from(document: Mapping[str, object]) -> Condition:
    """The condition that `to_json` wrote. Raises DeclarationError."""
    try:
        return Condition(
            met=bool(document["met"]), says=str(document["says"]), command=str(document.get("command", ""))
        )
    except (KeyError, TypeError) as error:
        raise DeclarationError([f"a condition cannot be read: {error!r}"]) from error


def steps_of(*, keep_copy: bool) -> tuple[str, ...]:
    """The steps of retiring, in order."""
    return STEPS_KEEPING_COPY if keep_copy else STEPS


def planned(*, keep_copy: bool, dump: str) -> tuple[tuple[str, str], ...]:
    """What would be done: step and sentence."""
    return tuple((name, _PLANNED[name].format(dump=dump)) for name in steps_of(keep_copy=keep_copy))


def conditions_of_flag(
    flag: Flag,
    stream: Stream | None,
    routes: Iterable[Route],
    open_operations: Sequence[str],
    *,
    after_days: float,
    now: dt.datetime,
) -> tuple[Condition, ...]:
    """What the flag table and the worker's reports say. `after_days`: how long extracted has to have owned.

    `stream` None: the flag owns no data.
    """
    key = flag.key
    at_end = flag.stage is Stage.EXTRACTED and flag.owner is Origin.EXTRACTED
    found = [
        Condition(
            met=at_end or (flag.stage is Stage.EXTRACTED and not flag.owns_data),
            says=f"the stage is {flag.stage.value}, the owner is {flag.owner.value}"
            if flag.owns_data
            else f"the stage is {flag.stage.value}",
            command=f"strangler flip {key} extracted",
        ),
        _owned_long_enough(flag, after_days=after_days, now=now),
    ]
    found += [
        Condition(met=False, says=f"{each} is not over yet", command="strangler watch") for each in open_operations
    ]
    if flag.hold is not None and not open_operations:
        found.append(
            Condition(met=False, says=f"cutover {flag.hold.cutover_id} holds requests", command="strangler watch")
        )
    if stream is not None and at_end:
        found += _stream(flag, stream)
    return (*found, *_routing(flag, routes))


def _owned_long_enough(flag: Flag, *, after_days: float, now: dt.datetime) -> Condition:
    days = 0.0 if flag.changed_at is None else max(0.0, (now - flag.changed_at).total_seconds() / 86_400)
    met = flag.stage is Stage.EXTRACTED and days >= after_days
    return Condition(
        met=met,
        says=f"extracted serves for {days:.1f} days, needed are {after_days:g}"
        if flag.stage is Stage.EXTRACTED
        else f"extracted does not serve yet, needed are {after_days:g} days of it",
        command=f"strangler retire {flag.key} --dry-run --after-days {max(0, int(days))}",
    )


def _stream(flag: Flag, stream: Stream) -> list[Condition]:
    """The reverse stream: live, close behind, verified, nothing stuck."""
    missing = not_ready(flag, stream)
    if not missing:
        return [Condition(met=True, says=f"the reverse stream is live, {stream.lag_s or 0:.2f} s behind, and verified")]
    command = f"strangler sync {'status' if stream.wanted else 'start'} {flag.key}"
    return [Condition(met=False, says=f"the reverse stream: {each}", command=command) for each in missing]


def _routing(flag: Flag, routes: Iterable[Route]) -> list[Condition]:
    """Does anything still send requests of the flag to the monolith?"""
    found = []
    if flag.deny:
        found.append(
            Condition(
                met=False,
                says=f"{len(flag.deny)} targeting keys on the deny list are served by the monolith",
                command="strangler apply, with an empty `deny` in the capability file",
            )
        )
    mine = [route for route in routes if route.flag == flag.key]
    for route in mine:
        if route.clusters[Origin.EXTRACTED] == route.clusters[Origin.MONOLITH]:
            found.append(
                Condition(
                    met=False,
                    says=f'route "{route.name}" goes to cluster "{route.clusters[Origin.MONOLITH]}" at every stage',
                    command="strangler apply, with that route taken out or given an extracted cluster",
                )
            )
    return found or [Condition(met=True, says=f"{len(mine)} routes go to extracted, no list sends anybody back")]


def nobody_works(stream: Stream) -> bool:
    """True where no worker reports: then nobody can ask the old side, and waiting for one would be in vain."""
    return stream.age_s is None or stream.age_s > REPORT_LIMIT_S


def unmet(conditions: Iterable[Condition]) -> tuple[str, ...]:
    """The sentences of what is missing."""
    return tuple(str(each) for each in conditions if not each.met)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What `status` says of a retired flag. `tables`: `going on`, `kept`, `read-only` or `dropped`.

    `dump` is a path on the worker's host, empty where there is none.
    """

    since: dt.datetime | None
    by: str
    reason: str
    dump: str
    tables: str
