"""Ownership arithmetic: which grant is newer, and what a met fence teaches."""

from __future__ import annotations

from dataclasses import dataclass

from strangler_proxy.core.fence import FenceAnswer
from strangler_proxy.core.stage import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Who may write a flag's rows, by the grant of `epoch` (only ever grows)."""

    owner: Origin
    epoch: int


def newer(known: Ownership, told: Ownership) -> Ownership:
    """The grant with the higher epoch; the known one on a tie (a table row never undoes what a fence taught)."""
    return told if told.epoch > known.epoch else known


def learn(known: Ownership, answered_by: Origin, fence: FenceAnswer) -> Ownership:
    """What a fenced answer teaches: a higher epoch at an origin that refuses makes the other one the owner.

    >>> learn(Ownership(owner=Origin.MONOLITH, epoch=3), Origin.MONOLITH,
    ...       FenceAnswer.parse("flag=f; epoch=4; owner=extracted; replay=safe"))
    Ownership(owner=<Origin.EXTRACTED: 'extracted'>, epoch=4)
    """
    if fence.epoch > known.epoch:
        return Ownership(owner=answered_by.other, epoch=fence.epoch)
    return known
