"""Rows that a marked request wrote, and the transaction that cannot commit: statements for PostgreSQL.

Row effects come from the database, not from the statements that were sent: a trigger `strangler_report` on each table
of a manifest notes what changed, however it was written (ORM, raw SQL, COPY, a cascade, a function), under the names of
the extracted side. It notes into a *transaction-local setting*, `strangler.effects`: nothing is written anywhere, a
rollback to a savepoint takes back what was noted since, and read-only replicas, sequences of locks and other sessions
never see it. It does nothing unless `strangler.capture` is set in the transaction.

That a mirrored transaction cannot commit is the database's business too: it holds a row in `strangler.captured`, whose
deferred constraint trigger raises at any COMMIT (and at PREPARE TRANSACTION). The fence lets a transaction through that
holds such a row, and nobody else.

The objects are made by `strangler_proxy.sync` and by `schema_sql`. All settings are local to a transaction, so that
they hold through PgBouncer. Plain Python 3.9 and standard library only; `%s` parameters as psycopg 2 and 3 take them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCHEMA = "strangler"
GUARD_TABLE = "strangler.captured"
GUARD_CONSTRAINT = "strangler_never_commits"
"""Never to be set immediate: it would raise at once."""
GUARD_SQLSTATE = "MF002"
"""Raised at a COMMIT of a mirrored transaction."""

GUARD_EXISTS = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'strangler' AND c.relname = 'captured')"
)
ARM = "INSERT INTO strangler.captured DEFAULT VALUES"
"""The first statement of a mirrored transaction, before any savepoint."""
LONGEST_MS = 10_000
"""How long a mirrored transaction may idle; what it holds locked, the stream of rows would wait for."""
LOCK_WAIT_MS = 500
"""Below PostgreSQL's `deadlock_timeout`: in a deadlock the mirrored transaction gives up, not a real one."""
IN_THE_WAY = "a row that another transaction holds locked"
ARM_SETTINGS = (
    "SELECT set_config('strangler.capture', 'mirror', true), set_config('strangler.effects', '', true),"
    f" set_config('lock_timeout', '{LOCK_WAIT_MS}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{LONGEST_MS}', true)"
)
"""The second."""
REWIND = "SELECT strangler.rewind(%s::jsonb)"
"""The third, where the other side recorded rows: has the stream brought them already, they are put back."""
RECORD_SETTINGS = "SELECT set_config('strangler.capture', 'record', true), set_config('strangler.effects', '', true)"
"""First in each transaction of a recorded request."""
READ_ROWS = "SELECT current_setting('strangler.effects', true), set_config('strangler.effects', '', true)"
"""Before each commit, real or virtual: its first column is the text for `Capture.note_rows`."""
NOTE = "SELECT set_config('strangler.effects', coalesce(current_setting('strangler.effects', true), '') || %s, true)"
"""Note an effect with the transaction: `line_of` makes the parameter."""
CHECK_DEFERRED = "SELECT strangler.check_deferred()"
"""At a virtual commit: raise what the deferred constraints, but for the guard's own, would raise."""


class RowsTooLarge(ValueError):
    """A transaction wrote more rows than an answer can tell."""


def schema_sql() -> str:
    """Guard, report and rewind, for a database that `strangler sync` never prepares. Idempotent; run as the owner.

    Then, for each table: `SELECT strangler.report_rows('orders', 'order', '{"id": "id", "user_id": "customer_id"}',
    '{id}')`: its name here, its name on the extracted side, columns here to columns there, the key's columns here.
    """
    return (files("strangler_proxy.contrib") / "shadow_schema.sql").read_text(encoding="utf-8")


def in_the_way(error: BaseException) -> bool:
    """Did it give up for a lock that another transaction holds? What it answers then says nothing of its code."""
    cause = error.__cause__ or error
    return (getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)) in ("55P03", "40P01")


def line_of(kind: str, detail: Mapping[str, Any]) -> str:
    """The parameter of `NOTE`."""
    return json.dumps({"kind": kind, "detail": detail}, separators=(",", ":")) + "\n"


def effects_of(text: str | None) -> list[dict[str, Any]]:
    """The effects in what `READ_ROWS` gave; raises RowsTooLarge.

    >>> effects_of('{"kind": "row", "detail": {"table": "t"}}' + chr(10))
    [{'kind': 'row', 'detail': {'table': 't'}}]
    """
    lines = [line for line in (text or "").split("\n") if line]
    if "too_large" in lines:
        raise RowsTooLarge("more rows than an answer can tell")
    return [json.loads(line) for line in lines]
