"""The control database's schema, in numbered SQL files. Old code runs on the new schema."""

from __future__ import annotations

from importlib import resources

import psycopg

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.store.database import AWAY_COMMAND, first_line
from strangler_proxy.store.queries import queries

_TIMEOUT_S = 30


def migrate(dsn: str) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations that were applied now.

    Idempotent; several processes may call it at once (advisory lock). Raises StoreUnavailable.
    """
    applied: list[str] = []
    sql = queries("schema")
    try:
        with psycopg.connect(
            dsn, autocommit=True, connect_timeout=5, options=f"-c lock_timeout={_TIMEOUT_S}s"
        ) as connection:
            connection.execute(sql["lock"])
            try:
                connection.execute(sql["prepare"])
                known = {number for (number,) in connection.execute(sql["known"]).fetchall()}
                for name, text in _files():
                    number = int(name.partition("_")[0])
                    if number in known:
                        continue
                    with connection.transaction():
                        connection.execute(text)
                        connection.execute(sql["record"], {"number": number, "name": name})
                    applied.append(name)
            finally:
                connection.execute(sql["unlock"])
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            f"the control database does not answer: {first_line(error)}", next_command=AWAY_COMMAND
        ) from error
    return applied


def _files() -> list[tuple[str, bytes]]:
    folder = resources.files("strangler_proxy.store").joinpath("migrations")
    return sorted((f.name, f.read_bytes()) for f in folder.iterdir() if f.name.endswith(".sql"))
