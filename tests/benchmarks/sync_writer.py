"""So many single-row writes per second to whichever side takes them, until standard input ends; tells how many.

python -m tests.benchmarks.sync_writer MONOLITH_URL EXTRACTED_URL RATE
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg

from strangler_proxy.core.stage import Origin
from tests.benchmarks.sync_world import HERE, NAMES, OTHERS, THERE
from tests.integration.sync_world import World
from tests.servers import ROOT

THREADS = 3


class Written:
    """Filled when the writer has ended."""

    rows = 0
    per_second = 0.0


@contextlib.contextmanager
def writing(world: World, rate: int) -> Iterator[Written]:
    """A process that writes meanwhile."""
    command = [sys.executable, "-m", "tests.benchmarks.sync_writer"]
    urls = [world.app_url(origin) for origin in (Origin.MONOLITH, Origin.EXTRACTED)]
    written = Written()
    process = subprocess.Popen(
        [*command, *urls, str(rate)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    try:
        yield written
    finally:
        seconds = time.monotonic() - began
        said, _ = process.communicate("", timeout=30)
        written.rows = int(said or 0)
        written.per_second = written.rows / seconds


def write(urls: tuple[str, str], rate: float, stop: threading.Event, counts: list[int]) -> None:
    """One thread: two inserts, then an update; the other side when the fence is met."""
    links = [psycopg.connect(url, autocommit=True) for url in urls]
    side, done, began = 0, 0, time.monotonic()
    while not stop.is_set():
        table, names = ((HERE, NAMES), (THERE, OTHERS))[side]
        insert = f"INSERT INTO {table} ({', '.join(names[1:])}) VALUES (1, 'new', 1, 'EUR', '{{}}', now())"
        update = f"UPDATE {table} SET {names[3]} = {names[3]} + 1 WHERE {names[0]} = %s"
        try:
            if done % 3 < 2:
                links[side].execute(insert.encode())
            else:
                links[side].execute(update.encode(), (1 + done * 7 % 9000,))
        except psycopg.Error as error:
            if error.sqlstate != "MF001":
                raise
            side = 1 - side
            time.sleep(0.01)
            continue
        done += 1
        time.sleep(max(0.0, began + done / rate - time.monotonic()))
        began = max(began, time.monotonic() - done / rate - 0.5)  # what a hold cost is not made up for at once
    counts.append(done)


def main() -> None:
    """Until standard input ends."""
    stop, counts = threading.Event(), list[int]()
    urls, rate = (sys.argv[1], sys.argv[2]), float(sys.argv[3]) / THREADS
    threads = [threading.Thread(target=write, args=(urls, rate, stop, counts)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(sum(counts))


if __name__ == "__main__":
    main()
