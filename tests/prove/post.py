"""Relays of both sides' outboxes and a consumer that counts effects: `python -m tests.prove.post CONFIG.json`."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from typing import Any

import psycopg

from strangler_proxy.contrib.messaging import Message, run_consumer, run_relay
from tests.prove.orphan import end_with_parent

EFFECTS_SQL = "CREATE TABLE effect (key text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())"


def _handle(message: Message, cursor: psycopg.Cursor[Any]) -> None:
    cursor.execute("INSERT INTO effect (key) VALUES (%s)", (message.data["key"],))


def main(config: Mapping[str, Any]) -> None:
    """For ever."""
    end_with_parent()
    stop = threading.Event()
    name, broker = config["exchange"], config["broker"]
    threads = [
        threading.Thread(target=run_relay, args=(dsn, broker, name), kwargs={"stop": stop}, daemon=True)
        for dsn in config["outboxes"]
    ]
    threads.append(
        threading.Thread(
            target=run_consumer,
            args=(config["effects"], broker, name, f"{name}.effects", ["payment.made"], _handle),
            kwargs={"stop": stop, "visibility_timeout_s": 5},
            daemon=True,
        )
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        main(json.load(file))
