"""What became of one request's writes: was the fence met, and was anything committed before?

A `FenceRecord` lives for one request, in a contextvar. The database layer writes it (`django.recorder`,
`starlette.connection`), the middleware reads it. The rules, in one place:

- The first met fence counts; the request is answered by it whatever the code made of the error.
- After it nothing more is committed: `refuses_writes`. So `committed` says what was committed *before*.
- `resume` where the code said so (`resumable`), else `no` if something was committed, else `safe`.

Plain Python 3.9 and standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

from strangler_proxy.core.fence import FENCE_SQLSTATE, Replay

OUTSIDE = "outside of the database"
"""Where an effect happened that `effect_happened` told of."""


@dataclass(frozen=True)
class Met:
    """The fence as the database reported it."""

    flag: str
    """Empty where the error carried no detail (a fence that this toolkit did not install)."""
    table: str
    resumable: bool


class FenceRecord:
    """Facts of one request. The threads of a request may share it: a count may then be short, but never zero."""

    __slots__ = ("commits", "met", "resumable_depth")

    def __init__(self) -> None:
        self.met: Met | None = None
        self.commits: dict[str, int] = {}
        """Transactions with a write that were committed, by where: Django's alias, the database's name, `OUTSIDE`."""
        self.resumable_depth = 0

    def __repr__(self) -> str:
        return f"<FenceRecord met={self.met} commits={self.commits}>"

    @property
    def committed(self) -> bool:
        """Was anything committed, anywhere?"""
        return bool(self.commits)

    @property
    def refuses_writes(self) -> bool:
        """True once the fence was met: what is committed now could not be taken back."""
        return self.met is not None

    def meet(self, flag: str, table: str) -> None:
        """Note a met fence; later ones of the same request change nothing."""
        if self.met is None:
            self.met = Met(flag=flag, table=table, resumable=self.resumable_depth > 0)

    def commit(self, where: str, times: int = 1) -> None:
        """Note that writes were committed, or that an effect outside of the database happened."""
        self.commits[where] = self.commits.get(where, 0) + times

    def replay(self) -> Replay:
        """What the proxy may do with this request."""
        if self.met is not None and self.met.resumable:
            return Replay.RESUME
        return Replay.NO if self.committed else Replay.SAFE


current: ContextVar[FenceRecord | None] = ContextVar("strangler_fence_record", default=None)
"""The record of the request under way; None outside of one (a task, a command, a shell)."""


@contextmanager
def recording(record: FenceRecord) -> Iterator[FenceRecord]:
    """Within it, `record` is the current one."""
    token = current.set(record)
    try:
        yield record
    finally:
        current.reset(token)


@contextmanager
def resumable() -> Iterator[None]:
    """A fence met within answers `replay=resume`: the owner goes on from what is recorded.

    For code that has committed an intent and is about to cause an effect outside of the database, or to record
    it. Also usable as a decorator of a plain function. Outside of a request it does nothing.
    """
    record = current.get()
    if record is None:
        yield
        return
    record.resumable_depth += 1
    try:
        yield
    finally:
        record.resumable_depth -= 1


def effect_happened() -> None:
    """Say that this request had an effect that no recorder sees (a call to a third party, a SELECT that writes).

    A fence met later in the request then answers 500 and is not replayed, unless it is within `resumable`.
    """
    record = current.get()
    if record is not None:
        record.commit(OUTSIDE)


def fence_in(error: BaseException | None) -> tuple[str, str] | None:
    """(flag, table) of the fence in this error, its causes and contexts; None where there is none.

    Reads what psycopg 3 and psycopg 2 offer (`diag`), and Django's wrapped errors through `__cause__`.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if getattr(error, "sqlstate", None) == FENCE_SQLSTATE or getattr(error, "pgcode", None) == FENCE_SQLSTATE:
            return _detail(getattr(getattr(error, "diag", None), "message_detail", None))
        error = error.__cause__ or error.__context__
    return None


def _detail(text: str | None) -> tuple[str, str]:
    try:
        detail = json.loads(text or "")
    except ValueError:
        return "", ""
    if not isinstance(detail, dict):
        return "", ""
    return str(detail.get("flag", "")), str(detail.get("table", ""))


_NOISE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_READS = re.compile(
    r"[\s(]*(SELECT|VALUES|TABLE|SHOW|FETCH|MOVE|CLOSE|DECLARE|WITH|EXPLAIN|SET|RESET|BEGIN|START|COMMIT|END|ROLLBACK"
    r"|ABORT|SAVEPOINT|RELEASE|LISTEN|UNLISTEN|DISCARD|DEALLOCATE|PREPARE|CHECKPOINT|LOCK)\b",
    re.IGNORECASE,
)
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|INTO|TRUNCATE|CREATE|ALTER|DROP|CALL|EXECUTE)\b", re.IGNORECASE)
_LOCKS_ROWS = re.compile(r"\bFOR\s+(NO\s+KEY\s+)?UPDATE\b", re.IGNORECASE)
_COPY_OUT = re.compile(r"\s*COPY\b.*\bTO\s+(STDOUT|PROGRAM|')", re.IGNORECASE | re.DOTALL)
_TARGET = re.compile(
    r'\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(?:"?[\w$]+"?\.)?"?([\w$]+)"?', re.IGNORECASE
)


@lru_cache(maxsize=1024)
def may_write(sql: str) -> bool:
    """Could this statement leave something behind when it is committed? Errs towards yes.

    A plain SELECT that calls a function that writes is taken for a read: say `effect_happened()` there.

    >>> may_write("SELECT * FROM t FOR UPDATE"), may_write("WITH x AS (DELETE FROM t RETURNING 1) TABLE x")
    (False, True)
    """
    text = _NOISE.sub(" ", sql)
    if _COPY_OUT.match(text):
        return False
    if _READS.match(text) is None:
        return bool(text.strip())
    return _WRITES.search(_LOCKS_ROWS.sub(" ", text)) is not None


@lru_cache(maxsize=1024)
def written_table(sql: str) -> str | None:
    """Name of the table a plain INSERT, UPDATE or DELETE writes, without its schema; None for all else.

    >>> written_table('INSERT INTO "django_session" ("a") VALUES (1)')
    'django_session'
    """
    match = _TARGET.match(sql)
    return match.group(1) if match else None
