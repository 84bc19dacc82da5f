"""Who may write a capability's rows, by the record beside the data: asked each time, never cached."""

from __future__ import annotations

from typing import Any, Optional

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.ownership import READ_RECORD, READ_RECORD_NUMBERED, RECORD_EXISTS, OwnershipRecord

_found: set[tuple[str, str, str]] = set()


def owner(flag: str) -> str:
    """`"monolith"` or `"extracted"`: the last owner known here; the monolith where there is no record."""
    record = read(flag)
    return "monolith" if record is None else record.owner


def is_owner(flag: str) -> bool:
    """May this project write the flag's rows now (it is the owner, and its side is open)?

    Where the capability was never prepared for moving (no schema, no row) the monolith may. The answer can be out of
    date the moment it is given; the fence decides.
    """
    record = read(flag)
    return configuration().origin == "monolith" if record is None else record.may_write


def read(flag: str) -> Optional[OwnershipRecord]:
    """The flag's record, read on the current connection and in its open transaction, if any; None: no record."""
    connection = connections[configuration().database]
    if connection.vendor != "postgresql":
        return None
    key = _identity(connection)
    with connection.cursor() as cursor:
        if key not in _found:
            cursor.execute(RECORD_EXISTS)
            if not cursor.fetchone()[0]:
                return None
            _found.add(key)
        cursor.execute(READ_RECORD, [flag])
        row = cursor.fetchone()
    return None if row is None else OwnershipRecord(*row)


def read_after_fence(flag: str) -> Optional[OwnershipRecord]:
    """The record on a fresh snapshot, within `READ_TIMEOUT_MS`, once the code of a request is done.

    Whatever transaction is open on the connection is rolled back first; one that somebody outside of the request holds
    open (a test case) is left alone, and another connection is used. Raises the database's errors and TimeoutError.
    """
    connection = connections[configuration().database]
    if connection.in_atomic_block:
        connection = connection.copy()
        try:
            return _read_now(connection, flag)
        finally:
            connection.close()
    connection.ensure_connection()
    if not connection.get_autocommit():
        connection.rollback()
    return _read_now(connection, flag)


def _read_now(connection: BaseDatabaseWrapper, flag: str) -> Optional[OwnershipRecord]:
    connection.ensure_connection()
    timeout_ms = configuration().read_timeout_ms
    try:
        from strangler_proxy.contrib.django import psycopg3
    except ImportError:  # psycopg2: the server's own limit, which a lost network does not keep
        return _read_limited(connection, flag, timeout_ms)
    try:
        rows = psycopg3.query_within(connection.connection, READ_RECORD_NUMBERED, [flag], timeout_ms / 1000)
    except Exception:
        connection.close()  # its answer may still be on the way
        raise
    if not rows:
        return None
    flag_, origin, owner_, epoch, open_ = (value.decode() for value in rows[0])
    return OwnershipRecord(flag_, origin, owner_, int(epoch), open_ == "t")


def _read_limited(connection: Any, flag: str, timeout_ms: int) -> Optional[OwnershipRecord]:
    from django.db import transaction

    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [timeout_ms])
        cursor.execute(READ_RECORD, [flag])
        row = cursor.fetchone()
    return None if row is None else OwnershipRecord(*row)


def _identity(connection: BaseDatabaseWrapper) -> tuple[str, str, str]:
    settings = connection.settings_dict
    return str(settings["HOST"]), str(settings["PORT"]), str(settings["NAME"])
