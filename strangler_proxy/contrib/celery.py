"""Celery: request id and trace context go along with each task, and each run of a task is one log line.

What in Celery's settings would lose tasks is logged when a worker starts, and told by `manage.py check`.

A marked request of shadow mode has its sends noted; a mirrored one sends nothing.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from celery import Celery, signals, uuid

from strangler_proxy.contrib import observe, shadow_kombu
from strangler_proxy.contrib.context import Tokens, bind_headers, end_request, outbound_headers
from strangler_proxy.contrib.shadow_capture import current

HEADER = "strangler_context"
"""Header of the task's message that carries them."""

_MARK = "_strangler_captures"

logger = logging.getLogger("strangler.task")


@dataclass(frozen=True)
class _Run:
    tokens: Tokens
    started: float


_runs: dict[str, _Run] = {}
"""Runs under way in this process, by task id: as many as there are threads."""


def install(app: Celery) -> None:
    """Connect to Celery's signals; safe to repeat. They are process-wide: one call serves all apps of the process.

    Where `observe.configure_logging` was called before, Celery leaves logging alone.
    """
    capture_sends()
    signals.before_task_publish.connect(_send_context, weak=False, dispatch_uid="strangler_send_context")
    signals.task_prerun.connect(_begin, weak=False, dispatch_uid="strangler_begin")
    signals.task_postrun.connect(_end, weak=False, dispatch_uid="strangler_end")
    signals.worker_init.connect(_say_doubts, weak=False, dispatch_uid="strangler_say_doubts")
    if observe.configured():
        app.conf.worker_hijack_root_logger = False
        signals.setup_logging.connect(_leave_logging, weak=False, dispatch_uid="strangler_leave_logging")


def capture_sends() -> None:
    """Wrap `Celery.send_task`, which every way of sending a task comes to, and Kombu below it. Safe to repeat."""
    shadow_kombu.install()
    if not getattr(Celery.send_task, _MARK, False):
        Celery.send_task = _captured(Celery.send_task)


def _captured(send_task: Any) -> Any:
    @functools.wraps(send_task)
    def captured(self: Any, name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        capture = current.get()
        if capture is None:
            return send_task(self, name, args, kwargs, *rest, **options)
        detail = {"name": name, "args": _json(args or []), "kwargs": _json(kwargs or {})}
        if capture.mirrors:
            capture.note("task", detail)
            return self.AsyncResult(options.get("task_id") or uuid())
        with capture.outermost("message"):  # the message that carries it is not told a second time
            sent = send_task(self, name, args, kwargs, *rest, **options)
        capture.note("task", detail)
        return sent

    setattr(captured, _MARK, True)
    return captured


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def doubts(app: Celery) -> list[str]:
    """What in these settings would lose a task that a killed worker had, or keep others waiting behind it.

    Looked at are tasks that are acknowledged late, and those that are handed over (`handover.HandingOverTask`).
    """
    found = []
    handing = {name: task for name, task in sorted(app.tasks.items()) if hasattr(task, "hand_over")}
    for name, task in handing.items():
        if task.hand_over is None:
            found.append(f"task {name} has no hand_over=HandOver(...): it fails at the fence")
        if not task.acks_late:
            found.append(f"task {name} is acknowledged before it has run (acks_late is off): a killed worker loses it")
        elif not task.reject_on_worker_lost:
            found.append(f"task {name} is acknowledged when its worker is killed (reject_on_worker_lost is off)")
    if app.conf.task_acks_late and not app.conf.task_reject_on_worker_lost:
        found.append("task_acks_late without task_reject_on_worker_lost: a task whose worker is killed is lost")
    prefetched = app.conf.worker_prefetch_multiplier
    if (handing or app.conf.task_acks_late) and prefetched != 1:
        found.append(f"worker_prefetch_multiplier is {prefetched}, not 1: a killed worker gives back more than it ran")
    return found


def _say_doubts(sender: Any = None, **_: Any) -> None:
    app = getattr(sender, "app", None)
    for doubt in doubts(app) if app is not None else ():
        logger.warning("task.settings_doubtful", extra={"reason": doubt})


def _send_context(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None and outbound_headers():
        headers.setdefault(HEADER, outbound_headers())


def _begin(task_id: str = "", task: Any = None, **_: Any) -> None:
    carried = task.request.get(HEADER) if task is not None else None
    eager = bool(task is not None and task.request.is_eager)
    given = outbound_headers() if eager and not carried else carried
    _runs[task_id] = _Run(bind_headers(given if isinstance(given, dict) else {}), time.perf_counter())


def _end(task_id: str = "", task: Any = None, state: str | None = None, **_: Any) -> None:
    run = _runs.pop(task_id, None)
    if run is None:
        return
    facts: dict[str, Any] = {"task": getattr(task, "name", ""), "task_id": task_id, "state": state or "UNKNOWN"}
    facts["attempt"] = int(getattr(task.request, "retries", 0) or 0) + 1 if task is not None else 1
    facts["duration_ms"] = round((time.perf_counter() - run.started) * 1000, 3)
    level = logging.WARNING if state in ("FAILURE", "RETRY") else logging.INFO
    logger.log(level, "task.finished", extra=facts)
    end_request(run.tokens)


def _leave_logging(**_: Any) -> None:
    """That there is a receiver is what keeps Celery from configuring logging."""
