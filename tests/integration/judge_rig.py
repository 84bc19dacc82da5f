"""A link with its judging process, evidence in a file, and sides that answer by a function."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from strangler_proxy.core.pair import Answer, Pair, Side
from strangler_proxy.core.tally import Tally
from strangler_proxy.shadow.link import JudgeLink
from strangler_proxy.shadow.options import JudgeSettings
from strangler_proxy.store.evidence_opened import open_evidence
from tests.pairs import SECRET, Answering, answer

Answers = Callable[[Pair, Side], Answer]


def settings(path: Path, **more: Any) -> JudgeSettings:
    """Settings that publish soon, ask again soon, and choose nothing by chance."""
    quick = {"again_after_s": 0.1, "aa_share": 0.0, "publish_every_s": 0.2}
    return JudgeSettings(**{"evidence": f"sqlite://{path}", "secret": SECRET, **quick, **more})


def two_prices(pair: Pair, side: Side) -> Answer:
    """The sides go on to differ."""
    return answer({"price": 1}) if side is Side.CONTROL else answer({"price": 2})


@asynccontextmanager
async def judging(
    path: Path, answers: Answers = two_prices, *, asker: Answering | None = None, **more: Any
) -> AsyncIterator[tuple[JudgeLink, Answering]]:
    """A link whose judge is up; closed at the end, so that all of it is in the file."""
    asker = asker or Answering(answers)
    link = JudgeLink(settings(path, **more), asker, asyncio.get_running_loop())
    await link.start()
    try:
        await until(lambda: link.is_up)
        yield link, asker
    finally:
        await link.close(10.0)


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came about"
        await asyncio.sleep(0.02)


async def tallies(path: Path, flag: str = "shop") -> list[Tally]:
    """What the file says, the basis published last first."""
    async with open_evidence(str(path)) as book:
        return list(await book.tallies(flag))
