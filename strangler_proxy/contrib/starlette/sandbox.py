"""A connection of a mirrored request: one real transaction that never commits, below the one that the code sees.

The code commits and rolls back as always. Below it there is one savepoint, where the last committed state would be:

    the code commits: deferred constraints are checked, rows are noted, the savepoint moves up
    the code rolls back, or a statement in autocommit fails: back to the savepoint
    the request ends: the real transaction is rolled back

The transaction holds the guard's row (`contrib.shadow_rows`): were it committed by a way that is not seen here, the
database would refuse. A statement that would end the transaction itself is refused before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.psycopg_recording import text_of
from strangler_proxy.contrib.shadow_capture import Capture, NotCaptured

Commands = Generator[Any, Any, Any]

_POINT = b"strangler_point"
_QUOTED = re.compile(
    r"--[^\n]*|/\*.*?\*/|\b[eE]'(?:\\.|''|[^'\\])*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$",
    re.DOTALL,
)
_ENDS = re.compile(
    r"\s*(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b)"
    r"|SET\s+CONSTRAINTS\s+ALL\s+IMMEDIATE)\b",
    re.IGNORECASE,
)
_SAVEPOINT = re.compile(r"\s*(SAVEPOINT|RELEASE(?:\s+SAVEPOINT)?)\s+(.+?)\s*\Z", re.IGNORECASE | re.DOTALL)


class LostTransaction(psycopg.OperationalError):
    """The never-committing transaction is gone: nothing more is sent on this connection in this request."""


class Sandbox:
    """Facts of one pinned connection. `exec_command` is psycopg's own."""

    def __init__(self, connection: Any, capture: Capture, exec_command: Any) -> None:
        self.capture = capture
        self._connection = connection
        self._exec = exec_command
        self._outermost: str | None = None
        self._open = False
        self._alone = False

    def __repr__(self) -> str:
        return f"<Sandbox open={self._open} of {self.capture!r}>"

    def begin(self, *, read_only: bool) -> Commands:
        """Open the transaction, with the guard's row as its first deed; `read_only`: the database refuses by itself."""
        yield from self._exec(b"BEGIN ISOLATION LEVEL READ COMMITTED")
        if not read_only:
            yield from self._exec(shadow_rows.ARM.encode())
        yield from self._exec(shadow_rows.ARM_SETTINGS.encode())
        rows = self.capture.recorded_rows_json()
        if rows and not read_only:
            rewind = sql.SQL(shadow_rows.REWIND.replace("%s", "{}")).format(sql.Literal(rows))
            yield from self._exec(rewind)
        yield from self._exec(b"SAVEPOINT " + _POINT)

    def leave(self) -> Commands:
        """Roll back; also what outlives a transaction."""
        yield from self._exec(b"ROLLBACK")
        yield from self._exec(b"SELECT pg_advisory_unlock_all()")

    def before(self, query: Any) -> Commands:
        """A statement is about to be sent; `query` is None for COPY, see `check`."""
        self.capture.refuse_when_ended("the database")
        connection = self._connection
        if query is not None:
            self.check(query)
        if connection._pipeline is not None:
            self._open = True  # executemany: within the transaction, and nothing else may be sent in between
            return
        self._must_be_there()
        if connection.autocommit and not self._open:
            if self._alone:
                yield from self._settle()
            self._alone = True
        else:
            self._open = True

    def check(self, query: Any) -> None:
        """Raise NotCaptured for a text that would end the transaction itself."""
        text = text_of(query, self._connection)
        for statement in _QUOTED.sub(" ", text).split(";"):
            if _ENDS.match(statement):
                word = " ".join(statement.split()[:2]).upper()
                self.capture.note("refused", {"what": f"SQL {word}"})
                raise NotCaptured(f"SQL {word}, which would end the transaction; use the connection's own methods")

    def command(self, command: Any, *args: Any, **kwargs: Any) -> Commands:
        """psycopg's own transaction control, as it is meant."""
        if self._connection._pipeline is not None:
            raise NotCaptured("transaction control in pipeline mode")
        self.capture.refuse_when_ended("the database")
        self._must_be_there()
        text = text_of(command, self._connection)
        word = text.lstrip()[:8].upper()
        if word == "COMMIT":
            return (yield from self._commit())
        if word == "ROLLBACK" and " TO " not in text.upper():
            return (yield from self._back())
        if word.startswith("BEGIN"):
            self._open = True
            return None
        if word.startswith("PREPARE "):
            raise NotCaptured("a two-phase commit")
        return (yield from self._savepoint(text, command, *args, **kwargs))

    def _savepoint(self, text: str, command: Any, *args: Any, **kwargs: Any) -> Commands:
        """`connection.transaction()` outside of a transaction is one, though psycopg sees a nested one here."""
        found = _SAVEPOINT.match(text)
        releases = found is not None and not found.group(1).upper().startswith("SAVEPOINT")
        if found is not None and not releases and not self._open:
            if self._alone:
                yield from self._settle()
            self._open, self._outermost = True, found.group(2)
        result = yield from self._exec(command, *args, **kwargs)
        if found is not None and releases and found.group(2) == self._outermost:
            yield from self._commit()
        return result

    def _commit(self) -> Commands:
        if self._failed():  # PostgreSQL rolls back at the COMMIT of a failed transaction, and says nothing
            return (yield from self._back())
        yield from self._exec(shadow_rows.CHECK_DEFERRED.encode())
        result = yield from self._exec(shadow_rows.READ_ROWS.encode())
        self.capture.note_rows(_first(result))
        yield from self._advance()

    def _back(self) -> Commands:
        self._rest()
        return (yield from self._exec(b"ROLLBACK TO SAVEPOINT " + _POINT))

    def _settle(self) -> Commands:
        """What the statement before, in autocommit, has become by now."""
        yield from self._back() if self._failed() else self._commit()

    def _advance(self) -> Commands:
        self._rest()
        yield from self._exec(b"RELEASE SAVEPOINT " + _POINT)
        yield from self._exec(b"SAVEPOINT " + _POINT)

    def settle(self) -> Commands:
        """The code gives the connection back: the last statement in autocommit counts."""
        if self._alone and self._connection.pgconn.transaction_status != TransactionStatus.IDLE:
            yield from self._settle()

    def _rest(self) -> None:
        self._open = self._alone = False
        self._outermost = None

    def _failed(self) -> bool:
        return bool(self._connection.pgconn.transaction_status == TransactionStatus.INERROR)

    def _must_be_there(self) -> None:
        if self._connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self.capture.unproven("transaction_lost")
            raise LostTransaction("the transaction of this mirrored request has ended")


def _first(result: Any) -> str | None:
    value = result.get_value(0, 0) if result is not None and result.ntuples else None
    return None if value is None else bytes(value).decode()


def record_begun(exec_command: Any) -> Commands:
    """In the role `record`: have the transaction that has just begun note its rows."""
    yield from exec_command(shadow_rows.RECORD_SETTINGS.encode())


def record_ending(exec_command: Any) -> Generator[Any, Any, str | None]:
    """In the role `record`: what the transaction noted, read before its COMMIT."""
    return _first((yield from exec_command(shadow_rows.READ_ROWS.encode())))
