"""A pool of connections that gives a mirrored request of shadow mode one connection, and takes everything back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from psycopg_pool import AsyncConnectionPool, PoolTimeout

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.shadow_capture import Capture, NotCaptured, current
from strangler_proxy.contrib.starlette.connection import RecordingAsyncConnection

_PINS = "starlette pins"
_STATE = f"{shadow_rows.GUARD_EXISTS}, current_setting('transaction_read_only') = 'on'"


class GuardMissing(NotCaptured):
    """This database cannot hold a mirrored request: the guard was never installed (`strangler sync`, `schema_sql`)."""


class CapturingAsyncConnectionPool(AsyncConnectionPool[Any]):
    """psycopg's pool; `connection_class` must be `RecordingAsyncConnection` (the default here) or made from it.

    Outside of a mirrored request it is psycopg's. Within one, every `connection()` is the same connection, in one
    transaction that never commits, one user at a time: a task that waits for another task of the same request, while it
    holds the connection that the other one needs, waits for the pool's time-out. Nested use by one task is a savepoint.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("connection_class", RecordingAsyncConnection)
        super().__init__(*args, **kwargs)

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """See psycopg_pool."""
        capture = current.get()
        if capture is None or not capture.mirrors:
            async with super().connection(timeout) as connection:
                yield connection
            return
        capture.refuse_when_ended("the database")
        pin: _Pin = capture.kept(_PINS, dict).setdefault(id(self), _Pin(self, capture))
        async with pin.used(self.timeout if timeout is None else timeout) as connection:
            yield connection

    async def getconn(self, timeout: float | None = None) -> Any:
        """See psycopg_pool; refused in a mirrored request: use `connection()`."""
        capture = current.get()
        if capture is not None and capture.mirrors:
            raise NotCaptured("pool.getconn(); use pool.connection()")
        return await super().getconn(timeout)


class _Pin:
    """The one connection that a mirrored request has of one pool."""

    def __init__(self, pool: CapturingAsyncConnectionPool, capture: Capture) -> None:
        self._pool = pool
        self._capture = capture
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self._connection: RecordingAsyncConnection | None = None
        self._ready = False

    @asynccontextmanager
    async def used(self, timeout_s: float) -> AsyncIterator[RecordingAsyncConnection]:
        if self._holder is asyncio.current_task() and self._connection is not None and self._ready:
            async with self._connection.transaction():
                yield self._connection
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._lock.acquire()
        except TimeoutError:
            raise PoolTimeout("another task of this mirrored request holds its connection") from None
        try:
            self._holder = asyncio.current_task()
            connection = await self._take(timeout_s)
            async with connection:  # commits or rolls back, and leaves a pool's connection open
                yield connection
            await connection.settle_sandbox()
        finally:
            self._holder = None
            self._lock.release()

    async def _take(self, timeout_s: float) -> RecordingAsyncConnection:
        if self._connection is not None:
            if not self._ready:
                raise GuardMissing("the first use of this database in the mirrored request failed")
            return self._connection
        with _unmarked():
            connection: RecordingAsyncConnection = await self._pool.getconn(timeout_s)
            self._connection = connection
            row = await (await connection.execute(_STATE)).fetchone()
            await connection.rollback()
        guarded, read_only = row or (False, False)
        if not guarded:
            self._capture.unproven("guard_missing")
            raise GuardMissing("the guard of mirrored requests is not installed in this database")
        await connection.enter_sandbox(self._capture, read_only=read_only)
        self._ready = True
        return connection

    async def end(self) -> None:
        """Roll back and give the connection back; it is closed where that fails."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with _unmarked():
            try:
                await connection.leave_sandbox()
            finally:
                await self._pool.putconn(connection)


async def end_all(capture: Capture) -> None:
    """End what a mirrored request has open in all pools. Each is tried; raises the last failure."""
    failure: BaseException | None = None
    for pin in list(capture.kept(_PINS, dict).values()):
        try:
            await pin.end()
        except BaseException as error:  # noqa: BLE001  (raised below, once all are ended)
            failure = error
    if failure is not None:
        raise failure


@contextmanager
def _unmarked() -> Iterator[None]:
    """Within it, what the pool does for itself is not the mirrored request's."""
    token = current.set(None)
    try:
        yield
    finally:
        current.reset(token)
