"""Read the ownership records of both sides, and which way rows flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.statements import statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The ownership record of one database: last owner known there, epoch, and whether the application may write."""

    owner: Origin
    epoch: int
    open: bool

    @property
    def order(self) -> tuple[int, bool]:
        """Grants of two sides compare by it: the greater one is the source of rows."""
        return (self.epoch, self.open)


def source_of(grants: Mapping[Origin, Grant]) -> Origin | None:
    """Where rows flow from. None while nothing says so (both alike: never after `install`).

    A source whose fence is up for a cutover stays the source until the target is opened at its epoch.
    """
    monolith, extracted = grants[Origin.MONOLITH], grants[Origin.EXTRACTED]
    if monolith.order == extracted.order:
        return None
    return Origin.MONOLITH if monolith.order > extracted.order else Origin.EXTRACTED


def open_ownership(grants: Mapping[Origin, Grant]) -> Ownership | None:
    """The grant by which a side is open now; None while both are closed."""
    for origin, grant in grants.items():
        if grant.open:
            return Ownership(owner=origin, epoch=grant.epoch)
    return None


async def read_grant(link: Link, flag: str) -> Grant | None:
    """The record of one side; None where the flag was never prepared."""
    row = await (await link.execute(statement("batch", "grant"), {"flag": flag})).fetchone()
    return None if row is None else Grant(owner=Origin(row[0]), epoch=row[1], open=row[2])


async def read_grants(links: Mapping[Origin, Link], flag: str) -> dict[Origin, Grant] | None:
    """The records of both sides; None where the flag was never prepared."""
    found: dict[Origin, Grant] = {}
    for origin, link in links.items():
        grant = await read_grant(link, flag)
        if grant is None:
            return None
        found[origin] = grant
    return found
