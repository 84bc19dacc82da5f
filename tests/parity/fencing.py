"""The toolkit's schema beside a service's rows, as far as a service meets it: ownership record and fence."""

from __future__ import annotations

import psycopg
from psycopg import sql

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS strangler;
CREATE TABLE IF NOT EXISTS strangler.ownership (
    flag text PRIMARY KEY, origin text NOT NULL, owner text NOT NULL, epoch bigint NOT NULL, open boolean NOT NULL,
    replicated_through timestamptz, changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE OR REPLACE FUNCTION strangler.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'strangler fence: writes to "%" are refused here', TG_TABLE_NAME USING ERRCODE = 'MF001',
        DETAIL = json_build_object('flag', TG_ARGV[0], 'table', TG_TABLE_NAME)::text;
END $$;
"""


class Fence:
    """Close and open one flag's tables in one database, as a cutover does."""

    def __init__(self, database: str, flag: str, tables: tuple[str, ...]) -> None:
        self._database, self._flag, self._tables = database, flag, tables

    def close(self, *, epoch: int = 2) -> None:
        """The monolith owns the rows from now on."""
        with psycopg.connect(self._database) as connection:
            connection.execute(_SCHEMA)
            self._record(connection, "monolith", epoch, is_open=False)
            for table in self._tables:
                connection.execute(
                    sql.SQL(
                        "CREATE OR REPLACE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH STATEMENT"
                        " EXECUTE FUNCTION strangler.refuse({})"
                    ).format(sql.Identifier(table), sql.Literal(self._flag))
                )

    def open(self, *, epoch: int = 3) -> None:
        """This side owns the rows from now on."""
        with psycopg.connect(self._database) as connection:
            for table in self._tables:
                connection.execute(sql.SQL("DROP TRIGGER IF EXISTS fence ON {}").format(sql.Identifier(table)))
            self._record(connection, "extracted", epoch, is_open=True)

    def _record(self, connection: psycopg.Connection, owner: str, epoch: int, *, is_open: bool) -> None:
        connection.execute(
            "INSERT INTO strangler.ownership (flag, origin, owner, epoch, open) VALUES (%s, 'extracted', %s, %s, %s)"
            " ON CONFLICT (flag) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch, open = excluded.open",
            [self._flag, owner, epoch, is_open],
        )


PAYMENTS_TABLES = ("intent", "refund", "idempotency_key", "webhook_event", "settlement")
AUTH_TABLES = ("account", "refresh_token")
