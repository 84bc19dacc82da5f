"""A database with one table that moves and one that stays, and the fence to open and close."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg


class World:
    """Both sides of the truth in one database, as a test sets them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def make(self) -> World:
        """Tables, ownership record, fence (open)."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(Path(__file__).with_name("fence.sql").read_bytes())
        self.reset()
        return self

    def reset(self) -> None:
        """Nothing in the tables; the monolith owns and may write."""
        self.run("TRUNCATE parcel, note RESTART IDENTITY")
        self.record(owner="monolith", epoch=3, open=True)
        self.fence(on=False)

    def close(self, *, owner: str = "extracted", epoch: int = 4, origin: str = "monolith") -> None:
        """As a cutover leaves the source: closed record, fence on."""
        self.record(owner=owner, epoch=epoch, open=False, origin=origin)
        self.fence(on=True)

    def record(self, *, owner: str, epoch: int, open: bool, origin: str = "monolith") -> None:
        """Write the ownership record alone."""
        self.run("DELETE FROM strangler.ownership")
        self.run(
            "INSERT INTO strangler.ownership (flag, origin, owner, epoch, open) VALUES ('parcels', %s, %s, %s, %s)",
            origin,
            owner,
            epoch,
            open,
        )

    def fence(self, *, on: bool) -> None:
        """Switch the trigger alone."""
        self.run(f"ALTER TABLE parcel {'ENABLE ALWAYS' if on else 'DISABLE'} TRIGGER fence")

    def run(self, statement: str, *values: object) -> None:
        """One statement, committed."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode(), values or None)

    def column(self, query: str) -> list[Any]:
        """First column of a query."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return [row[0] for row in connection.execute(query.encode()).fetchall()]

    @property
    def parcels(self) -> list[str]:
        """Names in the table that moves."""
        return self.column("SELECT name FROM parcel ORDER BY id")

    @property
    def notes(self) -> list[str]:
        """Texts in the table that stays."""
        return self.column("SELECT text FROM note ORDER BY id")
