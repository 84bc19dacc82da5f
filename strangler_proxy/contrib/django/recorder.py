"""The recorder on Django's connections: which statements wrote, what was committed, and whether the fence was met.

It is put on each connection for good, and writes to the `FenceRecord` of the request under way, which follows the
code into threads of `sync_to_async`. On psycopg 3 the driver's connection is recorded too: COPY, raw cursors and
errors that never pass Django's own cursor are seen there.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.record import current, fence_in, may_write, written_table

_ATTRIBUTE = "_strangler_recorder"
_IN_ERROR = 3  # libpq's PQTRANS_INERROR


class FencedTransaction(DatabaseError):
    """The request met the fence: it writes no more, and its open transaction is rolled back.

    Raised at the next write or commit where the code went on after the fence. Do not catch it: the answer of this
    request is overridden by `FenceMiddleware`.
    """


class Recorder:
    """Facts of one connection's open transaction."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.wrote = False
        self.fenced = False
        self.driver_counts = False
        """The driver's connection is recorded too, and counts commits: it sees those that never pass Django."""

    def __repr__(self) -> str:
        return f"<Recorder {self.connection.alias} wrote={self.wrote} fenced={self.fenced}>"

    def execute(self, run: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Django's execute wrapper: around each statement of its cursors."""
        record = current.get()
        text = str(sql)
        writes = may_write(text)
        if writes and record is not None and record.refuses_writes:
            raise FencedTransaction("this request met the fence and writes no more")
        try:
            result = run(sql, params, many, context)
        except Exception as error:
            self.note_error(error)
            raise
        if writes and written_table(text) not in configuration().uncounted_tables:
            self.wrote = True
            if self.connection.get_autocommit():
                self.committed()
        return result

    def note_error(self, error: BaseException) -> None:
        """Put the fence, if this error is one, on the record of the request and on the open transaction."""
        met = fence_in(error)
        if met is None:
            return
        self.fenced = True
        record = current.get()
        if record is not None:
            record.meet(*met)

    def committed(self) -> None:
        """The open transaction was committed."""
        record = current.get()
        if self.wrote and record is not None and not self.driver_counts:
            record.commit(self.connection.alias)
        self.reset()

    def reset(self) -> None:
        """Nothing is open."""
        self.wrote = self.fenced = False

    def refuse_commit(self) -> Optional[str]:
        """Why the open transaction must not be committed; None where it may.

        Outside of a request (a task, a command) code may handle the fence in a savepoint and commit the rest; but
        where it was swallowed without one PostgreSQL rolls back at COMMIT and says nothing, and Django would run
        its `on_commit` functions.
        """
        record = current.get()
        if record is not None and record.refuses_writes:
            return "this request met the fence: its transaction is rolled back"
        if self.fenced and _transaction_status(self.connection) == _IN_ERROR:
            return "the fence was met in this transaction and swallowed: it is rolled back"
        return None


def on_connection_created(sender: Any, connection: BaseDatabaseWrapper, **_: object) -> None:
    """Receiver of Django's `connection_created`."""
    install(connection)


def install(connection: BaseDatabaseWrapper) -> Recorder:
    """Record on this connection from now on; safe to repeat (after each reconnect it is)."""
    recorder: Optional[Recorder] = getattr(connection, _ATTRIBUTE, None)
    if recorder is None:
        recorder = Recorder(connection)
        setattr(connection, _ATTRIBUTE, recorder)
        # first, so that it is outermost and that `execute_wrapper()` blocks pop their own
        connection.execute_wrappers.insert(0, recorder.execute)
        _wrap_ends(connection, recorder)
    recorder.reset()
    recorder.driver_counts = _record_driver(connection)
    return recorder


def _wrap_ends(connection: Any, recorder: Recorder) -> None:
    commit, rollback = connection._commit, connection._rollback

    def recorded_commit() -> Any:
        refusal = recorder.refuse_commit()
        if refusal is not None:
            raise FencedTransaction(refusal)
        try:
            result = commit()
        except Exception as error:  # a deferred trigger meets the fence here
            recorder.note_error(error)
            raise
        recorder.committed()
        return result

    def recorded_rollback() -> Any:
        recorder.reset()
        return rollback()

    connection._commit, connection._rollback = recorded_commit, recorded_rollback


def _transaction_status(connection: BaseDatabaseWrapper) -> int:
    info = getattr(connection.connection, "info", None)
    return int(getattr(info, "transaction_status", 0))


def _record_driver(connection: BaseDatabaseWrapper) -> bool:
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    try:
        from strangler_proxy.contrib.django import psycopg3
    except ImportError:  # psycopg2: Django's cursors are recorded, COPY through a raw cursor is not
        return False
    return psycopg3.record(connection.connection, connection.alias)
