"""The project's consumer of tasks that come back: EXCHANGE QUEUE."""

from __future__ import annotations

import signal
import sys
import threading

from strangler_proxy.contrib.django import inbox
from strangler_proxy.contrib.django.handover import run_handed_task
from tests.integration.contrib_project.handing import BROKER_URL


def main() -> None:
    """Run until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    exchange, queue = sys.argv[1:]
    inbox.run_consumer(BROKER_URL, exchange, queue, ["task.monolith.#"], run_handed_task, stop=stop)


main()
