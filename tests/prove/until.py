"""Waiting with a deadline, through outages of the control database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from strangler_proxy.core.errors import StranglerError


class NotSettled(Exception):
    """What was to come true did not."""


async def until(condition: Callable[[], Awaitable[Any]], seconds: float, otherwise: str) -> Any:
    """What the condition found. Raises NotSettled."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := await condition():
                return found
        except StranglerError:
            pass  # the control database is being crashed
        if time.monotonic() > end:
            raise NotSettled(f"{otherwise} within {seconds:g} s")
        await asyncio.sleep(0.08)
