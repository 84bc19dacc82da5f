"""The service's SQL, one file per query in `sql/`."""

from __future__ import annotations

from functools import cache
from importlib import resources

SQL = resources.files("extracted.auth").joinpath("sql")


@cache
def query(name: str) -> bytes:
    """The text of `sql/NAME.sql`; read once."""
    return SQL.joinpath(f"{name}.sql").read_bytes()
