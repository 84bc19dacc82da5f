"""Look at what other sessions of a database are doing, again and again for a while: who reads past Django.

Best effort. A statement that begins and ends between two looks is not seen, unless it was the last one of a session
that still lives; neither is one whose text is longer than `track_activity_query_size` before it names the table, or
one that reads through a view or a function. Texts of other users need `pg_read_all_stats`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from strangler_proxy.core.census_statement import TableFinder
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement

LOOK_EVERY_S = 0.05
_MAX_NOTED = 10_000
_HIDDEN = "<insufficient privilege>"


async def sample(link: Link, flag: str, tables: Sequence[str], seconds: float) -> int:
    """Note sessions seen with these tables; look at least once. How many sessions hid what they run."""
    finder = TableFinder({table: table for table in tables})
    noted: set[tuple[object, ...]] = set()
    hidden = 0
    until = time.monotonic() + seconds
    while True:
        rows = await (await link.execute(statement("census", "sessions"))).fetchall()
        hidden = max(hidden, sum(1 for row in rows if row[3] == _HIDDEN))
        for pid, application, user, query, at in rows:
            if query == _HIDDEN or (pid, at) in noted or at is None or len(noted) >= _MAX_NOTED:
                continue
            noted.add((pid, at))
            for table, access in finder.touched(query):
                given: Mapping[str, object] = {
                    "flag": flag, "tbl": table, "access": access, "name": user or "", "application": application[:100],
                    "at": at,
                }  # fmt: skip
                await link.execute(statement("census", "add_session"), given)
        if time.monotonic() >= until:
            return hidden
        await asyncio.sleep(LOOK_EVERY_S)
