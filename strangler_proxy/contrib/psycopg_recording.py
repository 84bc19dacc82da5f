"""The recorder for psycopg 3, sync and async: every error and every commit, however the code is written.

psycopg sends all that a connection does through `wait`, so a fence is seen there also where the code swallows the
error, in COPY, in pipelines and at COMMIT. Statements start in `_start_query`, psycopg's own transaction control goes
through `_exec_command`, whose command tag tells a commit from the rollback that PostgreSQL makes of a COMMIT in a
failed transaction. (The last two are psycopg's own names: tests/integration/test_contrib_starlette.py fails if they
go.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import psycopg

from strangler_proxy.contrib.record import current, fence_in, may_write, written_table

UNCOUNTED_TABLES: set[str] = set()
"""Tables whose writes do not count as committed (a session store): writing them twice is as good as once."""


class WriteRefused(psycopg.DatabaseError):
    """The request met the fence: a later write is not sent, a later commit is made a rollback."""


def note_error(error: BaseException) -> None:
    """Put the fence, if this error is one, on the record of the request under way."""
    record = current.get()
    met = fence_in(error) if record is not None else None
    if record is not None and met is not None:
        record.meet(*met)


def counts(sql: str) -> bool:
    """Is this a write that a replay would do a second time?"""
    return may_write(sql) and written_table(sql) not in UNCOUNTED_TABLES


class ConnectionRecorder:
    """Facts of one psycopg connection's open transaction; kept on it as `strangler_recorder`.

    Who makes it routes the connection's `wait` and `_exec_command` through `after` and `exec_command`. `name` is what
    commits are counted under; the database's own where it is empty.
    """

    def __init__(
        self, connection: Any, exec_command: Callable[..., Generator[Any, Any, Any]], *, name: str = ""
    ) -> None:
        self._connection = connection
        self._exec_command = exec_command
        self._name = name or connection.info.dbname
        self.wrote = False

    def __repr__(self) -> str:
        return f"<ConnectionRecorder wrote={self.wrote}>"

    def before(self, query: Any) -> None:
        """A statement is about to be sent; raises WriteRefused for a write once the fence was met."""
        record = current.get()
        text = text_of(query, self._connection)
        if record is not None and record.refuses_writes and may_write(text):
            raise WriteRefused("this request met the fence and writes no more")
        if counts(text):
            self.wrote = True

    def after(self, error: BaseException | None) -> None:
        """A round trip ended: note its fence, and what autocommit has committed."""
        if error is not None:
            note_error(error)
        if self.wrote and self._idle():
            self.wrote = False
            if error is None:
                self._note_commit()

    def exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        """psycopg's own transaction control: sees what became of a COMMIT, and refuses one after the fence."""
        word = text_of(command, self._connection).lstrip()[:8].upper()
        if not word.startswith("COMMIT"):
            result = yield from self._exec_command(command, *args, **kwargs)
            if word == "ROLLBACK" and self._idle():  # idle: the whole of it, not `ROLLBACK TO`
                self.wrote = False
            return result
        record = current.get()
        if record is not None and record.refuses_writes:
            yield from self._exec_command(b"ROLLBACK", *args, **kwargs)
            self.wrote = False
            raise WriteRefused("this request met the fence: its transaction was rolled back")
        result = yield from self._exec_command(command, *args, **kwargs)
        if self.wrote and getattr(result, "command_status", b"COMMIT") != b"ROLLBACK":
            self._note_commit()
        self.wrote = False
        return result

    def _idle(self) -> bool:
        return int(self._connection.pgconn.transaction_status) == 0

    def _note_commit(self) -> None:
        record = current.get()
        if record is not None:
            record.commit(self._name)


class CursorRecording:
    """Mixin before a psycopg cursor class: tells the connection's recorder, and its sandbox, of each statement."""

    def _start_query(self, query: Any = None) -> Generator[Any, Any, Any]:
        parent: Any = super()
        recorder = getattr(parent.connection, "strangler_recorder", None)
        if query is not None and recorder is not None:
            recorder.before(query)
        sandbox = getattr(parent.connection, "strangler_sandbox", None)
        if sandbox is not None:
            yield from sandbox.before(query)
        return (yield from parent._start_query(query))

    def _start_copy_gen(self, statement: Any, params: Any = None) -> Generator[Any, Any, Any]:
        parent: Any = super()
        sandbox = getattr(parent.connection, "strangler_sandbox", None)
        if sandbox is not None:
            sandbox.check(statement)
        return (yield from parent._start_copy_gen(statement, params))


def text_of(query: Any, connection: Any) -> str:
    """The text of a query as psycopg takes them: text, bytes, or a composition."""
    if isinstance(query, str):
        return query
    if isinstance(query, (bytes, bytearray)):
        return bytes(query).decode("utf-8", "replace")
    as_string = getattr(query, "as_string", None)
    return str(as_string(connection)) if as_string is not None else str(query)
