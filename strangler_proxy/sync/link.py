"""Connections to the data databases, with a deadline on everything: a stopped server costs seconds, never a hang."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from strangler_proxy.core.errors import StranglerError

Link = psycopg.AsyncConnection[TupleRow]
T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60

# Both sides print values alike, whatever their defaults: verification compares text.
_CANONICAL = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=iso_8601 -c bytea_output=hex -c extra_float_digits=1 "
    "-c lc_monetary=C"
)


_POOLER_SAYS = "unsupported startup parameter"
_POOLED = (
    "is reached through a pooler, which loses session settings and notifications: "
    "STRANGLER_DATA_URL__NAME is to name the server itself (the application may stay behind the pooler)"
)
_REPLICA = "is a replica, and nothing can be written there: STRANGLER_DATA_URL__NAME is to name its primary"


class DataUnavailable(StranglerError):
    """A data database cannot be reached, or did not answer in time."""


class NotFit(DataUnavailable):
    """A data database was reached, and cannot be worked with: it is a replica, or behind a pooler."""


async def connect(dsn: str, *, application: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Link:
    """Open an autocommit connection; transactions are opened by name. Raises DataUnavailable, NotFit."""
    conninfo = make_conninfo(
        dsn,
        application_name=application,
        connect_timeout=max(2, round(timeout_s)),
        options=f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} -c lock_timeout=5000 "
        f"-c idle_in_transaction_session_timeout=60000 {_CANONICAL}",
        keepalives_idle=2,
        keepalives_interval=1,
        keepalives_count=3,
    )
    link: Link | None = None
    try:
        async with asyncio.timeout(timeout_s):
            link = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            unfit = await _unfit(link)
    except (TimeoutError, psycopg.OperationalError) as error:
        await close(link)
        if _POOLER_SAYS in str(error):
            raise NotFit(f"{name_of(dsn)} {_POOLED}") from error
        raise DataUnavailable(f"{name_of(dsn)} does not answer: {first_line(error) or 'timed out'}") from error
    except BaseException:
        await close(link)
        raise
    if unfit:
        await close(link)
        raise NotFit(f"{name_of(dsn)} {unfit}")
    return link


async def _unfit(link: Link) -> str:
    """Why a server that answers cannot be worked with; a pooler invents the process that it says to be."""
    row = await (await link.execute(b"SELECT pg_backend_pid(), pg_is_in_recovery()")).fetchone()
    if row is None or row[0] != link.info.backend_pid:
        return _POOLED
    return _REPLICA if row[1] else ""


async def within(seconds: float, work: Coroutine[Any, Any, T], *links: Link) -> T:
    """Await `work` on these connections at most so long; then, or when cancelled, end their sockets.

    Raises DataUnavailable after that time, and when a connection breaks. Other errors pass.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, seconds))
    except asyncio.CancelledError:
        await _give_up(task, links)
        raise
    if not done:
        await _give_up(task, links)
        raise DataUnavailable(f"no answer from the data databases within {max(0.0, seconds):.1f} s")
    try:
        return task.result()
    except psycopg.OperationalError as error:
        if any(link.closed for link in links):
            raise DataUnavailable(f"connection lost: {first_line(error)}") from error
        raise


async def _give_up(task: asyncio.Future[T], links: tuple[Link, ...]) -> None:
    for link in links:
        _shut(link)
    await asyncio.wait({task}, timeout=1.0)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
    if task.done() and not task.cancelled():
        task.exception()  # seen: the socket was ended under it


async def close(*links: Link | None) -> None:
    """Close connections, however broken."""
    for link in links:
        if link is not None and not link.closed:
            await link.close()


def _shut(link: Link) -> None:
    if link.closed:
        return
    try:
        with socket.socket(fileno=os.dup(link.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it was ended already


def name_of(dsn: str) -> str:
    """The database's name, for messages: a connection string may hold a password."""
    try:
        return f"database {psycopg.conninfo.conninfo_to_dict(dsn).get('dbname', '?')}"
    except psycopg.Error:
        return "the data database"


def first_line(error: BaseException) -> str:
    """The first line of a library's message."""
    return str(error).strip().partition("\n")[0]
