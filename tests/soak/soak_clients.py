"""`make soak`: bad clients by the thousand, and bodies of 1 GiB; memory and a good client's p99 before, during, after.

Not part of the default suite: it takes some minutes and 10,000 sockets. `SOAK_SCALE=0.1` takes a tenth of everything.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.running_proxy import RunningProxy
from tests.servers import ROOT, free_port

SCALE = float(os.environ.get("SOAK_SCALE", "1"))
CROWD = int(5_000 * SCALE)
SLOW_READERS = int(200 * SCALE)
LARGE_BYTES = 100 << 20
BULK_BYTES = int((1 << 30) * SCALE) >> 18 << 18
HEADER_TIMEOUT_S = 15.0
LOOK_S = 6.0
MIB = 1 << 20
FIGURES = Path(os.environ.get("STRANGLER_FIGURES", "var/figures.txt"))
pytestmark = pytest.mark.timeout(480)


@dataclass(frozen=True)
class Look:
    """One moment: resident MiB of the proxy, and what a good client met meanwhile."""

    when: str
    resident_mib: float
    most_mib: float
    cpu_share: float
    good: dict[str, object]

    def __str__(self) -> str:
        return (
            f"| {self.when} | {self.resident_mib:.0f} (most {self.most_mib:.0f}) | {100 * self.cpu_share:.0f} % "
            f"| {self.good['p50_ms']} | {self.good['p99_ms']} | {self.good['requests']} |"
        )


class Soak:
    """A proxy of one process before its upstream."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.port = proxy.port
        self.process: psutil.Process = proxy.family()[0]
        self.looks: list[Look] = []

    def look(self, when: str, seconds: float = LOOK_S) -> Look:
        """What a good client meets for so long, and what memory the proxy takes meanwhile."""
        most, cpu, began = 0, self.process.cpu_times(), time.monotonic()
        command = [sys.executable, "-m", "tests.soak.good_client", str(self.port), str(seconds)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as good:
            while good.poll() is None:
                most = max(most, self.process.memory_info().rss)
                time.sleep(0.05)
            assert good.stdout is not None
            met = json.loads(good.stdout.read())
        used, lasted = self.process.cpu_times(), time.monotonic() - began
        share = (used.user + used.system - cpu.user - cpu.system) / lasted
        look = Look(when, self.process.memory_info().rss / MIB, most / MIB, share, met)
        self.looks.append(look)
        print(look, flush=True)
        assert met["failed"] == [], met
        return look

    def connect(self) -> socket.socket:
        """A new connection; a full backlog is waited for."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture(scope="module", autouse=True)
def many_files() -> None:
    """As many as the system gives; the processes started here have as many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard > 2 * CROWD + 1_000, f"{hard} open files are too few: ulimit -n {2 * CROWD + 1_000}"


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soak]:
    folder, port = tmp_path_factory.mktemp("soak"), free_port()
    site = subprocess.Popen([sys.executable, "-m", "tests.soak.site", str(port)], cwd=ROOT)
    settings = {
        "STRANGLER_UPSTREAM": f"http://127.0.0.1:{port}",
        "STRANGLER_HEADER_TIMEOUT_S": str(HEADER_TIMEOUT_S),
        "STRANGLER_MAX_BODY_BYTES": str(2 << 30),
        "STRANGLER_POOL_LIMIT": "512",
        "STRANGLER_ACCESS_LOG": "0",
    }
    try:
        with RunningProxy(folder, **settings) as proxy:
            proxy.start()
            made = Soak(proxy)
            yield made
        keep(made)
    finally:
        site.kill()
        site.wait(10)


def keep(soak: Soak) -> None:
    """The table, for the docs."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    lines = ["| soak | resident MiB | CPU | good p50 ms | good p99 ms | good requests |", "|---|---|---|---|---|---|"]
    with FIGURES.open("a") as file:
        for line in (*lines, *map(str, soak.looks)):
            file.write(line + "\n")


@contextmanager
def dribbling(clients: list[socket.socket], part: bytes, pause_s: float) -> Iterator[None]:
    """Each of them sends a byte of a head now and then."""
    stop = threading.Event()

    def run() -> None:
        for at in range(len(part)):
            for client in clients:
                with suppress(OSError):
                    client.send(part[at : at + 1])
            if stop.wait(pause_s):
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(30)


@contextmanager
def slowly(clients: list[socket.socket], bytes_a_turn: int, pause_s: float) -> Iterator[list[int]]:
    """Each of them reads a little now and then; how much they all have read."""
    stop, read = threading.Event(), [0]

    def run() -> None:
        while not stop.wait(pause_s):
            for client in clients:
                with suppress(OSError):
                    read[0] += len(client.recv(bytes_a_turn, socket.MSG_DONTWAIT))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield read
    stop.set()
    thread.join(30)


def count_ends(clients: list[socket.socket], within_s: float) -> tuple[int, int]:
    """How many were closed without a word, and how many were told 408, within so many seconds."""
    silent = told = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ)
        until = time.monotonic() + within_s
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(0.5):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                with suppress(OSError):
                    said = client.recv(12)
                    silent, told = silent + (said == b""), told + (said == b"HTTP/1.1 408")
                selector.unregister(client)
    return silent, told


def test_silent_and_dribbling_clients(soak: Soak) -> None:
    before = soak.look("before")
    with ExitStack() as stack:
        silent = [stack.enter_context(soak.connect()) for _ in range(CROWD)]
        dribblers = [stack.enter_context(soak.connect()) for _ in range(CROWD)]
        with dribbling(dribblers, b"GET /small HTTP/1.1\r\nHost: x\r\nX-A: aaaaaaaaaaaaaaaa", 1.0):
            during = soak.look(f"{CROWD:,} silent and {CROWD:,} dribbling clients")
        ends = count_ends(silent + dribblers, HEADER_TIMEOUT_S + 10)
    after = soak.look("after them")
    assert sum(ends) >= 2 * CROWD * 0.99, ends
    assert during.most_mib - before.resident_mib < 200
    assert after.resident_mib - before.resident_mib < 200
    assert float(str(during.good["p99_ms"])) < max(250.0, 5 * float(str(before.good["p99_ms"])))


def test_slow_readers_of_large_answers(soak: Soak) -> None:
    before = soak.look("before")
    with ExitStack() as stack:
        readers = []
        for _ in range(SLOW_READERS):
            reader = stack.enter_context(soak.connect())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            reader.sendall(b"GET /down?%d HTTP/1.1\r\nHost: x\r\n\r\n" % LARGE_BYTES)
            readers.append(reader)
        with slowly(readers, 8_192, 0.25) as read:
            during = soak.look(f"{SLOW_READERS} slow readers of {LARGE_BYTES // MIB} MiB")
        assert read[0] > SLOW_READERS * 8_192, "everybody gets something"
    after = soak.look("after them")
    assert during.most_mib - before.resident_mib < 150
    assert after.resident_mib - before.resident_mib < 150
    assert float(str(during.good["p99_ms"])) < max(250.0, 5 * float(str(before.good["p99_ms"])))


def upload(port: int, done: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rb") as reader:
        client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % BULK_BYTES)
        block = bytes(1 << 18)
        for _ in range(BULK_BYTES >> 18):
            client.sendall(block)
        while reader.readline() not in (b"\r\n", b""):
            pass
        done.append(f"up {int(reader.read(16))}")


def download(port: int, done: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, client.makefile("rb") as reader:
        client.sendall(b"GET /down?%d HTTP/1.1\r\nHost: x\r\n\r\n" % BULK_BYTES)
        while reader.readline() not in (b"\r\n", b""):
            pass
        got = 0
        while got < BULK_BYTES and (part := len(reader.read1(min(1 << 18, BULK_BYTES - got)))):
            got += part
        done.append(f"down {got}")


def test_one_gibibyte_up_and_down(soak: Soak) -> None:
    before, done = soak.look("before"), []  # type: ignore[var-annotated]
    began = time.monotonic()
    threads = [threading.Thread(target=way, args=(soak.port, done), daemon=True) for way in (upload, download)]
    for thread in threads:
        thread.start()
    during = soak.look(f"{BULK_BYTES // MIB:,} MiB up and down at once", 2.0)
    most = during.most_mib * MIB
    while any(thread.is_alive() for thread in threads) and time.monotonic() - began < 240:
        most = max(most, soak.process.memory_info().rss)
        time.sleep(0.05)
    print(f"over after {time.monotonic() - began:.1f} s, with {most / MIB:.0f} MiB at most")
    after = soak.look("after it")
    assert most / MIB - before.resident_mib < 60
    assert sorted(done) == [f"down {BULK_BYTES}", f"up {BULK_BYTES}"]
    assert during.most_mib - before.resident_mib < 60
    assert after.resident_mib - before.resident_mib < 60
    assert float(str(during.good["p99_ms"])) < max(250.0, 5 * float(str(before.good["p99_ms"])))
