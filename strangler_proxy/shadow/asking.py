"""Asking once more: what the judge wants to know of the sides, a few at once, over the mirror's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from strangler_proxy.core.pair import Answer, Asker, Pair, Side
from strangler_proxy.shadow.frames import ASKED, answer_values, frame, read_asked_of

log = structlog.get_logger(__name__)

ANSWER_S: Final = 60.0
"""A guard: the asker has a deadline of its own."""


class Questions:
    """Questions of one judge. At most `at_once` are under way and `waiting` wait; others are refused, and counted."""

    def __init__(self, asker: Asker, answer: Callable[[bytes], None], *, at_once: int, waiting: int) -> None:
        self._asker = asker
        self._answer = answer
        self._room = asyncio.Semaphore(at_once)
        self._limit = at_once + waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Questions open={len(self._tasks)} refused={self.refused}>"

    def put(self, token: int, sides: Sequence[str], values: tuple[Any, ...]) -> None:
        """Ask these sides, or say at once that nobody was asked."""
        if len(self._tasks) >= self._limit:
            self.refused += 1
            self._answer(frame(ASKED, token, None, None))
            return
        task = asyncio.create_task(self._ask(token, [Side(side) for side in sides], read_asked_of(values)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, token: int, sides: Sequence[Side], pair: Pair) -> None:
        async with self._room:
            answers = await asyncio.gather(*(self._one(pair, side) for side in sides))
        by_side = dict(zip(sides, answers, strict=True))
        said = [by_side.get(side) for side in (Side.CONTROL, Side.CANDIDATE)]
        self._answer(frame(ASKED, token, *(None if each is None else answer_values(each) for each in said)))

    async def _one(self, pair: Pair, side: Side) -> Answer | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._asker.ask(pair, side)
        except (ValueError, TimeoutError):
            return None
        except Exception as error:  # noqa: BLE001 -- asking once more never ends the judging
            log.warning("shadow.ask_failed", side=side.value, error=type(error).__name__)
            return None
