"""Connections with a deadline: a database that is away, stopped or black-holed costs seconds, never a hang."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from strangler_proxy.core.errors import StoreUnavailable

Connection = psycopg.AsyncConnection[DictRow]
T = TypeVar("T")

AWAY_COMMAND = "strangler ps"
MIGRATE_COMMAND = "strangler control --migrate-only"


class Database:
    """A few connections to one database, opened when needed and reused.

    `timeout_s` bounds everything of one call: waiting for a free connection, connecting, the queries, the commit.
    Past it the socket is shut down (a stopped server does not even answer a cancel request) and the call raises
    StoreUnavailable. There is no back-off: a server that returns is used by the next call.
    """

    def __init__(self, dsn: str, *, size: int = 4, timeout_s: float = 2.0, application: str = "strangler") -> None:
        self.timeout_s = timeout_s
        self._dsn = make_conninfo(
            dsn,
            application_name=application,
            connect_timeout=max(2, round(timeout_s)),
            options=f"-c statement_timeout={int(timeout_s * 1000)} -c idle_in_transaction_session_timeout=10000",
            keepalives_idle=2,
            keepalives_interval=1,
            keepalives_count=3,
        )
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float | None = None) -> T:
        """Do `work` in one transaction. Raises StoreUnavailable when the database is away or too slow.

        Errors that `work` raises on purpose roll back and pass through. An outage after COMMIT was sent is reported
        as an outage too: the caller cannot know, and has to look.
        """
        limit = self.timeout_s if timeout_s is None else timeout_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"all connections to the control database are busy for {limit:g} s") from None
        try:
            connection = await self._checkout(deadline)
            try:
                return await bounded(connection, _transact(connection, work), deadline - loop.time())
            finally:
                await self._return(connection)
        finally:
            self._free.release()

    async def connect(self, deadline: float | None = None) -> Connection:
        """A connection of its own (for LISTEN); the caller closes it. Raises StoreUnavailable."""
        at = asyncio.get_running_loop().time() + self.timeout_s if deadline is None else deadline
        try:
            async with asyncio.timeout_at(at):
                return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, row_factory=dict_row)
        except (TimeoutError, psycopg.Error) as error:
            raise StoreUnavailable(
                f"the control database does not answer: {first_line(error) or 'timed out'}", next_command=AWAY_COMMAND
            ) from error

    async def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _checkout(self, deadline: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if _usable(connection):
                return connection
            await connection.close()
        return await self.connect(deadline)

    async def _return(self, connection: Connection) -> None:
        if self._closed or not _usable(connection):
            await connection.close()
        else:
            self._idle.append(connection)


async def bounded(connection: Connection, work: Awaitable[T], seconds: float) -> T:
    """Await `work` on a connection at most so long; then, or when cancelled, shut its socket down and raise."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, seconds))
    except asyncio.CancelledError:
        _shut(connection)
        await asyncio.wait({task}, timeout=1.0)
        task.cancel()
        raise
    if not done:
        _shut(connection)
        await asyncio.wait({task}, timeout=1.0)
        task.cancel()
        if task.done() and not task.cancelled():
            task.exception()
        raise StoreUnavailable(
            f"the control database did not answer within {max(0.0, seconds):.1f} s", next_command=AWAY_COMMAND
        )
    try:
        return task.result()
    except psycopg.errors.InsufficientPrivilege:
        raise
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise StoreUnavailable(
            f"the control database has no schema yet: {first_line(error)}", next_command=MIGRATE_COMMAND
        ) from error
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            f"the control database failed: {first_line(error)}", next_command=AWAY_COMMAND
        ) from error


async def _transact(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
    async with connection.transaction():
        return await work(connection)


def _usable(connection: Connection) -> bool:
    """Open, not in a transaction, and nothing to read: an idle connection that is readable has been ended."""
    if connection.closed or connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _shut(connection: Connection) -> None:
    """End the socket under a connection: whoever waits on it sees the end of the stream at once."""
    if connection.closed:
        return
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it was ended already


def first_line(error: BaseException) -> str:
    """The first line of a library's message: the rest repeats it per address."""
    return str(error).strip().partition("\n")[0]


Row = dict[str, Any]
