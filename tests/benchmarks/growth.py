"""How cost grows: routes, idle connections, body size, processes, and clients that never repeat themselves.

python -m tests.benchmarks.growth
"""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.contestants import UPSTREAM_PORT, Contestant, upstream
from tests.benchmarks.engine import SERVED, table
from tests.benchmarks.measure import Case, Figures, measure, memory_mb, running, spawned, wait_for
from tests.benchmarks.parts import folder, install
from tests.servers import ROOT, free_port

SMALL = Case(name="1 KB", mode="get", path="/1k.json", connections=32, seconds=2)
ROUTES = (1, 100, 1_000, 10_000)
IDLE = (0, 1_000, 5_000)
SIZES = (("1 KB", "/1k.json"), ("16 KB", "/16k.json"), ("64 KB", "/64k.json"), ("1 MB", "/1m.json"))


def engine(*extra: str) -> Contestant:
    """Ours with all features on, and more arguments."""

    def prepare(_: object, port: int) -> list[str]:
        return [sys.executable, "-m", "tests.benchmarks.engine", "full", str(port), str(UPSTREAM_PORT), *extra]

    return Contestant(name="growth", prepare=prepare, environment={"PYTHONPATH": str(ROOT)})


def decide_us(routes: int, rounds: int = 20_000) -> float:
    """Microseconds to find the route of a path that was not asked for before, among so many; the best of five."""
    made = table(UPSTREAM_PORT, routes)
    draw = random.Random(1)
    paths = [
        f"/area{n % 50}/part{n}/{draw.randrange(10**6)}/x" for n in (draw.randrange(routes) for _ in range(rounds))
    ]
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for path in paths:
            made.match("GET", "example.com", path, {}, {})
        best = min(best, (time.process_time() - begun) / rounds * 1e6)
    return best


@contextlib.contextmanager
def idle(port: int, number: int) -> Iterator[None]:
    """So many connections that sent one request and then nothing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            one.sendall(b"GET /1k.json HTTP/1.1\r\nHost: example.com\r\nUser-Agent: idle\r\n\r\n")
            one.recv(65_536)
        yield


def served(contestant: Contestant, cases: Sequence[Case]) -> list[Figures]:
    """Start it, warm it, and run the cases."""
    port = free_port()
    with running(contestant, port) as pid:
        measure("warm", pid, port, SMALL, turn=-1)
        return [measure("growth", pid, port, case, turn=0) for case in cases]


def show(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One small table."""
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def by_connections() -> list[list[str]]:
    """CPU and memory with idle connections; bytes per idle connection."""
    rows = []
    for number in IDLE:
        port = free_port()
        with running(engine(), port) as pid:
            measure("warm", pid, port, SMALL, turn=-1)
            before = memory_mb(pid)
            with idle(port, number):
                each = (memory_mb(pid) - before) * 1_048_576 / number if number else 0.0
                found = measure("growth", pid, port, SMALL, turn=0)
        rows.append([f"{number:,}", f"{found.cpu_us:.1f}", f"{found.per_second:,.0f}", f"{each:,.0f}"])
    return rows


def main() -> int:
    """Print all tables."""
    console = Console(width=100, highlight=False)
    install()
    where = folder("upstream")
    command = upstream(where)
    for name, size in (("16k.json", 1 << 14), ("1m.json", 1 << 20)):
        (where / "www" / name).write_text("x" * size)
    with spawned(command, where / "output.log", {}, core=1):
        wait_for(UPSTREAM_PORT)
        rows = []
        for routes in ROUTES:
            found = served(engine("--routes", str(max(routes, len(SERVED)))), [SMALL])[0]
            rows.append([f"{routes:,}", f"{decide_us(max(routes, 4)):.2f}", f"{found.cpu_us:.1f}"])
        show(console, "Routes", ("routes", "find a route, us", "CPU us/request"), rows)
        columns = ("idle connections", "CPU us/request", "requests/s", "bytes each")
        show(console, "Idle connections", columns, by_connections())
        sizes = [Case(name=name, mode="get", path=path, connections=32, seconds=2) for name, path in SIZES]
        sized = [[f.case, f"{f.cpu_us:.1f}"] for f in served(engine(), sizes)]
        show(console, "Size of the answer", ("answer", "CPU us/request"), sized)
        fresh = [
            Case(name=name, mode=mode, path="/1k.json", connections=32, seconds=2)
            for name, mode in (("the same each time", "get"), ("other fields each time", "vary"))
        ]
        varied = [[f.case, f"{f.cpu_us:.1f}"] for f in served(engine(), fresh)]
        show(console, "Fields of the requests", ("fields", "CPU us/request"), varied)
    return 0


if __name__ == "__main__":
    sys.exit(main())
