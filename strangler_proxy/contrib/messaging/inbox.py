"""The inbox on psycopg: the row that says "taken" and the effect are one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from strangler_proxy.contrib.messaging.message import Message

TAKE = "INSERT INTO inbox_message (queue, id) VALUES (%s, %s::uuid) ON CONFLICT DO NOTHING RETURNING 1"
"""Where the same message is being taken by another consumer this waits for that transaction."""
PARK = (
    "INSERT INTO inbox_parked (queue, id, event, body, context, error, attempts)"
    " VALUES (%s, %s::uuid, %s, %s, %s::text::jsonb, %s, %s)"
)
PRUNE = """
DELETE FROM inbox_message WHERE (queue, id) IN (
    SELECT queue, id FROM inbox_message WHERE received_at < clock_timestamp() - interval '30 days' LIMIT 1000)
"""
STATEMENT_TIMEOUT_MS = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A message that is set aside, with the reason."""

    id: str | None
    event: str
    body: str
    error: str
    attempts: int
    context: dict[str, str] = field(default_factory=dict)

    def row(self, queue: str) -> tuple[object, ...]:
        """Values of `PARK`. NUL, which a text of PostgreSQL cannot hold, is replaced."""
        body, error = (text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in (self.body, self.error))
        return (queue, self.id, self.event, body, json.dumps(self.context), error[:2000], self.attempts)


class Inbox(Protocol):
    """Where a consumer's messages have their effect."""

    def receive(self, message: Message) -> bool:
        """Take the message and have its effect in one transaction; False: it was taken before, nothing done."""

    def park(self, parked: Parked) -> None:
        """Set a message aside for good."""

    def away(self, error: Exception) -> bool:
        """Is this error the database's being away (the message waits) rather than the message's own?"""

    def prune(self) -> None:
        """Forget message ids of 30 days ago and more, at most 1000 of them."""

    def close(self) -> None:
        """Let go of the connection."""


class PsycopgInbox:
    """An inbox on a connection of its own, made again when it breaks. For one thread."""

    def __init__(self, dsn: str, queue: str, handle: Callable[[Message, psycopg.Cursor[Any]], None]) -> None:
        self._dsn, self._queue, self._handle = dsn, queue, handle
        self._connection: psycopg.Connection[Any] | None = None

    def receive(self, message: Message) -> bool:
        """See `Inbox`."""
        connection = self._connected()
        with connection.transaction(), connection.cursor() as cursor:
            if cursor.execute(TAKE, (self._queue, str(message.id))).fetchone() is None:
                return False
            self._handle(message, cursor)
        return True

    def park(self, parked: Parked) -> None:
        """See `Inbox`."""
        self._connected().execute(PARK, parked.row(self._queue))

    def away(self, error: Exception) -> bool:
        """See `Inbox`."""
        return isinstance(error, psycopg.Error) and (self._connection is None or self._connection.broken)

    def prune(self) -> None:
        """See `Inbox`."""
        self._connected().execute(PRUNE)

    def close(self) -> None:
        """See `Inbox`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None and (self._connection.closed or self._connection.broken):
            self.close()
        if self._connection is None:
            connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=5,
                tcp_user_timeout=10_000,
                application_name=self._queue[:63],
            )
            connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
            self._connection = connection
        return self._connection
