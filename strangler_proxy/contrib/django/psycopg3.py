"""Recording on the psycopg 3 connection below Django's: COPY, raw cursors, pipelines.

The methods are put on the live connection itself. Django makes it and offers no place to name a class; a database
backend of ours would ask every project to change `ENGINE`, PostGIS ones too.
"""

from __future__ import annotations

import select
import time
from functools import lru_cache
from typing import Any

import psycopg

from strangler_proxy.contrib import psycopg_recording
from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.psycopg_recording import ConnectionRecorder, CursorRecording


@lru_cache(maxsize=16)
def _recording_cursor(cls: Any) -> Any:
    return type(f"Recording{cls.__name__}", (CursorRecording, cls), {})


def record(connection: object, alias: str) -> bool:
    """Record on this psycopg connection from now on; safe to repeat. False: anything else, which is left alone."""
    if not isinstance(connection, psycopg.Connection):
        return False
    if hasattr(connection, "strangler_recorder"):
        return True
    psycopg_recording.UNCOUNTED_TABLES.update(configuration().uncounted_tables)
    live: Any = connection
    recorder = ConnectionRecorder(live, live._exec_command, name=alias)
    wait = live.wait

    def recorded_wait(*args: Any, **kwargs: Any) -> Any:
        try:
            result = wait(*args, **kwargs)
        except BaseException as error:
            recorder.after(error)
            raise
        recorder.after(None)
        return result

    live.strangler_recorder = recorder
    live.wait, live._exec_command = recorded_wait, recorder.exec_command
    live.cursor_factory = _recording_cursor(live.cursor_factory)
    return True


def query_within(connection: Any, sql: str, params: list[str], timeout_s: float) -> list[tuple[bytes, ...]]:
    """Run one query (`$1` placeholders) on libpq itself and give up after `timeout_s`, whatever the network does.

    Text values as PostgreSQL writes them, none of them null. Raises TimeoutError, after which the connection is of no
    use, and psycopg.OperationalError. Django's cursors cannot be given a limit that holds without the server.
    """
    pgconn = connection.pgconn
    ends = time.monotonic() + timeout_s
    pgconn.send_query_params(sql.encode(), [value.encode() for value in params])
    results = []
    while True:
        unsent = bool(pgconn.flush())
        if pgconn.is_busy():
            _wait_for(pgconn.socket, unsent, ends - time.monotonic())
            pgconn.consume_input()
            continue
        result = pgconn.get_result()
        if result is None:
            break
        results.append(result)
    (answer,) = results
    if answer.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError(answer.get_error_message())
    return [tuple(answer.get_value(row, column) for column in range(answer.nfields)) for row in range(answer.ntuples)]


def _wait_for(socket: int, unsent: bool, left_s: float) -> None:
    poll = select.poll()  # not select(), which ends at descriptor 1023
    poll.register(socket, select.POLLIN | (select.POLLOUT if unsent else 0))
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise TimeoutError("the database did not answer in time")
