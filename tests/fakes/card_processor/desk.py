"""The ledger's one thread, as awaitables: SQLite never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .ledger import Ledger

T = TypeVar("T")


class TooBusy(Exception):
    """More calls are waiting for the ledger than `Desk.LIMIT`."""


class Desk:
    """Runs calls on the ledger one at a time, at most `LIMIT` waiting."""

    LIMIT = 1000

    def __init__(self, open_ledger: Callable[[], Ledger]) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._ledger = self._thread.submit(open_ledger).result(timeout=30)
        self._waiting = 0

    async def run(self, call: Callable[[Ledger], T]) -> T:
        """`call(ledger)` on the ledger's thread; raises `TooBusy` at once when too many wait.

        A caller that is cancelled does not undo the call: it is recorded all the same, as at a real processor.
        """
        if self._waiting >= self.LIMIT:
            raise TooBusy(f"{self._waiting} calls wait for the ledger")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call, self._ledger)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._ledger.close)
        self._thread.shutdown(wait=False)
