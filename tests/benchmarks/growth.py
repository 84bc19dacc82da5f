"""How cost grows: routes, flags, processes, idle connections, body size, and clients that never repeat themselves.

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
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.benchmarks.contestant import Case, Contestant
from tests.benchmarks.engine import SERVED, table
from tests.benchmarks.measure import Figures, measure, memory_mb, running, upstream_running
from tests.benchmarks.ours import HERE, engine
from tests.benchmarks.parts import install
from tests.benchmarks.targets import Verdict
from tests.benchmarks.upstream import UPSTREAM_PORT
from tests.servers import free_port

SMALL: Final = Case(name="1 KB", mode="get", path="/1k.json", connections=32, seconds=2)
ROUTES: Final = (len(SERVED), 100, 1_000, 10_000)
FLAGS: Final = (1, 20, 200)
PROCESSES: Final = (1, 2)
IDLE: Final = (0, 1_000, 5_000)
SIZES: Final = (("1 KB", "/1k.json"), ("16 KB", "/16k.json"), ("64 KB", "/64k.json"), ("1 MB", "/1m.json"))
FILES: Final = {"16k.json": 1 << 14, "1m.json": 1 << 20}
DECIDE_US: Final = 2.0
IDLE_BYTES: Final = 6 * 1024
IDLE_COSTS: Final = 1.1
"""5,000 idle connections cost no more than what two runs differ by anyway."""


def ours(*extra: str) -> Contestant:
    """The engine with all features on, and more arguments."""
    return Contestant(name="growth", prepare=engine("full", *extra), environment=HERE)


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


def with_idle(number: int) -> tuple[Figures, float]:
    """What it costs with idle connections beside, and the bytes of each of them."""
    port = free_port()
    with running(ours(), port) as pid:
        measure("warm", pid, port, SMALL, turn=-1)
        before = memory_mb(pid)
        with idle(port, number):
            each = (memory_mb(pid) - before) * 1_048_576 / number if number else 0.0
            return measure("growth", pid, port, SMALL, turn=0), each


def judged() -> list[Verdict]:
    """The targets that are no ratio to others."""
    decided = decide_us(ROUTES[-1])
    with upstream_running():
        alone, _ = with_idle(0)
        beside, each = with_idle(IDLE[-1])
    costs = beside.cpu_us / alone.cpu_us
    return [
        Verdict(
            target=f"a route among {ROUTES[-1]:,}: less than {DECIDE_US:g} us",
            found=f"{decided:.2f} us",
            met=decided < DECIDE_US,
        ),
        Verdict(
            target=f"an idle connection: less than {IDLE_BYTES:,} bytes",
            found=f"{each:,.0f} bytes",
            met=each < IDLE_BYTES,
        ),
        Verdict(
            target=f"{IDLE[-1]:,} idle connections: at most {IDLE_COSTS:g} x the CPU per request",
            found=f"{costs:.2f}",
            met=costs <= IDLE_COSTS,
        ),
    ]


def show(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One small table."""
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def _by(option: str, numbers: Sequence[int]) -> list[list[str]]:
    found = [(number, served(ours(option, str(number)), [SMALL])[0]) for number in numbers]
    return [[f"{number:,}", f"{f.cpu_us:.1f}", f"{f.per_second:,.0f}", f"{f.memory_mb:.0f}"] for number, f in found]


def show_all(console: Console) -> None:
    """Measure and print one table after the other."""
    usual = ("CPU us/request", "requests/s", "MB")
    decided = [f"{decide_us(number):.2f}" for number in ROUTES]
    rows = [[row[0], us, *row[1:]] for row, us in zip(_by("--routes", ROUTES), decided, strict=True)]
    show(console, "Routes", ("routes", "find a route, us", *usual), rows)
    show(console, "Flags", ("flags", *usual), _by("--flags", FLAGS))
    show(console, "Processes, on one core", ("processes", *usual), _by("--processes", PROCESSES))
    found = [(number, *with_idle(number)) for number in IDLE]
    rows = [[f"{n:,}", f"{f.cpu_us:.1f}", f"{f.per_second:,.0f}", f"{each:,.0f}"] for n, f, each in found]
    show(console, "Idle connections", ("idle connections", "CPU us/request", "requests/s", "bytes each"), rows)
    sizes = [Case(name=name, mode="get", path=path, connections=32, seconds=2) for name, path in SIZES]
    rows = [[f.case, f"{f.cpu_us:.1f}"] for f in served(ours(), sizes)]
    show(console, "Size of the answer", ("answer", "CPU us/request"), rows)
    fresh = [
        Case(name=name, mode=mode, path="/1k.json", connections=32, seconds=2)
        for name, mode in (("the same each time", "get"), ("other fields each time", "vary"))
    ]
    rows = [[f.case, f"{f.cpu_us:.1f}"] for f in served(ours(), fresh)]
    show(console, "Fields of the requests", ("fields", "CPU us/request"), rows)


def main() -> int:
    """Print all tables."""
    console = Console(width=100, highlight=False)
    install()
    with upstream_running(FILES):
        show_all(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
