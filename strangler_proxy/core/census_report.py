"""What the census of one side amounts to, in sentences."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from strangler_proxy.core.census import Access, Counting, Kind, Mode, Movement, Place, Process
from strangler_proxy.core.stage import Origin

NAMED = 3
"""So many places are named in a sentence; the table has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All that is known of one side since a time. `hidden`: sessions whose statements could not be read.

    `stream_runs`: the toolkit itself reads and writes these tables all the time.
    """

    flag: str
    side: Origin
    owner: Origin
    counting: Counting
    since: dt.datetime
    places: tuple[Place, ...]
    processes: tuple[Process, ...]
    movements: tuple[Movement, ...]
    hidden: int
    stream_runs: bool

    def users(self, access: Access) -> tuple[Place, ...]:
        """Places that read or wrote, without the toolkit, and without sessions whose code is among the places."""
        code = {(place.application, place.table) for place in self.places if place.kind.is_code}
        return tuple(
            place
            for place in self.places
            if place.kind.is_user
            and place.access is access
            and not (place.kind is Kind.SESSION and (place.application, place.table) in code)
        )

    def unexplained(self, movement: Movement) -> tuple[str, ...]:
        """`reads` and `writes` that PostgreSQL counted while nobody was seen; nothing while the stream runs."""
        if self.stream_runs:
            return ()
        seen = {place.access for place in self.places if place.table == movement.table}
        moved = (("reads", Access.READ, movement.scans), ("writes", Access.WRITE, movement.written))
        return tuple(word for word, access, count in moved if count and access not in seen)


def verdict(census: Census) -> tuple[str, ...]:
    """One plain sentence first, then what it does not cover."""
    side, counting = census.side.value, census.counting
    if counting.mode is Mode.OFF and not census.places:
        command = f"strangler sync census {census.flag} --mode log --side {side}"
        return (f"{side}: nobody counts here, so nothing is known; {command}",)
    said = f"{side}: {_wrote(census)}; {_read(census)}"
    return (said, *_limits(census))


def _wrote(census: Census) -> str:
    writers = census.users(Access.WRITE)
    since = _time(census.since)
    if writers:
        return f"{_places(writers)} wrote these tables since {since}: {_named(writers)}"
    applied = any(place.kind is Kind.APPLIER for place in census.places) or (
        census.stream_runs and census.side is not census.owner
    )
    return f"nobody{' but the applier' if applied else ''} wrote these tables since {since}"


def _read(census: Census) -> str:
    readers = census.users(Access.READ)
    return f"{_places(readers)} still read them: {_named(readers)}" if readers else "nobody was seen reading them"


def _limits(census: Census) -> list[str]:
    side, said = census.side.value, []
    if census.counting.mode is Mode.OFF:
        said.append(f"{side}: nobody counts here any more; this is what was counted before")
    if not census.processes:
        said.append(f'{side}: no Django process has reported: its code is seen with STRANGLER["CENSUS"] = True only')
    if not census.counting.triggers and census.counting.mode is not Mode.OFF:
        said.append(f"{side}: writes that do not go through Django are noted with --triggers only")
    if census.hidden:
        said.append(f"{side}: {census.hidden} sessions hid what they run: grant the worker's role pg_read_all_stats")
    lost = sum(process.lost for process in census.processes)
    if lost:
        said.append(f"{side}: {lost} counted statements never arrived here: see census.report_failed in the logs")
    mirrored = sum(1 for place in census.places if place.kind is Kind.MIRROR)
    if mirrored:
        said.append(f"{side}: {mirrored} more places were met by mirrored requests only, which nobody waits for")
    for movement in census.movements:
        for what in census.unexplained(movement):
            said.append(
                f"{side}: unexplained {what} of {movement.table}: {_moved(movement, what)}, and no place was seen"
            )
    return said


def _moved(movement: Movement, what: str) -> str:
    since = _time(movement.since)
    return f"{movement.scans} scans since {since}" if what == "reads" else f"{movement.written} rows since {since}"


def _who(places: Sequence[Place]) -> list[str]:
    return list(dict.fromkeys(place.who for place in places))


def _places(places: Sequence[Place]) -> str:
    count = len(_who(places))
    return "1 place" if count == 1 else f"{count} places"


def _named(places: Sequence[Place]) -> str:
    who = _who(places)
    more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
    return ", ".join(who[:NAMED]) + more


def _time(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
