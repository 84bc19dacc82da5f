"""Crowds of bad clients cost little and nobody else; a proxy that leaves under load and idle connections loses nothing.

`STRANGLER_TEST_CROWD` is how many bad clients there are; `make soak` runs it with 5,000.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.running_proxy import NamedUpstream, RunningProxy, Traffic

CROWD = int(os.environ.get("STRANGLER_TEST_CROWD", "1500"))
LIMIT_BYTES = 100 << 20
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < CROWD * 2 + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CROWD * 2 + 500), hard))


@pytest.fixture
def monolith() -> Iterator[NamedUpstream]:
    upstream = NamedUpstream("monolith")
    yield upstream
    upstream.close()


@pytest.fixture
def proxy(tmp_path: Path, monolith: NamedUpstream) -> Iterator[RunningProxy]:
    settings = {
        "STRANGLER_UPSTREAM": f"http://127.0.0.1:{monolith.port}",
        "STRANGLER_HEADER_TIMEOUT_S": "4",
        "STRANGLER_ACCESS_LOG": "0",
    }
    with RunningProxy(tmp_path, **settings) as running:
        running.start()
        yield running


def connected(proxy: RunningProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def p99_s(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def test_silent_and_dribbling_clients_cost_little_and_are_cut(proxy: RunningProxy) -> None:
    process = proxy.family()[0]
    with Traffic(proxy.url, {"/": "GET"}) as alone:
        time.sleep(1)
    before = process.memory_info().rss
    with ExitStack() as crowd:
        silent = [crowd.enter_context(connected(proxy)) for _ in range(CROWD // 2)]
        dribbling = [crowd.enter_context(connected(proxy)) for _ in range(CROWD // 2)]
        with Traffic(proxy.url, {"/": "GET"}) as beside:
            for part in (b"GET /s HT", b"TP/1.1\r\n", b"Host: x\r\n"):
                for client in dribbling:
                    with suppress(ConnectionError):
                        client.sendall(part)
                time.sleep(0.5)
            during = process.memory_info().rss
        assert beside.failures == []
        assert p99_s(beside.seconds) < max(2 * p99_s(alone.seconds), 0.05)
        assert during - before < LIMIT_BYTES
        assert (during - before) / CROWD < 40_000
        until = time.monotonic() + 8
        for client in silent:
            client.settimeout(max(0.1, until - time.monotonic()))
            assert client.recv(1) == b"", "closed without a word"
        for client in dribbling:
            client.settimeout(max(0.1, until - time.monotonic()))
            assert client.recv(12) == b"HTTP/1.1 408"
    assert proxy.get("/") == "monolith"


def test_heads_of_thirty_megabytes_cost_nothing(proxy: RunningProxy) -> None:
    process = proxy.family()[0]
    before = process.memory_info().rss
    peak = 0
    for _ in range(10):
        with connected(proxy) as client:
            with suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
                for _ in range(30):
                    client.sendall(b"X-A: " + b"a" * (1 << 20) + b"\r\n")
            with suppress(ConnectionError):
                assert client.recv(12) in (b"HTTP/1.1 431", b"")
        peak = max(peak, process.memory_info().rss - before)
    assert peak < LIMIT_BYTES / 4
    assert proxy.get("/") == "monolith"


def idle_client(proxy: RunningProxy) -> socket.socket:
    """A kept connection that has had an answer, and waits."""
    client = connected(proxy)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in whole_answer(client)
    return client


def whole_answer(client: socket.socket) -> bytes:
    """An answer of the upstream to its end, or what there was of one."""
    answer = b""
    while not answer.endswith(b"monolith") and (part := client.recv(4_096)):
        answer += part
    return answer


@pytest.mark.parametrize("workers", [1, 2])
def test_leaving_under_load_with_idle_connections_loses_nothing(
    tmp_path: Path, monolith: NamedUpstream, workers: int
) -> None:
    settings = {"STRANGLER_UPSTREAM": f"http://127.0.0.1:{monolith.port}", "STRANGLER_ACCESS_LOG": "0"}
    with RunningProxy(tmp_path, workers=workers, **settings) as proxy, ExitStack() as open_until_here:
        proxy.start()
        idle = [open_until_here.enter_context(idle_client(proxy)) for _ in range(100)]
        failures: list[str] = []
        answered = [0]
        stop = threading.Event()
        threads = [
            threading.Thread(target=load, args=(proxy.port, stop, failures, answered), daemon=True) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(20) == 0
        stop.set()
        for thread in threads:
            thread.join(5)
        for client in idle:
            client.settimeout(1)
            assert client.recv(1) == b"", "closed, not reset"
        assert failures == []
        assert answered[0] > 30


def load(port: int, stop: threading.Event, failures: list[str], answered: list[int]) -> None:
    """Requests on kept connections until nobody listens any more. Only an answer that does not come is a failure."""
    client: socket.socket | None = None
    while not stop.is_set():
        if client is None:
            try:
                client = socket.create_connection(("127.0.0.1", port), timeout=10)
            except ConnectionRefusedError:
                return
        try:
            client.sendall(b"GET /load HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = whole_answer(client)
        except ConnectionError as error:
            if port_is_open(port):
                failures.append(repr(error))
            client.close()
            return
        if b" 200 " not in answer[:15]:
            if port_is_open(port) or answer:
                failures.append(repr(answer[:60]))
            client.close()
            return
        answered[0] += 1
        if b"connection: close" in answer.lower():
            client.close()
            client = None
    if client is not None:
        client.close()


def port_is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
