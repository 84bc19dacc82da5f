"""Which places may go on reading where reads are refused. Plain Python 3.9: `contrib.django` asks it too."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase


def allowed(patterns: Iterable[str], *, table: str, kind: str, name: str, place: str) -> bool:
    """May this place read this table? A pattern is compared with `KIND:NAME`, `FILE`, `FILE:LINE`, `table:TABLE`.

    >>> allowed(["admin:*", "books/*.py"], table="t", kind="task", name="books.close", place="books/tasks.py:9")
    True
    >>> allowed(["table:user"], table="token", kind="view", name="me /me/", place="me.py:1")
    False
    """
    words = (f"{kind}:{name}", place.rpartition(":")[0], place, f"table:{table}")
    return any(fnmatchcase(word, pattern) for pattern in patterns for word in words)
