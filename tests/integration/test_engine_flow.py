"""Bounded memory both ways, and leaving without a failed request."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time

import psutil
import pytest

from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Seen, asleep, request, rig, wait_until


def resident_mb() -> float:
    return psutil.Process(os.getpid()).memory_info().rss / 1e6


class TestBackpressure:
    """A hundred megabytes go through, and the memory does not grow."""

    SIZE = 100_000_000

    def test_a_slow_reader_slows_the_upstream(self) -> None:
        sent = [0]

        def large(_: Seen, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.SIZE)
            block = b"a" * 100_000
            while sent[0] < self.SIZE:
                connection.sendall(block)
                sent[0] += len(block)

        with rig() as engine:
            engine.monolith.scripts[b"/x"] = large
            before = resident_mb()
            with engine.client() as client:
                client.send(request("/x"))
                client._head()
                time.sleep(0.3)
                assert sent[0] < 20_000_000, "the upstream was read while nobody read the answer"
                got = 0
                while got < self.SIZE:
                    got += len(client._reader.read1(1 << 20))
            assert got == self.SIZE
            assert resident_mb() - before < 20

    def test_a_slow_upstream_slows_the_client(self) -> None:
        go = threading.Event()
        with rig() as engine:
            original = engine.monolith._read

            def slow(reader: object, number: int) -> Seen | None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = reader.readline()  # type: ignore[attr-defined]
                    if not line:
                        return None
                    head += line
                go.wait(5)
                got = 0
                while got < self.SIZE:
                    got += len(reader.read1(1 << 20))  # type: ignore[attr-defined]
                return Seen(head, b"%d" % got, b"", number)

            engine.monolith._read = slow  # type: ignore[method-assign,assignment]
            before = resident_mb()
            sent = [0]

            def send() -> None:
                client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % self.SIZE)
                block = b"a" * 100_000
                while sent[0] < self.SIZE:
                    client.send(block)
                    sent[0] += len(block)

            with engine.client() as client:
                sender = threading.Thread(target=send)
                sender.start()
                time.sleep(0.3)
                assert sent[0] < 20_000_000, "the client was read while the upstream read nothing"
                go.set()
                sender.join(10)
                assert client.answer().body == b"monolith|/x|%d" % self.SIZE
            engine.monolith._read = original  # type: ignore[method-assign]
            assert resident_mb() - before < 20


class TestDraining:
    """Leaving is silent."""

    def test_requests_in_flight_end_and_new_ones_of_kept_connections_are_served(self) -> None:
        with rig() as engine:
            engine.monolith.scripts[b"/slow"] = asleep(0.3)
            with engine.client() as busy, engine.client() as kept, engine.client() as idle:
                assert kept.get("/x").values("connection") == []
                assert idle.get("/x").status == 200
                busy.send(request("/slow"))
                drained = threading.Thread(target=engine.drain, args=(3,))
                drained.start()
                time.sleep(0.1)
                last = kept.get("/y")
                assert last.status == 200
                assert last.values("connection") == [b"close"]
                assert kept.is_closed()
                answer = busy.answer()
                assert answer.status == 200
                assert answer.values("connection") == [b"close"]
                assert idle.is_closed()
                began = time.monotonic()
                drained.join(3)
                assert time.monotonic() - began < 1.0
            with pytest.raises(ConnectionError):
                engine.client()

    def test_what_does_not_end_is_broken_off(self) -> None:
        with rig() as engine:
            engine.monolith.scripts[b"/slow"] = asleep(2.0)
            with engine.client() as busy:
                busy.send(request("/slow"))
                assert wait_until(lambda: len(engine.monolith.seen) == 1)
                began = time.monotonic()
                engine.drain(0.3)
                assert time.monotonic() - began < 1.0
                assert busy.is_closed()

    def test_no_request_fails_under_load(self) -> None:
        with rig() as engine:
            failures: list[BaseException] = []
            answered = [0]

            def load() -> None:
                try:
                    while True:
                        try:
                            client = engine.client()
                        except ConnectionRefusedError:
                            return
                        with client:
                            while not client.get("/x").values("connection"):
                                answered[0] += 1
                except (OSError, AssertionError) as error:
                    failures.append(error)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            engine.drain(5)
            for thread in threads:
                thread.join(5)
            resets = [error for error in failures if not isinstance(error, ConnectionResetError)]
            assert resets == []
            assert len(failures) <= len(threads), "a connection that was not accepted yet may be reset by the kernel"
            assert answered[0] > 50


def test_many_silent_connections_cost_little() -> None:
    with rig(Options(sweep_s=0.02, header_timeout_s=5.0)) as engine:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        number = min(1_500, soft // 3)
        assert hard >= soft
        before = resident_mb()
        silent = [socket.create_connection(("127.0.0.1", engine.port)) for _ in range(number)]
        try:
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                assert engine.get("/x").status == 200
                slowest = max(slowest, time.monotonic() - began)
            assert resident_mb() - before < 60
            assert slowest < 0.5
        finally:
            for one in silent:
                one.close()
