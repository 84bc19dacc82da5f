"""Database drivers whose writes nobody here can capture: where one is loaded, an answer carries no proof.

Without a proof no write is mirrored to this side, so nothing that such a driver does can go by unseen. asyncpg speaks
to PostgreSQL past psycopg; connections of the others are written in C, or to other databases.

Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

UNSEEN = ("asyncpg", "psycopg2", "pg8000", "pymysql", "MySQLdb")


def reasons(modules: Iterable[str] = UNSEEN) -> list[str]:
    """Why there is no proof, one for each such driver that this process has loaded.

    >>> reasons(("sys", "no_such_driver"))
    ['driver_sys']
    """
    return [f"driver_{name}" for name in modules if name in sys.modules]
