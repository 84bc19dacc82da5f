"""The inbox on Django's own connection: the effect may use the ORM, and shares its transaction with the inbox row.

This part needs Kombu and psycopg besides Django.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Callable

from django.db import Error, connections, transaction

from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.messaging.consumer import consume
from strangler_proxy.contrib.messaging.inbox import PARK, PRUNE, TAKE, Parked
from strangler_proxy.contrib.messaging.message import Message


def run_consumer(
    broker_url: str,
    exchange: str,
    queue: str,
    bindings: Sequence[str],
    handle: Callable[[Message], None],
    *,
    stop: threading.Event,
    attempts: int = 5,
    visibility_timeout_s: int = 60,
) -> None:
    """`messaging.run_consumer` for a Django project; `handle` runs in `transaction.atomic()`.

    Its database is the one of `settings.STRANGLER`.
    """
    consume(
        DjangoInbox(queue, handle),
        broker_url,
        exchange,
        queue,
        bindings,
        stop=stop,
        attempts=attempts,
        visibility_timeout_s=visibility_timeout_s,
    )


class DjangoInbox:
    """`messaging.inbox.Inbox` on Django's connection of this thread."""

    def __init__(self, queue: str, handle: Callable[[Message], None]) -> None:
        self._queue, self._handle = queue, handle
        self._alias = configuration().database

    def receive(self, message: Message) -> bool:
        """See `Inbox`."""
        connection = self._connection()
        connection.close_if_unusable_or_obsolete()
        with transaction.atomic(using=self._alias):
            with connection.cursor() as cursor:
                cursor.execute(TAKE, [self._queue, str(message.id)])
                if cursor.fetchone() is None:
                    return False
            self._handle(message)
        return True

    def park(self, parked: Parked) -> None:
        """See `Inbox`."""
        with self._connection().cursor() as cursor:
            cursor.execute(PARK, parked.row(self._queue))

    def away(self, error: Exception) -> bool:
        """See `Inbox`."""
        connection = self._connection()
        if not isinstance(error, Error):
            return False
        if connection.connection is not None and connection.is_usable():
            return False
        connection.close()
        return True

    def prune(self) -> None:
        """See `Inbox`."""
        with self._connection().cursor() as cursor:
            cursor.execute(PRUNE)

    def close(self) -> None:
        """See `Inbox`."""
        self._connection().close()

    def _connection(self) -> Any:
        return connections[self._alias]
