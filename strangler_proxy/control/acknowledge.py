"""Waiting until every live proxy serves a revision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.core.ports import FlagBoard, Heartbeat

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Who serves `revision` (or a later one), and who is live and does not, after `seconds` of waiting.

    `problem` is set where the control database went away meanwhile: the change stands, who took it is not known.
    """

    revision: int
    seconds: float
    taken: Sequence[Heartbeat] = ()
    missing: Sequence[Heartbeat] = ()
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Has every live proxy taken it?"""
        return not self.missing and not self.problem


async def acknowledged(board: FlagBoard, revision: int, *, wait_s: float) -> Acknowledgement:
    """Wait at most `wait_s` for all live proxies. A proxy that stops reporting is not waited for after 3 s."""
    began = time.monotonic()
    pause = _FIRST_PAUSE_S
    while True:
        found = await _look(board, revision, began)
        if found.complete or found.seconds >= wait_s:
            return found
        await asyncio.sleep(min(pause, max(0.0, wait_s - found.seconds)))
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


async def _look(board: FlagBoard, revision: int, began: float) -> Acknowledgement:
    try:
        live = await board.live_proxies()
    except StoreUnavailable as error:
        return Acknowledgement(revision=revision, seconds=time.monotonic() - began, problem=error.message)
    return Acknowledgement(
        revision=revision,
        seconds=time.monotonic() - began,
        taken=[proxy for proxy in live if proxy.revision >= revision],
        missing=[proxy for proxy in live if proxy.revision < revision],
    )
