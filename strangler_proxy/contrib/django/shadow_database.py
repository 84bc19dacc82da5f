"""What the database itself does for marked requests: refuse to commit, tell its rows. PostgreSQL, where it is prepared.

A database that is not prepared (another one of the project, SQLite, MySQL) is kept from committing by the rollback
alone, and tells no rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.contrib.shadow_capture import Capture

if TYPE_CHECKING:
    from strangler_proxy.contrib.django.shadow_transaction import Sandbox

_STATE = f"{shadow_rows.GUARD_EXISTS}, current_setting('transaction_read_only') = 'on'"


def arm(sandbox: Sandbox, capture: Capture, savepoint: str) -> bool:
    """Begin the mirrored transaction; is the database prepared, so that it refuses to commit?

    A replica, and a role that may only read, refuse by themselves: there the guard is not needed, and cannot be had.
    """
    statements = [f"SAVEPOINT {savepoint}"]
    guarded = False
    if sandbox.connection.vendor == "postgresql":
        ((exists, read_only),) = sandbox.run(_STATE, rows=True)
        if read_only:
            statements.insert(0, shadow_rows.ARM_SETTINGS)
        elif exists:
            guarded = True
            statements[:0] = [shadow_rows.ARM, shadow_rows.ARM_SETTINGS]
    rows = capture.recorded_rows_json() if guarded else ""
    if rows:
        for statement in statements[:-1]:
            sandbox.run(statement)
        sandbox.run(shadow_rows.REWIND, [rows])
        del statements[:-1]
    for statement in statements:
        sandbox.run(statement)
    return guarded


def committing(sandbox: Sandbox, capture: Capture) -> None:
    """At a virtual commit: raise what deferred constraints would raise, and note the rows."""
    if sandbox.connection.vendor != "postgresql":
        return
    check_deferred(sandbox)
    ((text, _),) = sandbox.run(shadow_rows.READ_ROWS, rows=True)
    capture.note_rows(text)


def check_deferred(sandbox: Sandbox) -> None:
    """Raise the database's error for a violated constraint that waits for the commit."""
    if sandbox.guarded:
        sandbox.run(shadow_rows.CHECK_DEFERRED)
    else:
        sandbox.run("SET CONSTRAINTS ALL IMMEDIATE")
        sandbox.run("SET CONSTRAINTS ALL DEFERRED")
