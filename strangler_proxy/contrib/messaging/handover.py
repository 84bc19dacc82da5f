"""Handing a task over to the side that owns its rows: once by effect, however often it is sent or moves on.

A task that was queued before a cutover and runs after it meets the fence. It is written to the outbox for the other
side, under an id made from the task's own; there the inbox row and the effect are one transaction. Where that side
is not the owner any more either, the same transaction holds the inbox row and the message back. So at every station
exactly one of two things is committed, once: the effect, or the handing on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
import structlog

from strangler_proxy.contrib.messaging.message import Message, UnreadableMessage
from strangler_proxy.contrib.messaging.outbox import Executes, enqueue
from strangler_proxy.contrib.record import fence_in

log = structlog.get_logger("strangler.messaging")

ORIGINS = ("monolith", "extracted")
PREFIX = "task"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedTask:
    """A task on its way. `task_id` is its key, the same wherever it goes; `hops` how often it was handed over."""

    name: str
    task_id: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any]
    hops: int = 0

    @classmethod
    def of(cls, message: Message) -> HandedTask:
        """Read a message. Raises UnreadableMessage."""
        data = message.data
        try:
            name, task_id, args, kwargs, hops = (data[each] for each in ("name", "task_id", "args", "kwargs", "hops"))
        except KeyError as error:
            raise UnreadableMessage(f"not a task that was handed over: {error} is missing") from error
        return cls(name=str(name), task_id=str(task_id), args=tuple(args), kwargs=dict(kwargs), hops=int(hops))

    @property
    def message_id(self) -> UUID:
        """Of this hop: a task that comes back is another message."""
        return uuid5(NAMESPACE_OID, f"strangler:{self.task_id}:{self.hops}")

    def write(self, cursor: Executes, to: str) -> None:
        """Put it into the outbox for that origin, in the open transaction; a second time nothing is written."""
        data = {
            "name": self.name,
            "task_id": self.task_id,
            "args": json.loads(json.dumps(self.args, default=str)),
            "kwargs": json.loads(json.dumps(self.kwargs, default=str)),
            "hops": self.hops,
        }
        enqueue(cursor, event_for(self.name, to), data, message_id=self.message_id)

    def further(self) -> HandedTask:
        """The same with one more hop."""
        return replace(self, hops=self.hops + 1)


def event_for(name: str, to: str) -> str:
    """The routing key of a task that is handed to that origin.

    >>> event_for("parcels.send", "extracted")
    'task.extracted.parcels.send'
    """
    if to not in ORIGINS:
        raise ValueError(f"{to!r} is not monolith or extracted")
    return f"{PREFIX}.{to}.{name}"


def other(origin: str) -> str:
    """The other origin."""
    return ORIGINS[1 - ORIGINS.index(origin)]


def runs_or_hands_back(
    run: Callable[[HandedTask, psycopg.Cursor[Any]], None], *, flag: str, origin: str = "extracted"
) -> Callable[[Message, psycopg.Cursor[Any]], None]:
    """A `handle` for `run_consumer`: has the task's effect, or hands it on where this side does not own `flag`.

    `run` works with the cursor it is given, in a savepoint of the transaction that holds the inbox row; the task's id
    is the key for whatever it keeps.
    """

    def handle(message: Message, cursor: psycopg.Cursor[Any]) -> None:
        task = HandedTask.of(message)
        try:
            with cursor.connection.transaction():
                run(task, cursor)
        except psycopg.Error as error:
            met = fence_in(error)
            if met is None or met[0] not in (flag, ""):
                raise
            task.further().write(cursor, other(origin))
            log.info("task.handed_over", task=task.name, task_id=task.task_id, flag=flag, to=other(origin))

    return handle
