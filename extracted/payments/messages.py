"""The process beside the web process: the outbox relay on a thread, the sweeper on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog

from extracted.payments.app import make_pool, make_processor
from extracted.payments.settings import MessagingSettings
from extracted.payments.store import Store
from extracted.payments.sweeper import Sweeper
from strangler_proxy.contrib import messaging

EXCHANGE = "shop.events"
RELAY_STOPS_WITHIN_S = 15.0

log = structlog.get_logger()


class RelayDied(Exception):
    """The relay ended by itself: the process ends too, so that whoever runs it starts it again."""


async def run_messages(settings: MessagingSettings, stop: threading.Event) -> None:
    """Both, until `stop` is set; raises `RelayDied`."""
    relay = threading.Thread(target=_relay, args=(settings, stop), name="relay", daemon=True)
    relay.start()
    try:
        await _sweep(settings, lambda: stop.is_set() or not relay.is_alive())
        if not stop.is_set():
            raise RelayDied("the outbox relay ended by itself; its log line says why")
    finally:
        stop.set()
        await asyncio.to_thread(relay.join, RELAY_STOPS_WITHIN_S)


def _relay(settings: MessagingSettings, stop: threading.Event) -> None:
    try:
        messaging.run_relay(settings.database_url, settings.broker_url, EXCHANGE, stop=stop)
    except BaseException:
        log.exception("relay.failed")
        raise


async def _sweep(settings: MessagingSettings, stopped: Callable[[], bool]) -> None:
    async with make_processor(settings) as processor:
        pool = make_pool(settings)
        await pool.open(wait=False)
        try:
            sweeper = Sweeper(store=Store(pool), processor=processor, older_s=settings.in_doubt_after_s)
            await sweeper.run(interval_s=settings.sweep_interval_s, stopped=stopped)
        finally:
            await pool.close(timeout=3.0)
