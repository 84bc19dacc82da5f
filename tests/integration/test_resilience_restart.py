"""Restarts under load: every worker in turn, and killed ones; no request fails that a client could notice."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.engine_rig import Client, wait_until
from tests.running_proxy import NamedUpstream, RunningProxy, Traffic


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    with (
        closing(NamedUpstream("monolith")) as monolith,
        RunningProxy(tmp_path, workers=2, STRANGLER_UPSTREAM=f"http://127.0.0.1:{monolith.port}") as running,
    ):
        running.start()
        until(lambda: len(children(running)) == 2 and ready(running), 30)
        yield running


def until(holds: Callable[[], bool], within_s: float) -> None:
    assert wait_until(holds, within_s)


def children(proxy: RunningProxy) -> list[psutil.Process]:
    return [each for each in proxy.family()[1:] if is_alive(each)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ready(proxy: RunningProxy) -> bool:
    try:
        return [proxy.health("/readyz", number)[0] for number in (0, 1)] == [200, 200]
    except httpx.TransportError:
        return False


class Connecting:
    """A new connection for every request, from a thread; whatever is not a 200 is a failure."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.failures: list[str] = []
        self.done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive)

    def __enter__(self) -> Connecting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _drive(self) -> None:
        while not self._stop.wait(0.005):
            try:
                with Client(self.port, 10) as client:
                    status = client.get("/", "Connection: close\r\n").status
                if status != 200:
                    self.failures.append(str(status))
            except OSError as error:
                self.failures.append(repr(error))
            self.done += 1


def test_every_worker_is_replaced_in_turn_under_load_and_nothing_is_lost(proxy: RunningProxy) -> None:
    before = {each.pid for each in children(proxy)}
    assert proxy.process is not None
    with ExitStack() as stack:
        kept = [stack.enter_context(Traffic(proxy.url, {"/": "GET", "/x": "POST"})) for _ in range(3)]
        new = [stack.enter_context(Connecting(proxy.port)) for _ in range(3)]
        for _ in range(2):
            known = {each.pid for each in children(proxy)}
            proxy.process.send_signal(signal.SIGUSR1)
            until(lambda known=known: replaced(proxy, known), 90)  # type: ignore[misc]
        time.sleep(0.2)
    assert [failure for each in (*kept, *new) for failure in each.failures] == []
    assert min(each.done for each in new) > 50
    assert before.isdisjoint({each.pid for each in children(proxy)})
    events = [json.loads(line).get("event") or json.loads(line).get("message") for line in proxy.log().splitlines()]
    assert events.count("process.replaced") == 4
    assert "process.died" not in events
    assert ready(proxy)
    assert proxy.stop() == 0


def replaced(proxy: RunningProxy, known: set[int]) -> bool:
    now = {each.pid for each in children(proxy)}
    return len(now) == 2 and now.isdisjoint(known) and ready(proxy)


def test_connections_that_wait_for_a_killed_worker_are_served_by_the_next(proxy: RunningProxy) -> None:
    """No process accepts for a while: what waits in the kernel's queue waits, and is not refused."""
    for each in children(proxy):
        each.kill()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(proxy.port, 30)) for _ in range(8)]
        assert [client.get("/").status for client in clients] == [200] * 8
    until(lambda: ready(proxy), 30)


def test_after_the_signal_to_stop_nobody_waits_for_an_answer_that_never_comes(proxy: RunningProxy) -> None:
    assert proxy.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), 2).close()
