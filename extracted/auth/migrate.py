"""The service's schema: numbered SQL files in `sql/migrations/`, and the tables of its messages."""

from __future__ import annotations

import psycopg

from extracted.auth.queries import SQL
from strangler_proxy.contrib import messaging

LOCK = 4_862_110_001
"""Advisory lock of whoever migrates: any number may start at once, one works."""

_WAIT = "-c lock_timeout=30s -c statement_timeout=60s"


def migrate(database_url: str) -> list[str]:
    """Bring the schema up to date; the names of the files that were applied now. Idempotent.

    Raises psycopg's errors.
    """
    applied: list[str] = []
    with psycopg.connect(database_url, autocommit=True, connect_timeout=10, options=_WAIT) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        known = {name for (name,) in connection.execute("SELECT name FROM schema_migration")}
        for file in sorted(SQL.joinpath("migrations").iterdir(), key=lambda file: file.name):
            if not file.name.endswith(".sql") or file.name in known:
                continue
            with connection.transaction():
                connection.execute(file.read_bytes())
                connection.execute("INSERT INTO schema_migration (name) VALUES (%s)", [file.name])
            applied.append(file.name)
        with connection.transaction():
            connection.execute(messaging.schema_sql().encode())
    return applied
