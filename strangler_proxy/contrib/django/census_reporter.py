"""The thread that carries a process's counts to the database and brings back the modes. Nobody waits for it.

It has a connection of its own, for each report a new one, and starts with the first statement after a fork.
"""

from __future__ import annotations

import atexit
import contextvars
import importlib
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Optional

from django.db import connections, transaction

from strangler_proxy.contrib.django.census_mode import OFF, Modes, Rows, read_modes
from strangler_proxy.contrib.django.census_tally import Tally, as_json
from strangler_proxy.contrib.django.configuration import configuration

REPORT_S = 5.0
"""Counts wait so long; a place that was never seen goes at once."""

LOOK_S = 15.0
"""Where nothing is counted, modes are looked at again after so long (when a statement comes by)."""

_FRESH_S = 0.2
_LEAVE_S = 2.0
_LIMITS = "SET LOCAL statement_timeout = 3000; SET LOCAL lock_timeout = 1000"
_NOTE = "SELECT strangler.census_note(%s::jsonb)"
_DROPPED_AFTER = 12
"""Reports in a row that fail before counts are given up."""

logger = logging.getLogger("strangler.census")


class Reporter:
    """One per process; `modes` is swapped as a whole, and read without a lock."""

    def __init__(self) -> None:
        self.modes: Modes = OFF
        self.look_at = 0.0
        """Monotonic time at which the modes are old."""
        self.begin()
        os.register_at_fork(after_in_child=self.begin)
        atexit.register(self.stop)

    def begin(self) -> None:
        """A new process: nothing counted, no thread. What is known of the modes holds."""
        self.tally = Tally()
        self._due = math.inf
        self._wake = threading.Condition(threading.Lock())
        self._thread: Optional[threading.Thread] = None
        self._stopping = False
        self._failed = self._lost = 0
        self._began = time.monotonic()

    def __repr__(self) -> str:
        return f"<Reporter {self.tally!r} flags={sorted(self.modes.flags)} failed={self._failed} lost={self._lost}>"

    def is_mine(self) -> bool:
        """Is the caller the reporting thread itself?"""
        return self._thread is threading.current_thread()

    def took(self, modes: Modes) -> None:
        """Modes that were just read."""
        self.modes = modes
        self.look_at = time.monotonic() + (REPORT_S if modes.flags else LOOK_S)

    def noted(self, fresh: bool) -> None:
        """Something was counted: report it, at once if the place is new."""
        self._within(_FRESH_S if fresh else REPORT_S)

    def look(self) -> None:
        """The modes are old: read them again, in the background."""
        self.look_at = time.monotonic() + LOOK_S
        self._within(0)

    def stop(self) -> None:
        """Report what is left; at most some seconds. Called as the process ends."""
        thread = self._thread
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if thread is not None and thread.is_alive():
            thread.join(_LEAVE_S)

    def _within(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if due >= self._due and self._thread is not None:
            return
        with self._wake:
            self._due = min(due, self._due)
            if self._thread is None and not self._stopping:
                self._start()
            self._wake.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="strangler-census", daemon=True)
        try:
            contextvars.Context().run(thread.start)  # what a request has bound is not the thread's
        except RuntimeError:  # the interpreter is ending
            return
        self._thread = thread
        if "celery" in sys.modules:  # its pool's processes end without atexit
            signals = importlib.import_module("celery.signals")
            signals.worker_process_shutdown.connect(self._leave, dispatch_uid="strangler_census")

    def _leave(self, **_: Any) -> None:
        self.stop()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._stopping and (left := self._due - time.monotonic()) > 0:
                    self._wake.wait(min(left, 3600.0))
                self._due = math.inf
                last = self._stopping
            self._round()
            if last:
                return

    def _round(self) -> None:
        taken = self.tally.take()
        try:
            self.took(self._exchange(json.dumps(self._report(as_json(taken))) if taken or self.modes.flags else None))
        except Exception as error:  # noqa: BLE001  (nothing of the census may end the thread)
            self._not_arrived(taken, error)
        else:
            self._failed = 0
        finally:
            connections[configuration().database].close()

    def _not_arrived(self, taken: Any, error: Exception) -> None:
        self._failed += 1
        if self._failed == 1:
            logger.warning("census.report_failed", extra={"error": f"{type(error).__name__}: {error}"[:300]})
        if self._failed >= _DROPPED_AFTER:
            self._lost += sum(count.count for count in taken.values())
            return
        self.tally.put_back(taken)
        if taken and not self._stopping:
            self._within(REPORT_S)

    def _exchange(self, report: Optional[str]) -> Modes:
        alias = configuration().database
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:

            def ask(statement: str) -> Rows:
                cursor.execute(statement)
                return list(cursor.fetchall())

            cursor.execute(_LIMITS)
            if report is not None:
                cursor.execute(_NOTE, [report])
            return read_modes(ask)

    def _report(self, places: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "service": configuration().service,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "program": Path(sys.argv[0]).name if sys.argv else "",
            "age_s": round(time.monotonic() - self._began, 3),
            "lost": self._lost,
            "places": places,
        }


reporter = Reporter()
"""The process's own."""
