"""The process beside the web process: outbox relay and task consumer on threads, the sweeper on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog

from extracted.payments import tasks
from extracted.payments.app import make_pool, make_processor
from extracted.payments.settings import MessagingSettings
from extracted.payments.store import Store
from extracted.payments.sweeper import Sweeper
from strangler_proxy.contrib import messaging

EXCHANGE = "shop.events"
PARTS_STOP_WITHIN_S = 15.0

log = structlog.get_logger()


class PartDied(Exception):
    """A part ended by itself: the process ends too, so that whoever runs it starts it again."""


async def run_messages(settings: MessagingSettings, stop: threading.Event) -> None:
    """All of them, until `stop` is set; raises `PartDied`."""
    relay = _started(
        "relay", lambda: messaging.run_relay(settings.database_url, settings.broker_url, EXCHANGE, stop=stop)
    )
    taking = _started("tasks", lambda: tasks.consume(settings, EXCHANGE, stop))
    try:
        await _sweep(settings, lambda: stop.is_set() or not (relay.is_alive() and taking.is_alive()))
        if not stop.is_set():
            ended = "outbox relay" if taking.is_alive() else "consumer of tasks"
            raise PartDied(f"the {ended} ended by itself; its log line says why")
    finally:
        stop.set()
        for part in (relay, taking):
            await asyncio.to_thread(part.join, PARTS_STOP_WITHIN_S)


def _started(name: str, work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except BaseException:
            log.exception("messages.part_failed", part=name)
            raise

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


async def _sweep(settings: MessagingSettings, stopped: Callable[[], bool]) -> None:
    async with make_processor(settings) as processor:
        pool = make_pool(settings)
        await pool.open(wait=False)
        try:
            sweeper = Sweeper(store=Store(pool), processor=processor, older_s=settings.in_doubt_after_s)
            await sweeper.run(interval_s=settings.sweep_interval_s, stopped=stopped)
        finally:
            await pool.close(timeout=3.0)
