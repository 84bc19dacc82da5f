"""What a table looked like when capture was put beside it: kept with the trigger, so that a change can be named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from strangler_proxy.sync.layout import TableSide
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Types of the moved columns by name, and other columns without which no row can be inserted."""

    types: Mapping[str, str]
    required: tuple[str, ...]

    def to_text(self, digest: str) -> str:
        """As the comment on a trigger has it; `digest` of what capture was made from comes first."""
        return f"{digest} {json.dumps({'types': dict(self.types), 'required': list(self.required)})}"


async def shape_of(link: Link, side: TableSide) -> Shape:
    """As the catalog has it now."""
    rows = await (await link.execute(statement("drift", "shape"), {"table": side.regclass})).fetchall()
    moved = {column.name for column in side.columns}
    return Shape(
        types={name: type_name for name, type_name, _ in rows if name in moved},
        required=tuple(name for name, _, required in rows if required and name not in moved),
    )


async def noted_text(link: Link, side: TableSide) -> str | None:
    """The comment as it is; None where there is no capture."""
    row = await (await link.execute(statement("drift", "noted"), {"table": side.regclass})).fetchone()
    return None if row is None else row[0]


async def noted_shape(link: Link, side: TableSide) -> Shape | None:
    """What was noted; None where there is no capture, or one of a release that noted nothing."""
    _, _, text = (await noted_text(link, side) or "").partition(" {")
    if not text:
        return None
    said = json.loads("{" + text)
    return Shape(types=said["types"], required=tuple(said["required"]))
