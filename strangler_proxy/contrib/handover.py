"""Celery tasks that are handed over: a task queued before a cutover and run after it goes to the new owner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject

from strangler_proxy.contrib.messaging.handover import HandedTask
from strangler_proxy.contrib.record import FenceRecord, fence_in, recording

logger = logging.getLogger("strangler.task")


class FencedTask(RuntimeError):
    """The task met the fence of another capability than it is handed over for: it fails."""


@dataclass(frozen=True)
class HandOver:
    """Where a task goes when its rows have moved.

    `write` puts it into this side's outbox and commits (`django.handover.to_other_side`). Where that fails it is
    tried `attempts` times in all, with pauses from 0.2 s doubling to 5 s, then the task goes back to its queue.
    """

    flag: str
    write: Callable[[HandedTask], None]
    attempts: int = 5


class HandingOverTask(Task):  # type: ignore[misc]  # Celery is not typed
    """Base of a task that writes rows which move: `@shared_task(base=HandingOverTask, hand_over=HandOver(...))`.

    A run that meets the fence, swallowed or not, commits nothing from then on, and the task is written to the outbox
    with its id, arguments and name. Only then is it acknowledged, so a worker that is killed runs it again; the inbox
    of the new owner knows the id. As with any task that is acknowledged late, what was committed before the fence has
    to bear being done twice. `link` and `chain` are not taken along. Called as a function it is a plain one.
    """

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    hand_over: HandOver | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run by a worker, or by `apply`."""
        if self.request.called_directly:
            return self.run(*args, **kwargs)
        result, error, record = None, None, FenceRecord()
        try:
            with recording(record):
                result = self.run(*args, **kwargs)
        except Exception as raised:  # noqa: BLE001  (judged below)
            error = raised
        met = fence_in(error) if record.met is None else (record.met.flag, record.met.table)
        if met is None:
            if error is not None:
                raise error
            return result
        if self.hand_over is None or met[0] not in (self.hand_over.flag, ""):
            raise FencedTask(f"{self.name} met the fence of {met[0]!r}, for which it has no hand_over") from error
        task = HandedTask(name=self.name, task_id=str(self.request.id), args=args, kwargs=kwargs)
        _write(task, self.hand_over, record)
        raise Ignore


def _write(task: HandedTask, hand_over: HandOver, record: FenceRecord) -> None:
    facts = {"task": task.name, "task_id": task.task_id, "flag": hand_over.flag}
    pause_s = 0.2
    for attempt in range(1, hand_over.attempts + 1):
        try:
            hand_over.write(task)
        except Exception as error:
            told = {**facts, "attempt": attempt, "error": f"{type(error).__name__}: {error}"[:300]}
            logger.warning("task.handing_over_failed", extra=told)
            if attempt == hand_over.attempts:
                raise Reject(error, requeue=True) from error
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
        else:
            logger.info("task.handed_over", extra={**facts, "commits": dict(record.commits)})
            return
