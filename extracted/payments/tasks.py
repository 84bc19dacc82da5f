"""Tasks that the monolith hands over: queued there before a cutover, or after it by its clock."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import structlog

from extracted.payments.fields import parse_date
from extracted.payments.queries import query
from extracted.payments.settings import MessagingSettings
from strangler_proxy.contrib import messaging
from strangler_proxy.contrib.messaging.handover import HandedTask, event_for, runs_or_hands_back

FLAG = "payments"
QUEUE = "payments.tasks"

log = structlog.get_logger()


def settle_day(task: HandedTask, cursor: psycopg.Cursor[Any]) -> None:
    """Settle a day, once per currency: as `POST /api/payments/settlements`, in the transaction of the inbox row."""
    day = parse_date({"date": task.args[0]})
    cursor.execute(query("lock_settlement"), {"date": day})
    cursor.execute(query("settle"), {"date": day})
    log.info("settlement.made", date=day, currencies=cursor.rowcount)


TASKS = {"payments.settle_day": settle_day}


def run(task: HandedTask, cursor: psycopg.Cursor[Any]) -> None:
    """The effect of one."""
    TASKS[task.name](task, cursor)


def consume(settings: MessagingSettings, exchange: str, stop: threading.Event) -> None:
    """Take them until `stop` is set."""
    messaging.run_consumer(
        settings.database_url,
        settings.broker_url,
        exchange,
        QUEUE,
        [event_for(name, "extracted") for name in TASKS],
        runs_or_hands_back(run, flag=FLAG),
        stop=stop,
    )
