"""The status of a stream, as `strangler sync status` and the gates read it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.batch import TableProgress
from strangler_proxy.sync.pace import Mode


@dataclass(slots=True)
class StreamStatus:
    """What a stream knows of itself. Written by the stream only, between awaits; read by its publisher."""

    flag: str
    worker: str
    source: Origin = Origin.MONOLITH
    mode: Mode = Mode.STOPPED
    lag_s: float | None = None
    dirty_keys: int = 0
    oldest_key_s: float = 0.0
    stuck: int = 0
    through: dt.datetime | None = None
    verified: bool | None = None
    verified_at: dt.datetime | None = None
    mismatches: int = 0
    epoch: int = 0
    error: str = ""
    rows_per_s: float = 0.0
    fresh_at: float | None = None  # monotonic time from before the last look by which the target was complete
    tables: list[TableProgress] = field(default_factory=list)
    verification: dict[str, object] = field(default_factory=dict)
    awaited: bool = False  # somebody waits for what it says now: published at once

    def to_json(self) -> dict[str, object]:
        """The published form; `owner` is the source, as rows flow from the owner."""
        done = sum(table.rows_done for table in self.tables)
        estimated = sum(max(table.rows_done, table.rows_estimated) for table in self.tables)
        left = estimated - done if self.mode is Mode.SNAPSHOT else 0
        return {
            "schema_version": 1,
            "flag": self.flag,
            "source": self.source.value,
            "target": self.source.other.value,
            "mode": self.mode.value,
            "lag_seconds": None if self.lag_s is None else round(self.lag_s, 3),
            "dirty_keys": self.dirty_keys,
            "oldest_key_seconds": round(self.oldest_key_s, 3),
            "rows_done": done,
            "rows_estimated": estimated,
            "eta_seconds": round(left / self.rows_per_s, 1) if left and self.rows_per_s else None,
            "stuck": self.stuck,
            "replicated_through": _time(self.through),
            "verified_at": _time(self.verified_at),
            "verified": self.verified,
            "mismatches": self.mismatches,
            "epoch": self.epoch,
            "owner": self.source.value,
            "worker": self.worker,
            "error": self.error,
            "tables": list(_tables(self.tables)),
            "verification": self.verification,
        }


def _tables(tables: Iterable[TableProgress]) -> Iterable[dict[str, object]]:
    for table in tables:
        yield {
            "table": table.table,
            "rows_done": table.rows_done,
            "rows_estimated": max(table.rows_done, table.rows_estimated),
            "done": table.done,
        }


def _time(value: dt.datetime | None) -> str | None:
    return None if value is None else value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
