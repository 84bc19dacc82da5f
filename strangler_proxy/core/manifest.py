"""Ownership manifest: the rows that move with a capability, as its file declares them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from strangler_proxy.core.stage import Origin


class OnDelete(enum.Enum):
    """What a soft reference across the boundary does when the row it names is deleted."""

    REFUSE = "refuse"
    TOMBSTONE = "tombstone"
    EVENT = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftReference:
    """A column that names a row of another capability (a foreign key in the monolith, a plain value outside).

    `column` is the monolith's column; `references` is `table.column` in the monolith.
    """

    column: str
    references: str
    on_delete: OnDelete


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One moved column by its name on either side."""

    monolith: str
    extracted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One moved table. `key` are monolith column names (each also in `columns`); names may be `schema.table`.

    `sequence`: monolith column whose sequence must stay past the other side's (None: no sequence).
    `money`: monolith columns whose totals are compared before a cutover, grouped by `money_by`.
    """

    monolith: str
    extracted: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    sequence: str | None = None
    soft_references: tuple[SoftReference, ...] = ()
    money: tuple[str, ...] = ()
    money_by: tuple[str, ...] = ()

    def name(self, origin: Origin) -> str:
        """The table's name on that side."""
        return self.monolith if origin is Origin.MONOLITH else self.extracted

    def column_names(self, origin: Origin) -> tuple[str, ...]:
        """The moved columns' names on that side, in declared order (the same order on both sides)."""
        return tuple(c.monolith if origin is Origin.MONOLITH else c.extracted for c in self.columns)

    def key_names(self, origin: Origin) -> tuple[str, ...]:
        """The key columns' names on that side, in declared order."""
        if origin is Origin.MONOLITH:
            return self.key
        names = {c.monolith: c.extracted for c in self.columns}
        return tuple(names[k] for k in self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All tables of one flag, parents before children, and the names of the two databases.

    Database names are looked up as `STRANGLER_DATA_URL__NAME`. `idempotency_table` is the monolith name of the moved
    table that keeps idempotency keys (None: the capability has none). `retire_after_days`: how long extracted has to
    have owned before the flag may retire. `keep_copy`: the monolith goes on reading its copy for good, so retiring
    keeps its tables and the stream into them.
    """

    flag: str
    databases: dict[Origin, str]
    tables: tuple[Table, ...]
    idempotency_table: str | None = None
    retire_after_days: int = 14
    keep_copy: bool = False
