"""psycopg's AsyncConnection with the recorder: pass it as `connection_class` to a pool.

With `pool.CapturingAsyncConnectionPool` a mirrored request of shadow mode runs on it too, in a `sandbox.Sandbox`.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, AsyncCursor, AsyncServerCursor
from psycopg.pq import TransactionStatus

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.psycopg_recording import ConnectionRecorder, CursorRecording, text_of
from strangler_proxy.contrib.shadow_capture import Capture, NotCaptured, current
from strangler_proxy.contrib.starlette import sandbox

_MARK = "_strangler_captures"


class RecordingAsyncCursor(CursorRecording, AsyncCursor[Any]):
    """A cursor whose statements are recorded."""


class RecordingAsyncClientCursor(CursorRecording, AsyncClientCursor[Any]):
    """The same for client-side binding."""


class RecordingAsyncServerCursor(CursorRecording, AsyncServerCursor[Any]):
    """The same for named cursors."""


class RecordingAsyncConnection(psycopg.AsyncConnection[Any]):
    """Notes on the request's `FenceRecord` which writes were committed and whether the fence was met.

    In a recorded request of shadow mode it notes the rows of what was committed. In a mirrored one nothing is sent
    unless the connection is pinned to it (`enter_sandbox`). Where a cursor class of your own is used, put
    `psycopg_recording.CursorRecording` before its base.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parent: Any = super()
        self.strangler_recorder = ConnectionRecorder(self, parent._exec_command)
        self.strangler_sandbox: sandbox.Sandbox | None = None
        self.cursor_factory = RecordingAsyncCursor
        self.server_cursor_factory = RecordingAsyncServerCursor

    async def enter_sandbox(self, capture: Capture, *, read_only: bool = False) -> None:
        """Begin the transaction of a mirrored request, which never commits. The connection is idle.

        `read_only`: a replica, or a role that only reads. There the guard cannot be had, and is not needed.
        """
        parent: Any = super()
        made = sandbox.Sandbox(self, capture, parent._exec_command)
        try:
            await self._strangler_run(made.begin(read_only=read_only))
        except BaseException as error:
            if shadow_rows.in_the_way(error):
                capture.unproven(shadow_rows.IN_THE_WAY)
            self.pgconn.finish()
            raise
        self.strangler_sandbox = made

    async def leave_sandbox(self) -> None:
        """Roll back and be an ordinary connection again; the connection is closed where that fails."""
        left, self.strangler_sandbox = self.strangler_sandbox, None
        try:
            if left is not None and not self.closed:
                await self._strangler_run(left.leave())
                self._prepared.clear()
        except BaseException:
            self.pgconn.finish()  # at once, and without an await: the server rolls back
            raise
        finally:
            self._num_transactions = 0

    async def settle_sandbox(self) -> None:
        """The code gives the connection back, to take it again later in the same request."""
        if self.strangler_sandbox is not None:
            await self._strangler_run(self.strangler_sandbox.settle())

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """psycopg sends all that a connection does through here."""
        self._strangler_refuse(args)
        try:
            result = await super().wait(*args, **kwargs)
        except BaseException as error:
            self.strangler_recorder.after(error)
            if self.strangler_sandbox is not None and shadow_rows.in_the_way(error):
                self.strangler_sandbox.capture.unproven(shadow_rows.IN_THE_WAY)
            raise
        self.strangler_recorder.after(None)
        return result

    async def _strangler_run(self, commands: Generator[Any, Any, Any]) -> None:
        async with self.lock:
            await super().wait(commands)

    def _strangler_refuse(self, args: tuple[Any, ...]) -> None:
        capture = current.get()
        mine = self.strangler_sandbox
        if (mine is None and (capture is None or not capture.mirrors)) or (
            mine is not None and mine.capture is capture
        ):
            return
        if args and hasattr(args[0], "close"):
            args[0].close()  # a generator that is not begun
        raise NotCaptured("a connection that is not this mirrored request's: take it from its pool")

    def _exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if self.strangler_sandbox is not None:
            return (yield from self.strangler_sandbox.command(command, *args, **kwargs))
        capture = current.get()
        if capture is None or capture.mirrors or self._pipeline:
            return (yield from self.strangler_recorder.exec_command(command, *args, **kwargs))
        return (yield from self._strangler_recorded(capture, command, *args, **kwargs))

    def _strangler_recorded(
        self, capture: Capture, command: Any, *args: Any, **kwargs: Any
    ) -> Generator[Any, Any, Any]:
        parent: Any = super()
        word = text_of(command, self).lstrip()[:6].upper()
        rows = None
        if word == "COMMIT" and self.pgconn.transaction_status == TransactionStatus.INTRANS:
            rows = yield from sandbox.record_ending(parent._exec_command)
        result = yield from self.strangler_recorder.exec_command(command, *args, **kwargs)
        if word.startswith("BEGIN"):
            yield from sandbox.record_begun(parent._exec_command)
        capture.note_rows(rows)
        return result


def refuse_strays() -> None:
    """Have psycopg's own connections, sync and async, refuse to work in a mirrored request. Safe to repeat.

    A connection that is recorded takes care of itself; what any other one does could not be taken back.
    """
    for owner in (psycopg.Connection, psycopg.AsyncConnection):
        native = owner.wait
        if not getattr(native, _MARK, False):
            setattr(owner, "wait", _guarded(native))  # noqa: B010  (mypy knows wait as a method)


def _guarded(native: Any) -> Any:
    @functools.wraps(native)
    def wait(self: Any, commands: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is not None and capture.mirrors and not hasattr(self, "strangler_recorder"):
            commands.close()
            capture.note("refused", {"what": "a connection of its own"})
            raise NotCaptured("a database connection that is not from a CapturingAsyncConnectionPool")
        return native(self, commands, *args, **kwargs)

    setattr(wait, _MARK, True)
    return wait
