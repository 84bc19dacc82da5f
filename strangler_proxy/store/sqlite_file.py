"""One SQLite file, used from an event loop: a thread of its own, a deadline for each call, other writers waited for."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.store.queries import queries

APPLICATION: Final = 0x53747267
"""SQLite's `application_id` of a file that is ours."""
SCHEMA_VERSION: Final = 1
_BUSY_PART: Final = 0.8
_WAIT_S: Final = 0.02

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class SqliteFile:
    """Runs work in transactions, one after the other. Every call raises StoreUnavailable past `timeout_s`.

    A call that was given up goes on in its thread until it ends; the next one waits for it.
    """

    def __init__(self, path: Path, *, timeout_s: float, create: bool) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._create = create
        self._turn = asyncio.Semaphore(1)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evidence")
        self._open: sqlite3.Connection | None = None
        self._inode: int | None = None

    async def read(self, work: Work[T]) -> T:
        """One snapshot."""
        return await self._run("BEGIN", work)

    async def write(self, work: Work[T]) -> T:
        """One transaction that has the lock from its beginning, so that it cannot fail half way for another writer."""
        return await self._run("BEGIN IMMEDIATE", work)

    async def close(self) -> None:
        """Idempotent."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turn.acquire()
                await asyncio.get_running_loop().run_in_executor(self._thread, self._shut)
                self._turn.release()
        except TimeoutError:
            self._interrupt()
        self._thread.shutdown(wait=False)

    async def _run(self, begin: str, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turn.acquire()
                done = loop.run_in_executor(self._thread, self._transact, begin, work)
                done.add_done_callback(self._ended)
                return await asyncio.shield(done)
        except TimeoutError:
            self._interrupt()
            raise StoreUnavailable(
                f"the evidence file {self._path} did not answer within {self._timeout_s:g} s"
            ) from None
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the evidence file {self._path} failed: {error}") from error

    def _ended(self, done: asyncio.Future[T]) -> None:
        self._turn.release()
        if not done.cancelled():
            done.exception()  # a caller that has gone does not ask for it

    def _interrupt(self) -> None:
        if self._open is not None:
            self._open.interrupt()

    def _transact(self, begin: str, work: Work[T]) -> T:
        connection = self._connected()
        try:
            connection.execute(begin)
            found = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return found

    def _connected(self) -> sqlite3.Connection:
        """The open connection; another one where the file was removed or replaced meanwhile."""
        if self._open is not None:
            if _inode(self._path) == self._inode:
                return self._open
            self._shut()
        connection = self._opened()
        self._open, self._inode = connection, _inode(self._path)
        return connection

    def _opened(self) -> sqlite3.Connection:
        if self._create:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not self._path.is_file():
            raise StoreUnavailable(
                f"there is no evidence file {self._path}",
                next_command=f"strangler serve --upstream URL --candidate URL --shadow 100% --evidence {self._path}",
            )
        writable = self._create or (os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK))
        mode = "mode=rw" if writable else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=self._timeout_s * _BUSY_PART,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.row_factory = sqlite3.Row
            if writable:
                self._patiently(lambda: _prepare(connection))
            _check(connection, self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _patiently(self, work: Callable[[], None]) -> None:
        """Switching a new file to WAL does not wait for other processes that do the same by itself."""
        end = time.monotonic() + self._timeout_s * _BUSY_PART
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_WAIT_S)

    def _shut(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _prepare(connection: sqlite3.Connection) -> None:
    known = _mark(connection)
    if known == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in queries("evidence_sqlite")["schema"].decode().split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if _mark(connection) != APPLICATION:
        raise StoreUnavailable(f"{path} is an SQLite file of something else: name another file for the evidence")
    if version != SCHEMA_VERSION:
        raise StoreUnavailable(
            f"the evidence in {path} has version {version}, and this release reads {SCHEMA_VERSION}: use a newer one"
        )


def _mark(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
