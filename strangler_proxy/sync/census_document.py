"""One side's census as JSON, bounded."""

from __future__ import annotations

import datetime as dt
from typing import Any

from strangler_proxy.core.census import Movement, Place
from strangler_proxy.core.census_report import Census, verdict

PLACES_TOLD = 200
"""The latest of them; how many more there are is said."""


def side_document(census: Census) -> dict[str, Any]:
    """What a worker tells of one side."""
    counting, processes = census.counting, census.processes
    return {
        "side": census.side.value,
        "owner": census.owner.value,
        "mode": counting.mode.value,
        "triggers": counting.triggers,
        "allow": list(counting.allow),
        "counting_since": None if counting.since is None else _time(counting.since),
        "since": _time(census.since),
        "verdict": list(verdict(census)),
        "places": [_place(place) for place in census.places[:PLACES_TOLD]],
        "places_left_out": max(0, len(census.places) - PLACES_TOLD),
        "processes": {
            "count": len(processes),
            "programs": sorted({f"{process.service}: {process.program}" for process in processes})[:20],
            "seen_at": _time(max(process.seen_at for process in processes)) if processes else None,
            "lost": sum(process.lost for process in processes),
        },
        "hidden_sessions": census.hidden,
        "stream_runs": census.stream_runs,
        "counters": [_movement(census, movement) for movement in census.movements],
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "table": place.table,
        "access": place.access.value,
        "kind": place.kind.value,
        "name": place.name,
        "place": place.place,
        "application": place.application,
        "count": place.count,
        "refused": place.refused,
        "first_seen": _time(place.first_seen),
        "last_seen": _time(place.last_seen),
    }


def _movement(census: Census, movement: Movement) -> dict[str, Any]:
    return {
        "table": movement.table,
        "since": _time(movement.since),
        "scans": movement.scans,
        "inserted": movement.inserted,
        "updated": movement.updated,
        "deleted": movement.deleted,
        "unexplained": list(census.unexplained(movement)),
    }


def _time(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
