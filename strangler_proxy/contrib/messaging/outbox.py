"""The outbox: a message is written in the transaction that makes it true, and published afterwards by the relay.

Promise: a message of a committed transaction is published at least once; one of a rolled-back transaction never.
Order is that of writing, not of committing, and is not kept across failures: consumers must not depend on it.
In a marked request of shadow mode the message is told as an effect, within the transaction; a mirrored one publishes
nothing, because its transaction never commits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Protocol
from uuid import UUID, uuid4

from strangler_proxy.contrib.context import outbound_headers
from strangler_proxy.contrib.shadow_capture import current
from strangler_proxy.contrib.shadow_rows import NOTE, line_of

_INSERT = (
    "INSERT INTO outbox_message (id, event, data, context) VALUES (%s::uuid, %s, %s::text::jsonb, %s::text::jsonb)"
    " ON CONFLICT (id) DO NOTHING"
)


class Executes(Protocol):
    """A cursor or connection of psycopg, or Django's cursor."""

    def execute(self, query: Any, params: Any = ..., /) -> Any:
        """Run one statement with `%s` parameters."""


def schema_sql() -> str:
    """The tables of outbox and inbox, to be run by whoever migrates the application's database; safe to repeat."""
    return (files("strangler_proxy.contrib.messaging") / "schema.sql").read_text(encoding="utf-8")


def enqueue(cursor: Executes, event: str, data: Mapping[str, Any], *, message_id: UUID | None = None) -> UUID:
    """Write a message in the caller's open transaction; its id.

    `data` must be JSON as it is (numbers that are money belong in texts). Raises ValueError or TypeError otherwise.
    With a `message_id` of the caller's own a second call with it writes nothing.

    >>> with connection.transaction(), connection.cursor() as cursor:     # doctest: +SKIP
    ...     cursor.execute("UPDATE parcel SET sent = true WHERE id = %s", [7])
    ...     enqueue(cursor, "parcel.sent", {"parcel_id": 7})
    """
    message_id, values = _row(event, data, message_id)
    cursor.execute(_INSERT, values)
    if current.get() is not None:
        cursor.execute(NOTE, [line_of("message", {"event": event, "data": dict(data)})])
    return message_id


async def enqueue_async(connection: Any, event: str, data: Mapping[str, Any]) -> UUID:
    """The same on psycopg's AsyncConnection or AsyncCursor."""
    message_id, values = _row(event, data)
    await connection.execute(_INSERT, values)
    if current.get() is not None:
        await connection.execute(NOTE, [line_of("message", {"event": event, "data": dict(data)})])
    return message_id


def _row(event: str, data: Mapping[str, Any], message_id: UUID | None = None) -> tuple[UUID, tuple[str, str, str, str]]:
    if not event or len(event.encode()) > 255:
        raise ValueError(f"event {event!r} is not a routing key of 1 to 255 bytes")
    message_id = message_id or uuid4()
    body = json.dumps(dict(data), allow_nan=False)
    return message_id, (str(message_id), event, body, json.dumps(outbound_headers()))
