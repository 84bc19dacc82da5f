"""Schemas that do not fit any more: seen before rows are carried over, told with side, table and column.

The catalogs are looked at once a second, by one statement on each side; only where its answer changed is everything
looked at. What does not fit pauses the stream: nothing is lost meanwhile, as keys of changed rows are noted on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from strangler_proxy.core.errors import DeclarationError, StranglerError
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.install import ALWAYS_ON, FENCE, FENCES, fence_triggers
from strangler_proxy.sync.layout import Layout, MovedTable, read_layout
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.noted import noted_shape, shape_of
from strangler_proxy.sync.statements import statement

LOOK_S = 1.0


class Drifted(StranglerError):
    """The schema of a side does not fit; `problems` are sentences."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class SchemaMoved(Exception):
    """A schema changed and still fits: the stream begins again with what it is now."""


async def fitting_layout(manifest: Manifest, links: Mapping[Origin, Link], source: Origin) -> Layout:
    """The layout, if rows can be carried from that side. Raises Drifted with everything that is in the way."""
    layout = await readable_layout(manifest, links)
    problems = await blocking(manifest, layout, links, source)
    for moved in layout.tables:
        for origin in Origin:
            problems += await _retyped(manifest, links[origin], moved, origin)
    problems += await _triggers(manifest, layout, links[source], source)
    problems += await _triggers(manifest, layout, links[source.other], source.other, fence=True)
    if problems:
        raise Drifted(problems)
    return layout


async def readable_layout(manifest: Manifest, links: Mapping[Origin, Link]) -> Layout:
    """The layout; tables, columns and keys that the manifest names and that are not there raise Drifted."""
    try:
        return await read_layout(manifest, links)
    except DeclarationError as error:
        raise Drifted(error.problems) from error


async def blocking(manifest: Manifest, layout: Layout, links: Mapping[Origin, Link], source: Origin) -> list[str]:
    """Columns of the target that came later, do not move, and keep every new row out."""
    target = source.other
    problems: list[str] = []
    for moved in layout.tables:
        side = moved.sides[target]
        noted = await noted_shape(links[target], side)
        if noted is not None:
            now = await shape_of(links[target], side)
            problems += [
                f"{_place(manifest, moved, target)}: new column {name!r} is NOT NULL without a default, and does not "
                "move: give it a default, or let it move"
                for name in now.required
                if name not in noted.required
            ]
    return problems


async def _retyped(manifest: Manifest, link: Link, moved: MovedTable, origin: Origin) -> list[str]:
    noted = await noted_shape(link, moved.sides[origin])
    if noted is None:
        return []
    now = await shape_of(link, moved.sides[origin])
    return [
        f"{_place(manifest, moved, origin)}: column {name!r} was {noted.types[name]}, and is {type_name} now"
        for name, type_name in now.types.items()
        if noted.types.get(name, type_name) != type_name
    ]


async def _triggers(
    manifest: Manifest, layout: Layout, link: Link, origin: Origin, *, fence: bool = False
) -> list[str]:
    """Capture that does not note, or the fence of a closed side that does not keep writers out."""
    given = {"flag": layout.flag, "tables": [moved.sides[origin].regclass for moved in layout.tables]}
    rows = await (await link.execute(statement("drift", "triggers"), given)).fetchall()
    if fence and any(is_open for _, is_open, *_ in rows):
        return []
    states: dict[str, dict[str, str]] = {}
    whole: set[str] = set()
    for table, _, trigger, state, sees_updates in rows:
        states.setdefault(table, {})[trigger] = state
        if trigger == FENCE and sees_updates:
            whole.add(table)
    problems: list[str] = []
    for moved in layout.tables:
        table = moved.sides[origin].regclass
        found = states.get(table, {})
        # A fence that was made for all columns keeps writers out of those that came later, too.
        fences = (FENCE,) if table in whole else fence_triggers(moved, origin)
        problems += [
            f"{_place(manifest, moved, origin)}: trigger {trigger} is {'disabled' if trigger in found else 'gone'}, "
            f"so {'writes are not kept out' if fence else 'changes are not noted'}"
            for trigger in (fences if fence else ALWAYS_ON)
            if found.get(trigger) != "A"
        ]
    return problems


class SchemaWatch:
    """Whether the schemas still fit that a stream began with, once a second or when something was refused."""

    def __init__(self, manifest: Manifest, layout: Layout, links: Mapping[Origin, Link], source: Origin) -> None:
        self._manifest = manifest
        self._layout = layout
        self._links = links
        self._source = source
        self._known: Mapping[Origin, str] = {}
        self._due_at = 0.0

    def hurry(self) -> None:
        """Look before the next batch."""
        self._due_at = 0.0

    async def look(self) -> None:
        """Raises Drifted, or SchemaMoved."""
        if time.monotonic() < self._due_at:
            return
        found = {origin: await self._fingerprint(origin) for origin in Origin}
        if found != self._known:
            layout = await fitting_layout(self._manifest, self._links, self._source)
            if _essence(layout) != _essence(self._layout):
                raise SchemaMoved
            self._known = found
        self._due_at = time.monotonic() + LOOK_S

    async def _fingerprint(self, origin: Origin) -> str:
        given: dict[str, object] = {
            "tables": [moved.sides[origin].regclass for moved in self._layout.tables],
            "triggers": list(ALWAYS_ON if origin is self._source else FENCES),
        }
        row = await (await self._links[origin].execute(statement("drift", "fingerprint"), given)).fetchone()
        return str(row and row[0])


def _essence(layout: Layout) -> list[object]:
    """What statements are made from; estimates may change."""
    return [
        (moved.name, origin, side.schema, side.name, side.columns, side.key, side.partial)
        for moved in layout.tables
        for origin, side in moved.sides.items()
    ]


def _place(manifest: Manifest, moved: MovedTable, origin: Origin) -> str:
    table = moved.table.name(origin)
    return f"flag {manifest.flag!r}, table {table!r} in database {manifest.databases[origin]!r} ({origin.value})"
