"""An owner that was lost, whose copy was promoted, is back: close it, and keep what only it has."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from psycopg.types.json import Jsonb

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.ends import Both
from strangler_proxy.sync.install import set_fence
from strangler_proxy.sync.layout import Layout
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.ownership import Grant
from strangler_proxy.sync.statements import statement, template

_LOCK_TIMEOUT_MS = 5_000

log = structlog.get_logger()


async def close_returned(both: Both, grants: Mapping[Origin, Grant]) -> Origin | None:
    """Both sides open: the one with the older grant was lost, and is back. Close it, keeping what only it has.

    One transaction there: fence, grant, the rows of its dirty keys kept in `strangler.unreplicated`, and the stream
    into it begins with a new copy. The side that was closed; None where there is nothing to close.
    """
    monolith, extracted = grants[Origin.MONOLITH], grants[Origin.EXTRACTED]
    if not (monolith.open and extracted.open) or monolith.epoch == extracted.epoch:
        return None
    old = Origin.MONOLITH if monolith.epoch < extracted.epoch else Origin.EXTRACTED
    new = grants[old.other]
    link, flag = both.links[old], both.manifest.flag
    async with link.transaction():
        await link.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        await set_fence(link, both.layout, old, up=True)
        given = {"flag": flag, "owner": old.other.value, "epoch": new.epoch}
        closed = await link.execute(statement("promotion", "close"), given)
        if closed.rowcount != 1:
            return None
        kept = await _keep(link, both.layout, old)
        for name in ("forget_dirty", "forget_progress", "forget_applied", "forget_touched", "forget_stuck"):
            await link.execute(statement("promotion", name), given)
    log.warning("sync.returned_owner_closed", flag=flag, side=old.value, epoch=new.epoch, unreplicated=kept)
    return old


async def _keep(link: Link, layout: Layout, origin: Origin) -> int:
    kept = 0
    for moved in layout.tables:
        side = moved.sides[origin]
        keys = [side.columns[position].name for position in side.key]
        query = template("promotion", "keep", table=side.identifier)
        done = await link.execute(query, {"flag": layout.flag, "tbl": moved.name, "keys": Jsonb(keys)})
        kept += done.rowcount
    return kept
