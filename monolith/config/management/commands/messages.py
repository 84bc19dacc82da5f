"""`manage.py messages`: publish what the outbox holds, and take in events, in one process."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand

from monolith.config.events import BINDINGS, handle
from strangler_proxy.contrib import messaging
from strangler_proxy.contrib.django import inbox, outbox

log = structlog.get_logger()

STOP_WITHIN_S = 15.0


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT; a part that dies takes the process with it, for a supervisor to start again."""

    help = "Run the outbox relay and the event consumer."
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        """Relay in a thread, consumer in another, this one waits."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        died: list[str] = []

        def run(name: str, work: Any) -> None:
            try:
                work()
            except Exception:
                log.exception("messages.part_failed", part=name)
            if not stop.is_set():
                died.append(name)
                stop.set()

        threads = [
            threading.Thread(target=run, args=(name, work), name=name, daemon=True)
            for name, work in (("relay", lambda: _relay(stop)), ("consumer", lambda: _consume(stop)))
        ]
        for thread in threads:
            thread.start()
        while not stop.wait(1.0):
            pass
        for thread in threads:
            thread.join(STOP_WITHIN_S)
        log.info("messages.stopped", died=died)
        if died:
            sys.exit(1)


def _relay(stop: threading.Event) -> None:
    messaging.run_relay(outbox.dsn(), settings.ENVIRONMENT.broker_url, settings.SHOP_EXCHANGE, stop=stop)


def _consume(stop: threading.Event) -> None:
    inbox.run_consumer(
        settings.ENVIRONMENT.broker_url,
        settings.SHOP_EXCHANGE,
        settings.SHOP_EVENTS_QUEUE,
        BINDINGS,
        handle,
        stop=stop,
    )
