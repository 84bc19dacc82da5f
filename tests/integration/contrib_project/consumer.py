"""A consumer process that takes its time over the first message: DSN BROKER_URL EXCHANGE QUEUE PAUSE_S."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import psycopg

from strangler_proxy.contrib import messaging


def main() -> None:
    """Run until SIGTERM."""
    dsn, broker_url, exchange, queue, pause_s = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def handle(message: messaging.Message, cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute("INSERT INTO effect VALUES (%s, %s, '')", (message.id, message.data["number"]))
        cursor.execute("SELECT pg_sleep(%s)", (float(pause_s),))

    messaging.run_consumer(dsn, broker_url, exchange, queue, ["parcel.*"], handle, stop=stop, visibility_timeout_s=2)


main()
