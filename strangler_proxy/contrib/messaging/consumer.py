"""The consumer: takes messages from a queue and has each one's effect once.

A message is acknowledged after its transaction was committed, so a consumer that is killed gets it again, and the inbox
makes that harmless. One message at a time; run more processes for more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog

from strangler_proxy.contrib.context import bind_headers, end_request
from strangler_proxy.contrib.messaging import broker
from strangler_proxy.contrib.messaging.inbox import Inbox, Parked, PsycopgInbox
from strangler_proxy.contrib.messaging.message import Message, UnreadableMessage

log = structlog.get_logger("strangler.messaging")

LONGEST_PAUSE_S = 5.0
FIRST_PAUSE_S = 0.2
PRUNE_EVERY_S = 60.0


def run_consumer(
    dsn: str,
    broker_url: str,
    exchange: str,
    queue: str,
    bindings: Sequence[str],
    handle: Callable[[Message, psycopg.Cursor[Any]], None],
    *,
    stop: threading.Event,
    attempts: int = 5,
    visibility_timeout_s: int = 60,
) -> None:
    """Consume until `stop` is set; returns within about a second of that, or when the effect under way is done.

    `handle` has its effect with the cursor it is given, whose transaction also holds the inbox row; it must neither
    commit nor roll back. What it raises rolls both back; the message is tried `attempts` times in all with growing
    pauses (0.2 s doubling to 5 s), then parked in `inbox_parked`. A database or broker that is away is waited for, and
    does not count. `bindings` are routing keys of the topic exchange (`parcel.*`). An effect must take less than
    `visibility_timeout_s` seconds (Valkey), else its message is given out a second time meanwhile.
    """
    consume(
        PsycopgInbox(dsn, queue, handle),
        broker_url,
        exchange,
        queue,
        bindings,
        stop=stop,
        attempts=attempts,
        visibility_timeout_s=visibility_timeout_s,
    )


def consume(
    inbox: Inbox,
    broker_url: str,
    exchange: str,
    queue: str,
    bindings: Sequence[str],
    *,
    stop: threading.Event,
    attempts: int = 5,
    visibility_timeout_s: int = 60,
) -> None:
    """`run_consumer` for any `Inbox`."""
    errors = broker.broker_errors(broker_url)
    redis = broker.is_redis(broker_url)
    pause_s = FIRST_PAUSE_S
    try:
        while not stop.is_set():
            try:
                with broker.connect(
                    broker_url, queue=queue, visibility_timeout_s=visibility_timeout_s, heartbeat=True
                ) as connection:
                    bound = broker.declare(connection.channel(), exchange, queue, bindings, redis=redis)
                    log.info("inbox.consumer_started", queue=queue, bindings=list(bindings))
                    pause_s = FIRST_PAUSE_S
                    consumer = _Consumer(inbox, queue, connection, stop=stop, attempts=attempts, redis=redis)
                    broker.drain(connection, bound, consumer.take, pulse=consumer.pulse, stop=stop)
            except _InboxAway as error:  # while nothing was being taken
                pause_s = _interrupted(queue, error.__cause__ or error, pause_s, stop)
            except errors as error:
                pause_s = _interrupted(queue, error, pause_s, stop)
    finally:
        inbox.close()


def _interrupted(queue: str, error: BaseException, pause_s: float, stop: threading.Event) -> float:
    log.warning("inbox.consumer_interrupted", queue=queue, error=_text(error), retry_s=pause_s)
    stop.wait(pause_s)
    return min(pause_s * 2, LONGEST_PAUSE_S)


class _InboxAway(Exception):
    pass


class _Consumer:
    def __init__(
        self, inbox: Inbox, queue: str, connection: Any, *, stop: threading.Event, attempts: int, redis: bool
    ) -> None:
        self._inbox, self._queue, self._connection = inbox, queue, connection
        self._stop, self._attempts, self._redis = stop, attempts, redis
        self._prune_at = time.monotonic() + PRUNE_EVERY_S

    def pulse(self) -> None:
        """About once a second while there is nothing to do."""
        self._heartbeat()
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY_S
            try:
                self._inbox.prune()
            except Exception as error:
                raise _InboxAway from error

    def take(self, raw: Any) -> None:
        """One message: have its effect or park it, then acknowledge it. Left unacknowledged where we stop."""
        self._heartbeat()
        headers = {str(k): v for k, v in (raw.headers or {}).items() if isinstance(v, str)}
        tokens = bind_headers(headers)
        try:
            try:
                message = Message.parse(raw.body, headers)
            except UnreadableMessage as error:
                event = str((raw.delivery_info or {}).get("routing_key", ""))
                parked = Parked(id=None, event=event, body=_body(raw), error=str(error), attempts=1, context=headers)
                done = self._until_done(lambda: self._park(parked), None)
            else:
                done = self._until_done(lambda: self._receive(message), message)
            if done:
                raw.ack()
        finally:
            end_request(tokens)

    def _until_done(self, act: Callable[[], None], message: Message | None) -> bool:
        failures, pause_s = 0, FIRST_PAUSE_S
        while True:
            try:
                act()
                return True
            except Exception as error:
                away = self._inbox.away(error)
                failures += 0 if away or message is None else 1
                id_ = str(message.id) if message else None
                log.warning(
                    "inbox.attempt_failed", queue=self._queue, message_id=id_, attempt=failures, away=away,
                    error=_text(error), exc_info=not away,
                )  # fmt: skip
                if message is not None and failures >= self._attempts:
                    act, message = self._parking(message, error, failures), None
                    continue
                if not self._pause(pause_s):
                    return False
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _parking(self, message: Message, error: Exception, failures: int) -> Callable[[], None]:
        parked = Parked(
            id=str(message.id),
            event=message.event,
            body=message.encode(),
            error=_text(error),
            attempts=failures,
            context=dict(message.context),
        )
        return lambda: self._park(parked)

    def _receive(self, message: Message) -> None:
        started = time.monotonic()
        fresh = self._inbox.receive(message)
        log.info(
            "inbox.message_handled" if fresh else "inbox.message_repeated",
            queue=self._queue,
            message_id=str(message.id),
            message_event=message.event,
            duration_ms=round((time.monotonic() - started) * 1000, 3),
        )

    def _park(self, parked: Parked) -> None:
        self._inbox.park(parked)
        log.error(
            "inbox.message_parked", queue=self._queue, message_id=parked.id, message_event=parked.event,
            attempts=parked.attempts, error=parked.error,
        )  # fmt: skip

    def _pause(self, seconds: float) -> bool:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            if self._stop.wait(min(left, 1.0)):
                return False
            self._heartbeat()
        return not self._stop.is_set()

    def _heartbeat(self) -> None:
        if not self._redis:
            self._connection.heartbeat_check()


def _body(raw: Any) -> str:
    return raw.body.decode("utf-8", "replace") if isinstance(raw.body, bytes) else str(raw.body)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
