"""The relay: publishes what the outbox holds. Several may run; each message is one relay's at a time."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import psycopg
import structlog

from strangler_proxy.contrib.messaging.broker import Publisher, Unroutable, broker_errors, connect
from strangler_proxy.contrib.messaging.message import Message

log = structlog.get_logger("strangler.messaging")

POLL_S = 0.2
LONGEST_PAUSE_S = 5.0
PRUNE_EVERY_S = 60.0

_CLAIM = """
SELECT position, id, event, occurred_at AT TIME ZONE 'UTC', data::text, context::text, attempts
  FROM outbox_message
 WHERE published_at IS NULL AND next_attempt_at <= clock_timestamp()
 ORDER BY position
 LIMIT %s
   FOR UPDATE SKIP LOCKED
"""
_PUBLISHED = (
    "UPDATE outbox_message SET published_at = clock_timestamp(), attempts = attempts + 1 WHERE position = ANY(%s)"
)
_AGAIN = """
UPDATE outbox_message SET published_at = NULL
 WHERE published_at > (SELECT max(published_at) FROM outbox_message) - interval '60 s'
"""
_UNROUTABLE = """
UPDATE outbox_message
   SET attempts = attempts + 1, next_attempt_at = clock_timestamp() + least(power(2, least(attempts, 6)), 60) * interval '1 s'
 WHERE position = ANY(%s)
"""  # noqa: E501
_PRUNE = """
DELETE FROM outbox_message WHERE position IN (
    SELECT position FROM outbox_message
     WHERE published_at < clock_timestamp() - %s * interval '1 day' LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""


def run_relay(
    dsn: str,
    broker_url: str,
    exchange: str,
    *,
    stop: threading.Event,
    batch: int = 50,
    mandatory: bool = True,
    keep_days: float = 7.0,
) -> None:
    """Publish until `stop` is set; returns within about a second, or the broker's time-out, of that.

    At least once: a message is marked published after the broker has confirmed it, in a later statement. A broker or
    database that is away is waited for with back-off (up to 5 s between tries). A message that no queue is bound for
    is kept and tried again after 1 s, doubling to 60 s, unless `mandatory` is false; the others go on.
    Published rows are kept `keep_days`, so that they can be published again (docs/reference/contrib.md).
    A Redis-type broker loses what it was handing out when it ended: after it was started again the messages of the last
    minute that it was used are published once more, and inboxes leave out those they have.
    """
    errors: tuple[type[BaseException], ...] = (*broker_errors(broker_url), psycopg.Error)
    pause_s, life = POLL_S, _Life()
    while not stop.is_set():
        try:
            with _database(dsn) as database, connect(broker_url) as connection:
                publisher = Publisher(connection, exchange)
                log.info("outbox.relay_started", exchange=exchange)
                pause_s = POLL_S
                _relay(database, publisher, life, stop=stop, batch=batch, mandatory=mandatory, keep_days=keep_days)
        except errors as error:
            log.warning("outbox.relay_interrupted", error=_text(error), retry_s=pause_s)
            stop.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


class _Life:
    """The life of the broker that was seen last."""

    def __init__(self) -> None:
        self._seen = ""

    def follow(self, now: str, database: psycopg.Connection[Any]) -> None:
        """Have messages published again where the broker was started again since the last look."""
        if self._seen not in ("", now):
            log.info("outbox.messages_repeated", messages=database.execute(_AGAIN).rowcount)
        self._seen = now


def _database(dsn: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(
        dsn, autocommit=True, connect_timeout=5, tcp_user_timeout=10_000, application_name="outbox relay"
    )
    connection.execute("SET statement_timeout = '10s'")
    return connection


def _relay(
    database: psycopg.Connection[Any],
    publisher: Publisher,
    life: _Life,
    *,
    stop: threading.Event,
    batch: int,
    mandatory: bool,
    keep_days: float,
) -> None:
    prune_at = 0.0
    while not stop.is_set():
        life.follow(publisher.life(), database)
        found = _publish_batch(database, publisher, batch, mandatory, stop)
        if time.monotonic() >= prune_at:
            database.execute(_PRUNE, (keep_days,))
            prune_at = time.monotonic() + PRUNE_EVERY_S
        if found < batch:
            stop.wait(POLL_S)


def _publish_batch(
    database: psycopg.Connection[Any], publisher: Publisher, batch: int, mandatory: bool, stop: threading.Event
) -> int:
    published: list[int] = []
    unroutable: list[int] = []
    failure: BaseException | None = None
    with database.transaction():
        rows = database.execute(_CLAIM, (batch,)).fetchall()
        for position, id_, event, occurred_at, data, context, attempts in rows:
            if stop.is_set():
                break
            message = Message(id=id_, event=event, occurred_at=occurred_at, data=json.loads(data))
            try:
                publisher.publish(
                    message.encode(), key=event, message_id=str(id_), headers=json.loads(context), mandatory=mandatory
                )
            except Unroutable:
                unroutable.append(position)
                log.warning(
                    "outbox.message_unroutable", message_id=str(id_), message_event=event, attempts=attempts + 1
                )
            except Exception as error:  # noqa: BLE001  (raised again below, once what was published is marked)
                failure = error
                break
            else:
                published.append(position)
        if published:
            database.execute(_PUBLISHED, (published,))
        if unroutable:
            database.execute(_UNROUTABLE, (unroutable,))
    if failure is not None:
        raise failure
    if published:
        log.debug("outbox.batch_published", messages=len(published))
    return len(rows)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
