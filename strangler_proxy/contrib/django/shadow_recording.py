"""The rows that a recorded request really writes, told by the database within the transactions that write them.

Before the first write of a transaction the database is asked to note rows; before its commit they are read, and they
count once it has succeeded. A write in autocommit gets a transaction of one statement, which is what it is anyway.
Nothing is asked of a database that is not prepared, and nothing outside of recorded requests.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Optional

from django.db.backends.base.base import BaseDatabaseWrapper

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.record import may_write
from strangler_proxy.contrib.shadow_capture import Capture, current

_NOTES_ROWS = "SELECT set_config('strangler.capture', 'record', true)"
_ROW_WRITES = re.compile(r"[\s(]*(INSERT|UPDATE|DELETE|MERGE|WITH)\b", re.IGNORECASE)
_ROLLS_BACK_TO = re.compile(r"\s*ROLLBACK\b.*\bTO\b", re.IGNORECASE)

_IDLE, _IN_ERROR = 0, 3  # libpq's PQTRANS_IDLE, PQTRANS_INERROR
_ASKED_AGAIN_S = 60.0

_known: dict[tuple[str, str, str], tuple[bool, float]] = {}
"""By address of the database: whether it is prepared, and until when that is believed."""


class RowRecorder:
    """What one connection's open transaction is asked to tell; idle but for recorded requests."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection: Any = connection
        self._noting = False
        """Does the open transaction note rows now?"""
        self._noted = False
        """Did it at any time?"""

    def __repr__(self) -> str:
        return f"<RowRecorder {self.connection.alias} noting={self._noting}>"

    def recording(self) -> Optional[Capture]:
        """The capture of the recorded request under way, on a database that could tell."""
        capture = current.get()
        return None if capture is None or capture.mirrors or self.connection.vendor != "postgresql" else capture

    def execute(self, run: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Django's execute wrapper."""
        text = str(sql)
        if _ROLLS_BACK_TO.match(text):
            self._noting = False  # what was asked since the savepoint is forgotten by the database
        capture = self.recording()
        if capture is None:
            return run(sql, params, many, context)
        if text == shadow_rows.NOTE:
            return self._told_beside(capture, run, sql, params, many, context)
        if not may_write(text) or not self._prepared():
            return run(sql, params, many, context)
        if self.connection.autocommit:
            if not many and self._status() == _IDLE and _ROW_WRITES.match(text):
                return self._by_itself(capture, run, sql, params, many, context)
            return run(sql, params, many, context)
        self._note_rows()
        return run(sql, params, many, context)

    def commit(self, commit: Callable[[], Any]) -> Any:
        """Django's commit: the rows first, which count when it has succeeded."""
        capture = self.recording() if self._noted else None
        self._noting = self._noted = False
        if capture is None or self.connection.connection is None:
            return commit()
        text = self._read()
        result = commit()
        capture.note_rows(text)
        return result

    def rollback(self, rollback: Callable[[], Any]) -> Any:
        """Django's rollback."""
        self._noting = self._noted = False
        return rollback()

    def _told_beside(self, capture: Capture, run: Callable[..., Any], sql: Any, params: Any, *rest: Any) -> Any:
        """Code notes an effect with its transaction; in autocommit what it belongs to is committed already."""
        if self.connection.autocommit and self._status() == _IDLE:
            return capture.note_rows(params[0])
        self._noted = True
        return run(sql, params, *rest)

    def _by_itself(
        self, capture: Capture, run: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        self._run(f"BEGIN; {_NOTES_ROWS}")
        try:
            result = run(sql, params, many, context)
            text = self._read()
            self._run("COMMIT")
        except BaseException:
            self.connection.connection.rollback()
            raise
        capture.note_rows(text)
        return result

    def _note_rows(self) -> None:
        if not self._noting:
            self._run(_NOTES_ROWS)
            self._noting = self._noted = True

    def _read(self) -> Optional[str]:
        """The rows told so far; in a failed transaction none, as it will be rolled back."""
        if self._status() == _IN_ERROR:
            return None
        ((text, _),) = self._run(shadow_rows.READ_ROWS, rows=True)
        return None if text is None else str(text)

    def _run(self, sql: str, *, rows: bool = False) -> list[tuple[Any, ...]]:
        connection = self.connection
        with connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(sql)
                return list(cursor.fetchall()) if rows else []
            finally:
                cursor.close()

    def _status(self) -> int:
        return int(self.connection.connection.info.transaction_status)

    def _prepared(self) -> bool:
        if self.connection.connection is None or self._status() == _IN_ERROR:
            return False
        settings = self.connection.settings_dict
        key = (str(settings["HOST"]), str(settings["PORT"]), str(settings["NAME"]))
        known, until = _known.get(key, (False, 0.0))
        if time.monotonic() >= until:
            ((known,),) = self._run(shadow_rows.GUARD_EXISTS, rows=True)
            _known[key] = bool(known), time.monotonic() + _ASKED_AGAIN_S
        return bool(known)
