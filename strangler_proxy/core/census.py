"""Who still reads or writes a capability's tables: the places that were seen, and what they amount to."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass


class Access(enum.Enum):
    """What a place did with a table."""

    READ = "read"
    WRITE = "write"


class Mode(enum.Enum):
    """What the census of a flag does on one side: nothing, count, or count and refuse reads at the side not owning."""

    OFF = "off"
    LOG = "log"
    REFUSE = "refuse"


class Kind(enum.Enum):
    """What sort of code a place is.

    The first six are counted by `contrib.django`, with file and line. A session is known by its application name and
    user only: psql, cron, another service. The applier is the toolkit itself, and a mirror is a request that shadow
    mode has sent a second time.
    """

    VIEW = "view"
    ADMIN = "admin"
    TASK = "task"
    COMMAND = "command"
    SHELL = "shell"
    OTHER = "other"
    SESSION = "session"
    APPLIER = "applier"
    MIRROR = "mirror"

    @property
    def is_code(self) -> bool:
        """Counted in the code itself, statement by statement."""
        return self not in (Kind.SESSION, Kind.APPLIER, Kind.MIRROR)

    @property
    def is_user(self) -> bool:
        """Somebody who would miss the tables: not the toolkit, and not what it sends."""
        return self not in (Kind.APPLIER, Kind.MIRROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How a flag is counted at one side, and since when (the database's clock); `allow` are patterns of places."""

    mode: Mode
    triggers: bool = False
    allow: tuple[str, ...] = ()
    since: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of an application that counts: `lost` are statements whose report never arrived."""

    service: str
    host: str
    pid: int
    program: str
    started_at: dt.datetime
    seen_at: dt.datetime
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """How far PostgreSQL's own counters of a table moved since a time, whoever moved them."""

    table: str
    since: dt.datetime
    scans: int
    inserted: int
    updated: int
    deleted: int

    @property
    def written(self) -> int:
        """Rows written, those of transactions that were rolled back too."""
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place that read or wrote one table at one side.

    `name`: route, task, command, or user of a session. `place`: `FILE:LINE`, empty where none is known.
    `count`: statements of code; for a session how often it was noticed, at most once a minute and session.
    `refused`: how many of them were refused. Times are the database's.
    """

    flag: str
    table: str
    access: Access
    kind: Kind
    name: str
    place: str
    application: str
    count: int
    refused: int
    first_seen: dt.datetime
    last_seen: dt.datetime

    @property
    def who(self) -> str:
        """The place as a sentence names it.

        >>> when = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
        >>> Place(flag="f", table="t", access=Access.READ, kind=Kind.TASK, name="books.close", place="books.py:9",
        ...       application="m", count=1, refused=0, first_seen=when, last_seen=when).who
        'task books.close (books.py:9)'
        """
        where = f" ({self.place})" if self.place else ""
        if self.kind is not Kind.SESSION and self.kind is not Kind.APPLIER:
            return f"{self.kind.value} {self.name}{where}"
        return f"{self.kind.value} {self.application or '(no application name)'} as {self.name}"
