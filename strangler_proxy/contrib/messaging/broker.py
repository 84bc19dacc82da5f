"""RabbitMQ and Valkey (or Redis) spoken to in one way, through Kombu: durable topic exchange, declared queues.

What differs is here and nowhere else. Never fanout: on Valkey it is lost to a consumer that is away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import kombu as untyped_kombu
from amqp.exceptions import AMQPError, MessageNacked  # type: ignore[import-untyped]  # Kombu brings it
from kombu.exceptions import KombuError

kombu: Any = untyped_kombu
"""Its annotations are there in part only, which is worse for strict typing than none."""

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 10
"""For the broker to confirm a publication, or to take a command."""
HEARTBEAT_S = 30
"""AMQP only; an effect may take twice as long before the broker gives its message to another consumer."""


class Unroutable(Exception):
    """No queue is bound for this message: nobody would ever see it."""


def is_redis(broker_url: str) -> bool:
    """Valkey and Redis speak the same protocol; all else is taken for AMQP 0.9.1."""
    return broker_url.startswith(("redis:", "rediss:", "valkey:"))


@contextmanager
def connect(
    broker_url: str, *, queue: str = "", visibility_timeout_s: int = 60, heartbeat: bool = False
) -> Iterator[Any]:
    """A connection that is tried once; raises one of `broker_errors`. Closed at the end.

    On Valkey an unacknowledged message comes back after `visibility_timeout_s`. The keys that hold these are the
    queue's own: shared ones would let this time-out give away long tasks of a Celery worker on the same database.
    """
    redis_options = {
        "visibility_timeout": visibility_timeout_s,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 10,
        "unacked_key": f"unacked:{queue}",
        "unacked_index_key": f"unacked_index:{queue}",
        "unacked_mutex_key": f"unacked_mutex:{queue}",
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
    }
    amqp_options = {"confirm_publish": True, "write_timeout": ANSWER_TIMEOUT_S}
    connection = kombu.Connection(
        broker_url.replace("valkey:", "redis:", 1) if broker_url.startswith("valkey:") else broker_url,
        connect_timeout=CONNECT_TIMEOUT_S,
        heartbeat=HEARTBEAT_S if heartbeat and not is_redis(broker_url) else 0,
        transport_options=redis_options if is_redis(broker_url) else amqp_options,
    )
    try:
        connection.connect()
        yield connection
    finally:
        connection.release()


def broker_errors(broker_url: str) -> tuple[type[BaseException], ...]:
    """What a broker that is away, restarts or refuses makes Kombu raise."""
    connection = kombu.Connection(broker_url.replace("valkey:", "redis:", 1))
    return (
        *connection.connection_errors,
        *connection.channel_errors,
        AMQPError,
        MessageNacked,
        KombuError,
        OSError,
    )


class Publisher:
    """Publishes on one channel, one message at a time, each confirmed where the broker can."""

    def __init__(self, connection: Any, exchange: str) -> None:
        self._channel = connection.channel()
        self._exchange = topic(exchange)(self._channel)
        self._exchange.declare()
        self._returned = False
        self._redis = hasattr(self._channel, "typeof")
        returned = None if self._redis else self._on_return
        self._producer = kombu.Producer(self._channel, on_return=returned, auto_declare=False)

    def publish(self, body: str, *, key: str, message_id: str, headers: dict[str, str], mandatory: bool) -> None:
        """Send a persistent message and wait for the broker to take it.

        Raises Unroutable where no queue is bound (if `mandatory`), else one of `broker_errors`.
        """
        if mandatory and self._redis and not self._bound(key):
            raise Unroutable(key)
        self._returned = False
        options: dict[str, Any] = {} if self._redis else {"confirm_timeout": ANSWER_TIMEOUT_S, "mandatory": mandatory}
        self._producer.publish(
            body,
            exchange=self._exchange.name,
            routing_key=key,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            message_id=message_id,
            headers=headers,
            retry=False,
            **options,
        )
        if self._returned:
            raise Unroutable(key)

    def life(self) -> str:
        """Which life of the broker this is: another once it was started again. Empty: what it confirms is kept."""
        return str(self._channel.client.info("server").get("run_id", "")) if self._redis else ""

    def _on_return(self, *_: object) -> None:
        self._returned = True

    def _bound(self, key: str) -> bool:
        name = self._exchange.name
        return bool(self._channel.typeof(name).lookup(self._channel.get_table(name), name, key, None))


def topic(name: str) -> Any:
    """The durable topic exchange of that name."""
    return kombu.Exchange(name, type="topic", durable=True)


def declare(channel: Any, exchange: str, queue: str, bindings: Sequence[str], *, redis: bool) -> Any:
    """Declare exchange, durable queue (a quorum queue on RabbitMQ) and bindings; safe to repeat. The bound queue."""
    if not bindings:
        raise ValueError(f"queue {queue!r} has no binding: name the events that it takes")
    arguments = None if redis else {"x-queue-type": "quorum"}
    source = topic(exchange)
    declared = kombu.Queue(queue, exchange=source, routing_key=bindings[0], durable=True, queue_arguments=arguments)
    bound = declared(channel)
    bound.declare()
    for key in bindings[1:]:
        bound.bind_to(exchange=source(channel), routing_key=key)
    return bound


def drain(
    connection: Any, queue: Any, on_message: Callable[[Any], None], *, pulse: Callable[[], None], stop: Any
) -> None:
    """Take messages one by one until `stop`; `pulse` is called about once a second."""
    with kombu.Consumer(queue.channel, queues=[queue], on_message=on_message, prefetch_count=1, auto_declare=False):
        while not stop.is_set():
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:  # nothing came in this second
                pulse()
