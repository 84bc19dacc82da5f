"""A transaction that never commits, below Django's own: what a mirrored request does to a database.

Django goes on as always: autocommit, `atomic` (durable too), savepoints, `on_commit`, manual commits. Below it the
connection holds one real transaction, with one savepoint where the last committed state would be:

    Django commits, or a write in autocommit succeeds: deferred constraints are checked, the savepoint moves up
    Django rolls back, or a statement in autocommit fails: back to the savepoint
    the request ends: the real transaction is rolled back

So an error in autocommit does not break what follows, `on_commit` runs where Django runs it, and a violated deferred
constraint is told at the commit that would have told it. What differs is listed in docs/how-to/shadow-writes.md.
"""

from __future__ import annotations

import re
import threading
from typing import Any, Callable, Optional

from django.db.backends.base.base import BaseDatabaseWrapper

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.django import shadow_database, shadow_driver
from strangler_proxy.contrib.django.shadow_recording import RowRecorder
from strangler_proxy.contrib.record import may_write
from strangler_proxy.contrib.shadow_capture import Capture, current, refusal

VENDORS = frozenset({"postgresql", "mysql", "sqlite"})
"""Databases with savepoints in one form. On the first the database itself refuses to commit; see `shadow_database`."""

_ATTRIBUTE = "_strangler_sandbox"
_POINT = "strangler_point"
_IDLE, _IN_ERROR = 0, 3  # libpq's PQTRANS_IDLE, PQTRANS_INERROR
_KEPT = "sandboxes"

_CONTROL = re.compile(
    r"\s*(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT)(?:\s+(?:WORK|TRANSACTION))?\s*;?\s*\Z", re.IGNORECASE
)
_ALL_IMMEDIATE = re.compile(r"\s*SET\s+CONSTRAINTS\s+ALL\s+IMMEDIATE\s*;?\s*\Z", re.IGNORECASE)


class Sandbox:
    """One connection's never-committing transaction; idle but for mirrored requests. Kept on the connection."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection: Any = connection
        self.capture: Optional[Capture] = None
        self.guarded = False
        """Does the database itself refuse to commit?"""
        self._nested = False
        self._manual = False
        self._wrote = False
        self._due = False
        self._busy = False
        self._connecting = False
        self._own: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        return f"<Sandbox {self.connection.alias} of={self.capture}>"

    def active(self) -> bool:
        """Is this for a mirrored request? What an earlier one has left open (in another thread) is ended here."""
        capture = current.get()
        if capture is not None and not capture.mirrors:
            capture = None
        if self.capture is not None and self.capture is not capture:
            self.leave()
            self.connection.ensure_connection()
        return capture is not None and not capture.ended and not self._connecting and not self._busy

    def refuse_when_ended(self) -> None:
        """Raise NotCaptured in what a mirrored request has left behind: a task, a thread of its own."""
        capture = current.get()
        if capture is not None and not self._busy:
            capture.refuse_when_ended("a statement")

    def enter(self) -> None:
        """Begin the transaction, unless it is open. The connection is established."""
        if self.capture is not None:
            return
        connection = self.connection
        if connection.vendor not in VENDORS or not connection.features.uses_savepoints:
            raise refusal(f"a database of {connection.vendor}")
        capture = current.get()
        assert capture is not None
        self._nested = connection.in_atomic_block or not connection.autocommit
        self._manual = self._wrote = self._due = False
        self.capture = capture
        capture.kept(_KEPT, list).append(self)
        try:
            if not self._nested:
                self._begin()
            self.guarded = shadow_database.arm(self, capture, _POINT)
            shadow_driver.watch(connection.connection, self, on=True)
        except BaseException as error:
            self._in_the_way(error, capture)
            self.leave()
            raise

    def _in_the_way(self, error: BaseException, capture: Capture) -> None:
        if shadow_rows.in_the_way(error):
            capture.unproven(shadow_rows.IN_THE_WAY)

    def leave(self) -> None:
        """Roll back; the connection is as it was before the request, or closed. Raises nothing of the database's."""
        self.capture = None
        connection = self.connection
        connection.run_on_commit = []
        if connection.connection is None:
            return
        shadow_driver.watch(connection.connection, self, on=False)
        try:
            if self._nested:
                self.run(f"ROLLBACK TO SAVEPOINT {_POINT}")
            elif connection.in_atomic_block:
                self._drop()
            else:
                with self._internally():
                    connection.connection.rollback()
                    self._own["_set_autocommit"](True)
        except Exception:  # noqa: BLE001  (whatever it is: a closed connection has rolled back)
            self._drop()

    def execute(self, run: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Django's execute wrapper: around each statement of its cursors."""
        self.refuse_when_ended()
        if not self.active():
            return run(sql, params, many, context)
        self.enter()
        if self.guarded and self._lost():
            raise refusal("the transaction was ended below Django")
        text = str(sql)
        control = _CONTROL.match(text)
        if control is not None:
            return self._control(control.group(1).upper())
        if shadow_driver.ends_transaction(text):
            raise refusal("a statement that ends the transaction itself")
        if _ALL_IMMEDIATE.match(text):
            return shadow_database.check_deferred(self)
        by_itself = self.connection.autocommit and not self._manual
        if by_itself:
            self.settle()
        try:
            result = run(sql, params, many, context)
        except Exception as error:
            if self.capture is not None:
                self._in_the_way(error, self.capture)
            if by_itself:
                self.back()
            raise
        if may_write(text) or text == shadow_rows.NOTE:
            self._wrote = True
            if by_itself:
                self._commit_statement()
        return result

    def commit(self) -> None:
        """What Django's commit does instead; raises the database's errors for violated deferred constraints."""
        if self.connection.connection is None:
            return
        self.enter()
        if self.in_error():
            self.back()  # PostgreSQL rolls back at the COMMIT of a failed transaction, and says nothing
            return
        self._advance()

    def back(self) -> None:
        """What Django's rollback does instead."""
        if self.connection.connection is None:
            return
        self.enter()
        self._wrote = self._due = False
        self.run(f"ROLLBACK TO SAVEPOINT {_POINT}")

    def settle(self) -> None:
        """Before a statement in autocommit, or a transaction: nothing of what was before stands in its way."""
        self.enter()
        if self.in_error():
            self.back()
        elif self._due:
            self._advance()

    def close(self) -> None:
        """What Django's close does instead: a real one would lose what the request has "committed"."""
        if self.connection.in_atomic_block:
            self.capture = None
            self._own["close"]()
            return
        self.connection.run_on_commit = []
        if self.connection.connection is not None and self.capture is not None:
            self.back()

    def create_cursor(self, name: Optional[str] = None) -> Any:
        """Django's cursors are made here: what a view does with the driver's cursor below is within the sandbox."""
        self.enter()
        return self._own["create_cursor"](name)

    def connecting(self, connect: Callable[[], Any]) -> Callable[[], Any]:
        """A new connection has nothing open, and is made ready as always."""

        def wrapper() -> Any:
            self.capture, self._connecting = None, True
            try:
                return connect()
            finally:
                self._connecting = False

        return wrapper

    def disconnect(self) -> None:
        """End it from another thread: the server rolls back, and the thread finds a closed connection."""
        driver = self.connection.connection
        if driver is not None:
            driver.close()

    def in_error(self) -> bool:
        """Has a statement failed, so that PostgreSQL takes no other one?"""
        info = getattr(self.connection.connection, "info", None)
        return int(getattr(info, "transaction_status", 0)) == _IN_ERROR

    def _lost(self) -> bool:
        info = getattr(self.connection.connection, "info", None)
        return int(getattr(info, "transaction_status", 1)) == _IDLE

    def run(self, sql: str, params: Optional[list[Any]] = None, *, rows: bool = False) -> list[tuple[Any, ...]]:
        """Run a statement of our own on the driver's connection; its rows where `rows` asks for them."""
        connection = self.connection
        with self._internally(), connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(sql) if params is None else cursor.execute(sql, params)
                return list(cursor.fetchall()) if rows else []
            finally:
                cursor.close()

    def _internally(self) -> _Busy:
        return _Busy(self)

    def _begin(self) -> None:
        if self.connection.vendor == "sqlite":
            self.run("BEGIN")
        else:
            with self._internally():
                self._own["_set_autocommit"](False)

    def _drop(self) -> None:
        """Close for good, whatever Django thinks is open on it."""
        connection = self.connection
        connection.in_atomic_block = connection.needs_rollback = connection.closed_in_transaction = False
        connection.savepoint_ids, connection.atomic_blocks = [], []
        with self._internally():
            try:
                self._own["close"]()
            except Exception:  # noqa: BLE001  (it was broken before)
                connection.connection = None

    def _control(self, word: str) -> None:
        if word.startswith(("BEGIN", "START")):
            self._manual = True
            return
        self._manual = False
        if word in ("COMMIT", "END"):
            self.commit()
        else:
            self.back()

    def _commit_statement(self) -> None:
        if self.connection.vendor == "sqlite":
            self._due = True  # its rows may still be unread, and a savepoint cannot move then
            return
        try:
            self._advance()
        except Exception:
            self.back()
            raise

    def _advance(self) -> None:
        if self._wrote and self.capture is not None:
            shadow_database.committing(self, self.capture)
        self._wrote = self._due = False
        for statement in (f"RELEASE SAVEPOINT {_POINT}", f"SAVEPOINT {_POINT}"):
            self.run(statement)


class _Busy:
    """Within it the sandbox's own work passes below its own wrappers."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._before = False

    def __enter__(self) -> None:
        self._before, self._sandbox._busy = self._sandbox._busy, True

    def __exit__(self, *_: object) -> None:
        self._sandbox._busy = self._before


def install(connection: BaseDatabaseWrapper) -> Sandbox:
    """Have this connection kept from committing in mirrored requests; safe to repeat (after each reconnect it is)."""
    sandbox: Optional[Sandbox] = getattr(connection, _ATTRIBUTE, None)
    if sandbox is None:
        sandbox = Sandbox(connection)
        setattr(connection, _ATTRIBUTE, sandbox)
        rows = RowRecorder(connection)
        connection.execute_wrappers[1:1] = [sandbox.execute, rows.execute]  # within the recorder of the fence
        _wrap(connection, sandbox, rows)
    shadow_driver.gate(connection.connection, sandbox)
    return sandbox


def leave_all(capture: Capture) -> None:
    """End what a mirrored request has open, in the thread that ran it; what other threads have open is closed."""
    for sandbox in capture.kept(_KEPT, list):
        if sandbox.capture is not capture:
            continue
        if sandbox.connection._thread_ident == threading.get_ident():
            sandbox.leave()
        else:
            sandbox.disconnect()


def installed(connection: BaseDatabaseWrapper) -> bool:
    """Is this connection kept from committing in mirrored requests?"""
    return isinstance(getattr(connection, _ATTRIBUTE, None), Sandbox)


def _wrap(connection: Any, sandbox: Sandbox, rows: RowRecorder) -> None:
    """Put the sandbox below Django's transaction control; what is not for a mirrored request passes through."""

    def instead(name: str, do: Callable[..., Any], otherwise: Optional[Callable[..., Any]] = None) -> None:
        own = getattr(connection, name)
        sandbox._own[name] = own

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if sandbox.active():
                return do(*args, **kwargs)
            return own(*args, **kwargs) if otherwise is None else otherwise(own, *args, **kwargs)

        setattr(connection, name, wrapper)

    instead("_commit", sandbox.commit, rows.commit)
    instead("_rollback", sandbox.back, rows.rollback)
    instead("_set_autocommit", lambda autocommit: sandbox.settle())
    instead("close", sandbox.close)
    instead("create_cursor", sandbox.create_cursor)
    if hasattr(connection, "_start_transaction_under_autocommit"):
        instead("_start_transaction_under_autocommit", sandbox.settle)
    connection.connect = sandbox.connecting(connection.connect)
