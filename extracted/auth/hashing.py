"""Password hashing off the event loop, in a bounded pool with a bounded queue.

A hash takes milliseconds of CPU. On the event loop it would stop every other request; in an unbounded pool a
burst of sign-ins would queue without end. Here at most `threads` run, at most `waiting` wait, and the next one
is refused at once, so that the client may come again (503 with Retry-After). hashlib and argon2 release the GIL.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from prometheus_client import Counter, Gauge

from extracted.auth import passwords

T = TypeVar("T")

REFUSED = Counter("auth_hashing_refused_total", "Password hashes refused because the queue was full")
ADMITTED = Gauge("auth_hashing_admitted", "Password hashes running or waiting")


class HashingBusy(Exception):
    """The queue is full. Nothing was done; try again in a second."""


class HashingPool:
    """Django's password formats, computed on threads.

    `iterations` of `pbkdf2_sha256` for new passwords. A request that is cancelled while it waits gives its place
    up; one that is running keeps it until its thread is done.
    """

    def __init__(self, *, threads: int, waiting: int, iterations: int) -> None:
        self._places = threading.BoundedSemaphore(threads + waiting)
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hashing")
        self._iterations = iterations

    async def encode(self, password: str) -> str:
        """The encoded form of a new password; raises `HashingBusy`."""
        return await self._run(lambda: passwords.encode(password, iterations=self._iterations))

    async def verify(self, password: str, encoded: str | None) -> bool:
        """Whether it is that password; None, for no account, is False in the same time. Raises `HashingBusy`."""
        stored = "!" if encoded is None else encoded
        return await self._run(lambda: passwords.verify(password, stored, iterations=self._iterations))

    def close(self) -> None:
        """Let the running ones finish; those that wait are cancelled."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            REFUSED.inc()
            raise HashingBusy
        ADMITTED.inc()
        try:
            future = self._threads.submit(work)
        except BaseException:
            self._give_place_up()
            raise
        # The place belongs to the work, not to the caller: a cancelled caller does not stop its thread.
        future.add_done_callback(self._give_place_up)
        return await asyncio.wrap_future(future)

    def _give_place_up(self, _done: Future[T] | None = None) -> None:
        ADMITTED.dec()
        self._places.release()
