"""Both ends of handing tasks over, on Django's connection: to the other side, and taken back. Needs Celery and Kombu.

See `contrib.handover` for the task's part.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import connections, transaction

from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.handover import HandOver
from strangler_proxy.contrib.messaging.handover import HandedTask, other
from strangler_proxy.contrib.messaging.message import Message, UnreadableMessage
from strangler_proxy.contrib.record import FenceRecord, fence_in, recording

logger = logging.getLogger("strangler.task")


def to_other_side(task: HandedTask) -> None:
    """`HandOver.write`: into the outbox of `settings.STRANGLER`'s database, committed at once."""
    connection = connections[configuration().database]
    connection.close_if_unusable_or_obsolete()
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        task.write(cursor, other(configuration().origin))


def run_handed_task(message: Message) -> None:
    """The effect, for `inbox.run_consumer`, of a task that the other side handed over: bindings `task.ORIGIN.#`.

    Runs the Celery task of that name here, in a savepoint of the transaction that holds the inbox row, or hands it on
    in that transaction where this side is not the owner (any more). Raises UnreadableMessage for a name that is no
    task with `hand_over` here.
    """
    handed = HandedTask.of(message)
    task = current_app.tasks.get(handed.name)
    hand_over = getattr(task, "hand_over", None)
    if not isinstance(hand_over, HandOver):
        raise UnreadableMessage(f"no task {handed.name!r} is handed over here")
    alias = configuration().database
    record = FenceRecord()
    try:
        with recording(record), transaction.atomic(using=alias):
            _run(task, handed)
            if record.met is not None:
                raise _Fenced
    except Exception as error:
        met = (record.met.flag, "") if record.met is not None else fence_in(error)
        if met is None or met[0] not in (hand_over.flag, ""):
            raise
        to = other(configuration().origin)
        with connections[alias].cursor() as cursor:
            handed.further().write(cursor, to)
        facts = {"task": handed.name, "task_id": handed.task_id, "flag": hand_over.flag, "to": to}
        logger.info("task.handed_over", extra=facts)


def _run(task: Any, handed: HandedTask) -> None:
    task.push_request(id=handed.task_id, args=handed.args, kwargs=handed.kwargs, called_directly=True)
    try:
        task.run(*handed.args, **handed.kwargs)
    finally:
        task.pop_request()


class _Fenced(Exception):
    """The fence was swallowed: its savepoint is rolled back all the same."""
