"""psycopg's AsyncConnection with the recorder: pass it as `connection_class` to `psycopg_pool.AsyncConnectionPool`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, AsyncCursor, AsyncServerCursor

from strangler_proxy.contrib.psycopg_recording import ConnectionRecorder, CursorRecording


class RecordingAsyncCursor(CursorRecording, AsyncCursor[Any]):
    """A cursor whose statements are recorded."""


class RecordingAsyncClientCursor(CursorRecording, AsyncClientCursor[Any]):
    """The same for client-side binding."""


class RecordingAsyncServerCursor(CursorRecording, AsyncServerCursor[Any]):
    """The same for named cursors."""


class RecordingAsyncConnection(psycopg.AsyncConnection[Any]):
    """Notes on the request's `FenceRecord` which writes were committed and whether the fence was met.

    Where a cursor class of your own is used, put `psycopg_recording.CursorRecording` before its base.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parent: Any = super()
        self.strangler_recorder = ConnectionRecorder(self, parent._exec_command)
        self.cursor_factory = RecordingAsyncCursor
        self.server_cursor_factory = RecordingAsyncServerCursor

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """psycopg sends all that a connection does through here."""
        try:
            result = await super().wait(*args, **kwargs)
        except BaseException as error:
            self.strangler_recorder.after(error)
            raise
        self.strangler_recorder.after(None)
        return result

    def _exec_command(self, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from self.strangler_recorder.exec_command(*args, **kwargs))
