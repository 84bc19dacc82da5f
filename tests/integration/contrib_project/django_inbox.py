"""Relay and Django consumer in one process until `COUNT` effects are there: BROKER_URL EXCHANGE QUEUE COUNT."""

from __future__ import annotations

import sys
import threading

import django

django.setup()

from django.db import connection  # noqa: E402

from strangler_proxy.contrib import messaging  # noqa: E402
from strangler_proxy.contrib.django import inbox, outbox  # noqa: E402
from tests.integration.contrib_project.models import Note  # noqa: E402


def main() -> None:
    """Each message makes a note; the first try of each fails after it."""
    broker_url, exchange, queue, count = sys.argv[1:]
    stop, tried = threading.Event(), set()

    def handle(message: messaging.Message) -> None:
        Note.objects.create(text=message.data["name"])
        if message.id not in tried:
            tried.add(message.id)
            raise ValueError("the first try fails")
        if Note.objects.count() == int(count):
            stop.set()

    relay = threading.Thread(
        target=messaging.run_relay, args=(outbox.dsn(), broker_url, exchange), kwargs={"stop": stop}
    )
    relay.start()
    connection.close()
    inbox.run_consumer(broker_url, exchange, queue, ["parcel.*"], handle, stop=stop)
    relay.join(10)


main()
