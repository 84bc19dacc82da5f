"""What stands in the way of a first copy: rows in the target that nobody copied there."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import read_layout
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.ownership import read_grant


async def rows_in_the_way(manifest: Manifest, links: Mapping[Origin, Link]) -> list[str]:
    """A sentence for each table of a target that was never prepared and holds rows. Raises DeclarationError.

    The first copy makes the target equal to the owner, so what only the target has would be deleted.
    """
    layout = await read_layout(manifest, links)
    target = links[Origin.EXTRACTED]
    row = await (await target.execute(b"SELECT to_regclass('strangler.ownership') IS NOT NULL")).fetchone()
    if row is not None and row[0] and await read_grant(target, manifest.flag) is not None:
        return []
    database = manifest.databases[Origin.EXTRACTED]
    found: list[str] = []
    for moved in layout.tables:
        side = moved.sides[Origin.EXTRACTED]
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(side.identifier)
        row = await (await target.execute(query)).fetchone()
        if row is not None and row[0]:
            found.append(
                f"table {side.name!r} in database {database!r} (extracted) is not empty: rows that the monolith does "
                f"not have would be deleted, others overwritten. Empty it, or: "
                f"strangler sync start {manifest.flag} --replace"
            )
    return found
