"""Stop (SIGSTOP) and continue a real PostgreSQL with all of its backends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.servers import EmbeddedPostgres


@contextmanager
def stopped(server: EmbeddedPostgres) -> Iterator[None]:
    """The server does not answer, and its sockets stay open; it goes on afterwards."""
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    everyone = [postmaster, *postmaster.children(recursive=True)]
    for process in everyone:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in everyone:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
