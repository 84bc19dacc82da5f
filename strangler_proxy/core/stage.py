"""Stages, origins, roles, and THE stage table.

An origin is who you are and never changes; a role is what you are now. Behaviour by stage is a table,
written once, here. Source of the table: docs/explanation/stages.md.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Origin(enum.Enum):
    """Who serves: the monolith or the extracted service."""

    MONOLITH = "monolith"
    EXTRACTED = "extracted"

    @property
    def other(self) -> Origin:
        """The opposite origin."""
        return Origin.EXTRACTED if self is Origin.MONOLITH else Origin.MONOLITH


class Role(enum.Enum):
    """What an origin is at this moment."""

    AUTHORITATIVE = "authoritative"
    SHADOW = "shadow"


class Serve(enum.Enum):
    """Which origin a stage sends a request to."""

    MONOLITH = "monolith"
    EXTRACTED = "extracted"
    BY_WEIGHT = "by weight"


class Mirror(enum.Enum):
    """Which origin gets a copy to compare."""

    NONE = "-"
    OTHER = "the other origin"


class Stage(enum.Enum):
    """How far a flag has come. Order is the order of definition."""

    MONOLITH = "monolith"
    SHADOW = "shadow"
    CANARY = "canary"
    EXTRACTED = "extracted"
    RETIRED = "retired"

    @property
    def position(self) -> int:
        """0 for `monolith` up to 4 for `retired`."""
        return _ORDER[self]


_ORDER = {stage: position for position, stage in enumerate(Stage)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One row of the stage table.

    `unsafe` holds for flags that own no data; where a flag owns data, an unsafe request goes to the owner.
    `replicates` names the origin whose rows are copied to the other one, None where nothing is copied.
    """

    safe: Serve
    unsafe: Serve
    mirror: Mirror
    writer: Origin
    replicates: Origin | None


STAGE_TABLE: Mapping[Stage, StageRow] = MappingProxyType(
    {
        Stage.MONOLITH: StageRow(
            safe=Serve.MONOLITH,
            unsafe=Serve.MONOLITH,
            mirror=Mirror.NONE,
            writer=Origin.MONOLITH,
            replicates=Origin.MONOLITH,
        ),
        Stage.SHADOW: StageRow(
            safe=Serve.MONOLITH,
            unsafe=Serve.MONOLITH,
            mirror=Mirror.OTHER,
            writer=Origin.MONOLITH,
            replicates=Origin.MONOLITH,
        ),
        Stage.CANARY: StageRow(
            safe=Serve.BY_WEIGHT,
            unsafe=Serve.BY_WEIGHT,
            mirror=Mirror.OTHER,
            writer=Origin.MONOLITH,
            replicates=Origin.MONOLITH,
        ),
        Stage.EXTRACTED: StageRow(
            safe=Serve.EXTRACTED,
            unsafe=Serve.EXTRACTED,
            mirror=Mirror.OTHER,
            writer=Origin.EXTRACTED,
            replicates=Origin.EXTRACTED,
        ),
        Stage.RETIRED: StageRow(
            safe=Serve.EXTRACTED,
            unsafe=Serve.EXTRACTED,
            mirror=Mirror.NONE,
            writer=Origin.EXTRACTED,
            replicates=None,
        ),
    }
)


class Move(enum.Enum):
    """What a change of stage amounts to."""

    SAME = "same"  # only the weight may change
    FLIP = "flip"  # routing only
    CUTOVER = "cutover"  # moves the writer as well
    SKIPS = "skips"  # refused: leaves out a stage
    FINAL = "final"  # refused: nothing leads out of `retired`
    RETIRE = "retire"  # refused here: only `strangler retire` does it


def move(current: Stage, wanted: Stage, *, owns_data: bool) -> Move:
    """Classify a change of stage. Forward one stage at a time, back to any earlier one, never out of `retired`.

    >>> move(Stage.CANARY, Stage.EXTRACTED, owns_data=True)
    <Move.CUTOVER: 'cutover'>
    >>> move(Stage.MONOLITH, Stage.CANARY, owns_data=True)
    <Move.SKIPS: 'skips'>
    """
    if current is wanted:
        return Move.SAME
    if current is Stage.RETIRED:
        return Move.FINAL
    if wanted.position > current.position + 1:
        return Move.SKIPS
    if wanted is Stage.RETIRED:
        return Move.RETIRE
    if owns_data and STAGE_TABLE[current].writer is not STAGE_TABLE[wanted].writer:
        return Move.CUTOVER
    return Move.FLIP
