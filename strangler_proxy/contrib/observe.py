"""Logs of an application: structlog and the standard library through one formatter, with request id and trace.

Console lines on a terminal, ECS JSON elsewhere (Elastic Common Schema), one object a line, on stdout.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import ecs_logging
import structlog

from strangler_proxy.contrib.access import access_line
from strangler_proxy.contrib.context import log_fields

__all__ = ["access_line", "configure_logging", "configured"]

FORMATS = ("json", "console")

_ECS_NAMES = {
    "logger": "log.logger",
    "service": "service.name",
    "request_id": "http.request.id",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "path": "url.path",
}
_NAMESPACE = "strangler"
"""Facts that ECS has no name for stand below this key, so that they never meet one of its objects."""

_Event = MutableMapping[str, Any]
_configured: list[str] = []


def configured() -> bool:
    """Has `configure_logging` been called in this process?"""
    return bool(_configured)


def configure_logging(service: str) -> None:
    """Set up structlog and the root logger of this process; safe to repeat.

    `service` is on each line. `STRANGLER_LOG` (`json` or `console`) chooses the form, `STRANGLER_LOG_LEVEL` the level
    (default `INFO`). Raises ValueError for another value of either.
    """
    form = os.environ.get("STRANGLER_LOG") or ("console" if sys.stdout.isatty() else "json")
    level = os.environ.get("STRANGLER_LOG_LEVEL", "INFO").upper()
    if form not in FORMATS:
        raise ValueError(f"STRANGLER_LOG {form!r} is not one of {', '.join(FORMATS)}")
    if level not in logging.getLevelNamesMapping():
        raise ValueError(f"STRANGLER_LOG_LEVEL {level!r} is not a level of logging")

    def name_service(_: Any, __: str, event: _Event) -> _Event:
        event.setdefault("service", service)
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _add_context,
        name_service,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    stream = logging.StreamHandler(sys.stdout)
    stream.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()], processors=_last(form)
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter)]:
        root.removeHandler(old)
    root.addHandler(stream)
    root.setLevel(level)
    for name in ("httpx", "httpcore"):  # a line per call on INFO, with the whole URL
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    _configured[:] = [service]


def _last(form: str) -> list[Any]:
    plain = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [plain, structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=True), renderer]
    return [plain, structlog.processors.format_exc_info, _name_by_ecs, ecs_logging.StructlogFormatter()]


def _add_context(_: Any, __: str, event: _Event) -> _Event:
    for name, value in log_fields().items():
        event.setdefault(name, value)
    return event


def _name_by_ecs(_: Any, __: str, event: _Event) -> _Event:
    level = str(event.pop("level", "info"))
    named: dict[str, Any] = {"event": event.pop("event", ""), "log.level": level}
    if "exception" in event:
        named["exception"] = event.pop("exception")
    if "error" in event:
        named["error.message"] = str(event.pop("error"))
    if "duration_ms" in event:
        named["event.duration"] = int(float(event.pop("duration_ms")) * 1_000_000)  # ECS counts nanoseconds
    if str(named["event"]).replace(".", "").replace("_", "").isalnum() and "." in str(named["event"]):
        named["event.action"] = named["event"]
    for name, value in event.items():
        named[_ECS_NAMES.get(name, f"{_NAMESPACE}.{name}")] = value
    return named
