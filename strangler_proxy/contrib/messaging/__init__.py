"""Messages between systems: outbox, relay, inbox. Needs psycopg and Kombu.

Delivery is at least once; the inbox makes the *effect* happen once, because its row and the effect are one transaction.
"""

from strangler_proxy.contrib.messaging.consumer import run_consumer
from strangler_proxy.contrib.messaging.message import Message, UnreadableMessage
from strangler_proxy.contrib.messaging.outbox import enqueue, enqueue_async, schema_sql
from strangler_proxy.contrib.messaging.relay import run_relay

__all__ = [
    "Message",
    "UnreadableMessage",
    "enqueue",
    "enqueue_async",
    "run_consumer",
    "run_relay",
    "schema_sql",
]
