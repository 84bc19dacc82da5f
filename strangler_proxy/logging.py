"""The toolkit's own log: structlog, one event a line; ECS JSON where stdout is not a terminal.

`STRANGLER_LOG=json|console` chooses the form, `STRANGLER_LOG_LEVEL` the least level (default `info`).
Lines of libraries that use the standard library come out the same way. ECS names are written with their dots, which
means the same as nested objects to whoever reads ECS, and costs a twentieth: a proxy writes a line for each request.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

FORM: Final = "STRANGLER_LOG"
LEVEL: Final = "STRANGLER_LOG_LEVEL"
ECS_VERSION: Final = "8.11.0"
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_WAITING_LINES: Final = 10_000
_BATCH_LINES: Final = 200
_FLUSH_S: Final = 1.0
_WRITE_EVERY_S: Final = 0.02

Event = MutableMapping[str, Any]


def configure(service: str) -> None:
    """Set up logging of this process; `service` is its name in every line. Call it once, before the first line."""
    level = _LEVELS.get(os.environ.get(LEVEL, "").lower(), logging.INFO)
    shared: list[structlog.typing.Processor] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]
    if _json():
        shared.append(structlog.processors.ExceptionRenderer())
    render = _EcsLine(service) if _json() else _console()
    output = BoundedOutput(sys.stdout.fileno())
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)
    for chatty in ("asyncio", "psycopg", "psycopg.pool", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    atexit.register(output.flush)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(output),
        cache_logger_on_first_use=True,
    )


class BoundedOutput(logging.Handler):
    """Writes lines from a thread of its own, so that a reader that stalls never stalls who logs.

    At most 10,000 lines wait; more are dropped, and the next line that gets through is preceded by how many were.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[str] = queue.Queue(_WAITING_LINES)
        self.dropped = 0
        threading.Thread(target=self._write, name="log output", daemon=True).start()

    def put(self, line: str) -> None:
        """Have a line written, or dropped where too many wait."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def emit(self, record: logging.LogRecord) -> None:
        """A line of a library."""
        try:
            self.put(self.format(record))
        except Exception:  # noqa: BLE001 -- a line that cannot be formatted must not fail who logged it
            self.handleError(record)

    def flush(self) -> None:
        """Wait until everything is written, for a second at most."""
        until = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)

    def _write(self) -> None:
        while True:
            lines = [self._lines.get()]
            while len(lines) < _BATCH_LINES and not self._lines.empty():
                lines.append(self._lines.get())
            dropped, self.dropped = self.dropped, 0
            if dropped:
                lines.insert(0, f"{dropped} lines were dropped here: nobody read them")
            left = memoryview(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:
                pass  # nobody reads any more; there is no other place to say so
            for _ in range(len(lines) - bool(dropped)):
                self._lines.task_done()
            if len(lines) < _BATCH_LINES:
                time.sleep(_WRITE_EVERY_S)  # under load: one wake-up for many lines


class _Lines:
    """What structlog hands finished lines to."""

    def __init__(self, output: BoundedOutput) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = output.put


class _EcsLine:
    """An event as one line of JSON with ECS names. In ECS `error` is an object: a sentence becomes its message."""

    def __init__(self, service: str) -> None:
        self._fields = {"ecs.version": ECS_VERSION, "service.name": service, "process.pid": os.getpid()}
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode

    def __call__(self, _: Any, __: str, event: Event) -> str:
        line = {
            "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "log.level": event.pop("level", "info"),
            "message": event.pop("event", ""),
        }
        if "error" in event:
            event["error.message"] = str(event.pop("error"))
        if "exception" in event:
            event["error.stack_trace"] = event.pop("exception")
        line.update(event)
        line.update(self._fields)
        return self._encode(line)


def _console() -> structlog.typing.Processor:
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables
    )

    def line(logger: Any, name: str, event: Event) -> str:
        event["timestamp"] = datetime.now().astimezone().isoformat(timespec="milliseconds")
        return render(logger, name, event)

    return line


def _json() -> bool:
    form = os.environ.get(FORM, "").lower()
    return form == "json" or (form != "console" and not sys.stdout.isatty())
