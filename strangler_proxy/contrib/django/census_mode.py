"""How the flags of a database are counted, as `strangler.census_mode` there says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

from strangler_proxy.contrib.django.census_place import Whereabouts
from strangler_proxy.core.census_allow import allowed
from strangler_proxy.core.census_statement import TableFinder

EXISTS = "SELECT to_regclass('strangler.census_mode') IS NOT NULL, to_regclass('strangler.ownership') IS NOT NULL"
_COLUMNS = "SELECT m.flag, m.mode, m.tables, m.allow"
READ_OWNED = (
    f"{_COLUMNS}, coalesce(o.owner = o.origin, true) FROM strangler.census_mode AS m"
    " LEFT JOIN strangler.ownership AS o ON o.flag = m.flag WHERE m.mode <> 'off'"
)
READ_PLAIN = f"{_COLUMNS}, true FROM strangler.census_mode AS m WHERE m.mode <> 'off'"
CONFIRM = (
    "SELECT EXISTS (SELECT FROM strangler.census_mode AS m JOIN strangler.ownership AS o ON o.flag = m.flag"
    " WHERE m.flag = %s AND m.mode = 'refuse' AND o.owner <> o.origin)"
)
"""Asked before a statement is refused: what is cached may be some seconds old, and the writer may be back.

An owner that is closed for a cutover is the owner still, and its code reads on.
"""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class FlagMode:
    """How one flag is counted here."""

    flag: str
    refuses: bool
    """Are reads refused? Only while this side is not the owner, as far as is known here."""
    allow: tuple[str, ...]
    """Patterns of places and tables that may go on reading."""

    def allows(self, table: str, where: Whereabouts) -> bool:
        """May this place read this table?"""
        return allowed(self.allow, table=table, kind=where.kind, name=where.name, place=where.place)


@dataclass(frozen=True)
class Modes:
    """Of all flags; `finder` gives `(table, flags)` and is None where nothing is counted."""

    finder: Optional[TableFinder] = None
    flags: dict[str, FlagMode] = field(default_factory=dict)


OFF = Modes()


def read_modes(ask: Callable[[str], Rows]) -> Modes:
    """Read them; `ask` runs one statement. Nothing is read of tables that do not exist."""
    ((counted, owned),) = ask(EXISTS)
    if not counted:
        return OFF
    flags: dict[str, FlagMode] = {}
    by_table: dict[str, list[str]] = {}
    for flag, mode, tables, allow, owner_here in ask(READ_OWNED if owned else READ_PLAIN):
        flags[flag] = FlagMode(flag, mode == "refuse" and not owner_here, tuple(allow))
        for table in tables:
            by_table.setdefault(table, []).append(flag)
    if not flags:
        return OFF
    return Modes(TableFinder({table: (table, tuple(names)) for table, names in by_table.items()}), flags)
