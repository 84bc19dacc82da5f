"""A minute of load while everything changes: an upstream restarts, proxies are replaced, others hang, reset and fail.

What fails has to be something that nobody may send again; how much of it there was is counted by class.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.capability import Capability
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.route import Cluster, Endpoint, Route, Timeouts
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store, migrate, open_store
from tests.acceptance import changing_upstream
from tests.integration.engine_rig import Client
from tests.running_proxy import RunningProxy
from tests.servers import free_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SECONDS = 60.0
LONGEST_S = 140.0
RESTARTS = 20
REPLACEMENTS = 10
FIGURES = Path(os.environ.get("STRANGLER_FIGURES", "var/figures.txt"))
SICK = ("hangs", "resets", "fails")
BUDGETS = Timeouts(connect_s=1.0, first_byte_s=1.0, idle_s=2.0, total_s=10.0)


class Process:
    """One upstream on its port, which can be restarted."""

    def __init__(self, mode: str, ledger: Path) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-S", "-E", changing_upstream.__file__, str(self.port), mode, str(ledger)]
        self._process = subprocess.Popen(self._command)

    def restart(self, name: signal.Signals) -> None:
        """End it by a signal, and start it again."""
        self._process.send_signal(name)
        self._process.wait(10)
        self._process = subprocess.Popen(self._command)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)


def declared(steady: list[int], sick: dict[str, int]) -> list[Capability]:
    """Two upstreams side by side for what has to go well; one sick one each for the rest.

    Breaker and ejections are short, so that restarts and sickness are met over and over.
    """

    def cluster(name: str, *ports: int) -> Cluster:
        endpoints = tuple(Endpoint(host="127.0.0.1", port=port) for port in ports)
        ejects = OutlierPolicy(failures=3, eject_s=0.5, longest_s=1.0)
        return Cluster(name=name, endpoints=endpoints, slow_start_s=0.0, outlier=ejects)

    def route(name: str, extracted: str, flag: str) -> Route:
        return Route(
            name=name,
            flag=flag,
            path=f"/{name}/**",
            clusters={Origin.MONOLITH: "monolith", Origin.EXTRACTED: extracted},
            timeouts=BUDGETS,
            fallback=name == "moved",
            breaker=BreakerPolicy(failures=5, window_s=2.0, open_s=0.5),
        )

    routes = [route(name, name, "changing") for name in SICK]
    routes += [route("moved", "hangs", "changing"), route("steady", "monolith", "changing")]
    clusters = [cluster("monolith", *steady), *(cluster(name, port) for name, port in sick.items())]
    return [
        Capability(
            key="changing",
            file_name="changing.toml",
            file_text='key = "changing"\n',
            routes=tuple(routes),
            clusters=tuple(clusters),
        )
    ]


async def prepared(url: str, capabilities: list[Capability]) -> None:
    """The table in the control database: everything is served by extracted."""
    store: Store = open_store(url)
    try:
        await store.switches.apply(capabilities, default_cluster="monolith", by="t", reason="", expected_revision=None)
        for stage in (Stage.SHADOW, Stage.CANARY, Stage.EXTRACTED):
            await store.switches.set_stage("changing", stage=stage, weight=0, by="t", reason="", expected_revision=None)
    finally:
        await store.close()


class Book:
    """What clients met, by what they asked for; `acknowledged` are the bodies of POSTs that were answered 200."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.met: Counter[tuple[str, str]] = Counter()
        self.acknowledged: list[str] = []
        self.stop = threading.Event()

    def note(self, what: str, outcome: str) -> None:
        with self._lock:
            self.met[what, outcome] += 1

    def of(self, what: str) -> Counter[str]:
        """Outcomes of one kind of request."""
        return Counter({outcome: count for (kind, outcome), count in self.met.items() if kind == what})


def outcome_of(client: Client, method: str, target: str, body: bytes) -> tuple[str, bool]:
    """What became of one request, and whether its connection goes on."""
    try:
        answer = client.get(target, method=method, body=body)
    except TimeoutError:
        return "no answer within 10 s", False
    except OSError as error:
        began = "the body ended" in str(error) or "chunk" in str(error)
        return ("cut within the answer" if began else f"connection lost ({error})"), False
    code = ""
    if answer.values("content-type") == [b"application/problem+json"]:
        code = " " + answer.body.partition(b'"code": "')[2].partition(b'"')[0].decode()
    return f"{answer.status}{code}", b"close" not in answer.values("connection")


def drive(book: Book, port: int, what: str, method: str, target: str, *, kept: bool = True, pause_s: float) -> None:
    """Ask over and over, on a kept connection or a new one each time."""
    client: Client | None = None
    while not book.stop.wait(pause_s * random.uniform(0.5, 1.5)):
        body = f"{random.getrandbits(64):016x}" if method == "POST" else ""
        try:
            client = client or Client(port, 10)
        except OSError as error:
            book.note(what, f"not connected ({error})")
            continue
        outcome, goes_on = outcome_of(client, method, target, body.encode())
        if outcome == "200" and body:
            book.acknowledged.append(body)
        book.note(what, outcome)
        if not goes_on or not kept:
            client.close()
            client = None
    if client is not None:
        client.close()


@contextmanager
def load(port: int) -> Iterator[Book]:
    """Clients of every kind, until the end of the block."""
    book = Book()
    kinds = [
        *itertools.repeat(("GET", "GET", "/steady/x", True, 0.015), 4),
        *itertools.repeat(("POST", "POST", "/steady/x", True, 0.015), 3),
        ("GET, a new connection each", "GET", "/steady/x", False, 0.02),
        *itertools.repeat(("GET, a long answer", "GET", "/steady/large", True, 0.02), 2),
        ("GET, fallback", "GET", "/moved/x", True, 0.1),
        *((f"GET, upstream {sick}", "GET", f"/{sick}/x", True, 0.1) for sick in SICK),
    ]
    threads = [
        threading.Thread(
            target=drive,
            args=(book, port, what, method, target),
            kwargs={"kept": kept, "pause_s": pause_s},
            daemon=True,
        )
        for what, method, target, kept, pause_s in kinds
    ]
    for thread in threads:
        thread.start()
    try:
        yield book
    finally:
        book.stop.set()
        for thread in threads:
            thread.join(15)


def until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def workers(proxy: RunningProxy) -> set[int]:
    """Process ids of the proxies, without the processes that judge for them."""
    alive = set()
    for each in proxy.family()[0].children():
        try:
            if each.status() != psutil.STATUS_ZOMBIE:
                alive.add(each.pid)
        except psutil.NoSuchProcess:
            continue
    return alive


def are_ready(proxy: RunningProxy) -> bool:
    try:
        return all(proxy.health("/readyz", number)[0] == 200 for number in range(proxy.workers))
    except httpx.TransportError:
        return False


def replace_all(proxy: RunningProxy) -> None:
    """Every worker in turn; back when the new ones serve alone."""
    known = workers(proxy)
    assert proxy.process is not None
    proxy.process.send_signal(signal.SIGUSR1)
    until(
        lambda: len(workers(proxy)) == proxy.workers and known.isdisjoint(workers(proxy)) and are_ready(proxy),
        60,
        "the proxies were not replaced",
    )


def restarts(upstream: Process, done: list[str]) -> None:
    """Half of them by SIGTERM, half by SIGKILL, spread over the time."""
    for number in range(RESTARTS):
        time.sleep(SECONDS / RESTARTS - 0.2)
        name = signal.SIGKILL if number % 2 else signal.SIGTERM
        upstream.restart(name)
        done.append(name.name)


def test_a_minute_of_restarts_hangs_resets_and_errors_fails_only_what_nobody_may_send_again(
    tmp_path: Path, database: str
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    migrate(database)
    with ExitStack() as stack:
        stays, changes = Process("steady", ledger), Process("steady", ledger)
        sick = {name: Process(name, ledger) for name in SICK}
        for each in (stays, changes, *sick.values()):
            stack.callback(each.stop)
        ports = {name: each.port for name, each in sick.items()}
        asyncio.run(prepared(database, declared([stays.port, changes.port], ports)))
        proxy = stack.enter_context(
            RunningProxy(tmp_path, workers=2, STRANGLER_DATABASE_URL=database, STRANGLER_ACCESS_LOG="0")
        )
        proxy.start()
        until(lambda: are_ready(proxy), 30, "the proxies are not ready")
        done: list[str] = []
        began = time.monotonic()
        with load(proxy.port) as book:
            restarting = threading.Thread(target=restarts, args=(changes, done), daemon=True)
            restarting.start()
            for number in range(REPLACEMENTS):
                replace_all(proxy)
                time.sleep(max(0.0, began + (number + 1) * SECONDS / REPLACEMENTS - time.monotonic()))
            restarting.join(max(1.0, began + LONGEST_S - time.monotonic()))
        lasted = time.monotonic() - began
        assert proxy.stop() == 0
    assert len(done) == RESTARTS
    report(book, lasted)
    check(book, ledger.read_text().split())


def check(book: Book, executed: list[str]) -> None:
    """Nothing failed that could have been sent again; nothing was done twice, nothing acknowledged is missing."""
    assert set(book.of("GET")) == {"200"}, book.of("GET")
    assert set(book.of("GET, a new connection each")) == {"200"}, book.of("GET, a new connection each")
    assert set(book.of("GET, fallback")) == {"200"}, book.of("GET, fallback")
    large, posts = book.of("GET, a long answer"), book.of("POST")
    assert set(large) <= {"200", "cut within the answer"}, large
    assert large["cut within the answer"] <= RESTARTS * 2
    assert set(posts) <= {"200", "502 connection_terminated"}, posts
    assert posts["502 connection_terminated"] <= RESTARTS * 3
    assert set(book.of("GET, upstream hangs")) <= {"504 response_timeout", "503 breaker_open"}
    assert set(book.of("GET, upstream resets")) <= {"cut within the answer", "503 breaker_open"}
    assert set(book.of("GET, upstream fails")) <= {"500", "503 breaker_open"}
    times = Counter(executed)
    assert max(times.values()) == 1, "a POST was carried out twice"
    assert set(book.acknowledged) <= set(times), "an acknowledged POST was not carried out"
    assert min(sum(book.of(what).values()) for what in ("GET", "POST")) > 1_000
    assert sum(book.of("GET, fallback").values()) > 20, "each waits for the side that hangs, and is then served"


def report(book: Book, lasted: float) -> None:
    """The counts, printed and kept for the docs."""
    lines = [f"load under change: {sum(book.met.values())} requests in {lasted:.0f} s, {RESTARTS} restarts of an "
             f"upstream, {REPLACEMENTS} replacements of all proxies"]  # fmt: skip
    lines += [f"  {what}: {outcome}: {count}" for (what, outcome), count in sorted(book.met.items())]
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    with FIGURES.open("a") as file:
        for line in lines:
            print(line)
            file.write(line + "\n")
