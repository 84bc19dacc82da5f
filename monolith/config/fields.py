"""Column types that Django does not name."""

from typing import Any

from django.db import models


class FixedCharField(models.CharField):
    """`char(N)`: for texts that always have the same length, as hashes and currency codes."""

    def db_type(self, connection: Any) -> str:
        """`char(max_length)`, by the name that PostgreSQL itself uses.

        Django inserts many rows through `UNNEST(... ::TYPE[])` with the length taken off: `bpchar[]` then holds whole
        texts, where `char[]` would hold one character each.
        """
        return f"bpchar({self.max_length})"

    def cast_db_type(self, connection: Any) -> str:
        """The same in casts."""
        return self.db_type(connection)
