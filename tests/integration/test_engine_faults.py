"""Slow, leaving and broken peers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.core.route import Timeouts
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Rig, Seen, asleep, ok, request, rig, wait_until

QUICK = Timeouts(connect_s=0.3, first_byte_s=0.3, idle_s=0.3, total_s=1.0)
OPTIONS = Options(sweep_s=0.02, timeouts=QUICK, header_timeout_s=0.3, keep_alive_s=0.6, linger_s=0.2)


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with rig(OPTIONS) as made:
        yield made


@pytest.fixture
def engine(shared: Rig) -> Rig:
    shared.monolith.seen.clear()
    shared.monolith.scripts.clear()
    shared.monolith.left.clear()
    return shared


class TestDeadlines:
    """Every wait ends."""

    def test_an_upstream_that_never_answers_is_504(self, engine: Rig) -> None:
        engine.monolith.scripts[b"/x"] = asleep(1.5)
        began = time.monotonic()
        answer = engine.get("/x", method="POST", body=b"{}")
        assert answer.status == 504
        assert answer.values("proxy-status") == [b"strangler-proxy; error=http_response_timeout"]
        assert 0.25 < time.monotonic() - began < 0.7

    def test_an_upstream_that_cannot_be_reached_is_504(self, engine: Rig) -> None:
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        kept, engine.monolith.port = engine.monolith.port, full.getsockname()[1]
        try:
            engine.swap()
            assert engine.get("/x").status == 504
        finally:
            engine.monolith.port = kept
            engine.swap()
            for one in (*waiting, full):
                one.close()

    def test_an_answer_that_stalls_is_broken_off(self, engine: Rig) -> None:
        engine.monolith.scripts[b"/x"] = asleep(1.5, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        began = time.monotonic()
        with engine.client() as client, pytest.raises(ConnectionError):
            client.get("/x")
        assert time.monotonic() - began < 0.9

    def test_an_answer_that_never_ends_is_broken_off_in_total(self, engine: Rig) -> None:
        def dribble(_: Seen, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            for _n in range(30):
                connection.sendall(b"a")
                time.sleep(0.1)

        engine.monolith.scripts[b"/x"] = dribble
        began = time.monotonic()
        with engine.client() as client, pytest.raises(ConnectionError):
            client.get("/x")
        assert 0.8 < time.monotonic() - began < 1.6

    def test_a_silent_client_is_cut(self, engine: Rig) -> None:
        began = time.monotonic()
        with engine.client() as client:
            assert client.is_closed()
        assert time.monotonic() - began < 0.7

    def test_a_dribbling_client_is_cut(self, engine: Rig) -> None:
        began = time.monotonic()
        with engine.client() as client:
            for byte in request("/x", "X-A: " + "a" * 50 + "\r\n"):
                try:
                    client.send(bytes([byte]))
                except ConnectionError:
                    break
                time.sleep(0.02)
                if time.monotonic() - began > 0.6:
                    break
            assert client.answer().status == 408
        assert engine.monolith.seen == []

    def test_an_idle_connection_is_closed_after_its_time(self, engine: Rig) -> None:
        with engine.client() as client:
            client.get("/x")
            time.sleep(0.4)
            assert client.get("/x").status == 200
            began = time.monotonic()
            assert client.is_closed()
            assert 0.4 < time.monotonic() - began < 1.2

    def test_the_head_of_a_second_request_has_a_deadline_too(self, engine: Rig) -> None:
        with engine.client() as client:
            client.get("/x")
            client.send(b"GET /y HT")
            assert client.answer().status == 408

    def test_a_body_that_stalls_is_408(self, engine: Rig) -> None:
        with engine.client() as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
            assert client.answer().status == 408
            assert client.is_closed()
        assert engine.monolith.left.wait(1)

    def test_an_upload_longer_than_the_first_byte_budget_is_fine(self, engine: Rig) -> None:
        with engine.client() as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
            for _ in range(5):
                time.sleep(0.1)
                client.send(b"a")
            assert client.answer().body == b"monolith|/x|aaaaa"


class TestLeaving:
    """A client that leaves takes its request with it."""

    def test_before_the_answer(self, engine: Rig) -> None:
        engine.monolith.scripts[b"/x"] = lambda _, connection: connection.recv(1) and None
        with engine.client() as client:
            client.send(request("/x"))
            assert wait_until(lambda: len(engine.monolith.seen) == 1)
        assert engine.monolith.left.wait(0.25) or wait_until(lambda: not engine.monolith._open)

    def test_within_the_answer(self, engine: Rig) -> None:
        stopped = threading.Event()

        def endless(_: Seen, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            try:
                while True:
                    connection.sendall(b"a" * 65_536)
            except OSError:
                stopped.set()

        engine.monolith.scripts[b"/x"] = endless
        with engine.client() as client:
            client.send(request("/x"))
            client.socket.recv(1000)
        assert stopped.wait(2)

    def test_within_its_body(self, engine: Rig) -> None:
        with engine.client() as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 100_000)
            time.sleep(0.05)
        assert engine.monolith.left.wait(1)
        assert engine.monolith.seen == []

    def test_an_upstream_that_answers_before_the_body_ends_is_heard(self, engine: Rig) -> None:
        original = engine.monolith._read

        def early(reader: object, number: int) -> None:
            while reader.readline() != b"\r\n":  # type: ignore[attr-defined]
                pass
            next(iter(engine.monolith._open)).sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            time.sleep(0.3)

        engine.monolith._read = early  # type: ignore[method-assign,assignment]
        try:
            with engine.client() as client:
                client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1000)
                answer = client.answer()
                assert (answer.status, answer.body) == (413, b"big")
                assert client.is_closed()
        finally:
            engine.monolith._read = original  # type: ignore[method-assign]


class TestUpstreams:
    """What a broken upstream gives the client."""

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "http_protocol_error"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", "http_protocol_error"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", "http_protocol_error"),
            (b"HTTP/1.1 200 OK\r\nX-A: 1\r\n folded\r\nContent-Length: 0\r\n\r\n", "http_protocol_error"),
            (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "http_protocol_error"),
            (b"SSH-2.0-x\r\n", "http_protocol_error"),
            (b"", "connection_terminated"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", "connection_terminated"),
        ],
    )
    def test_an_answer_that_makes_no_sense_is_502(self, engine: Rig, answer: bytes, error: str) -> None:
        def broken(_: Seen, connection: socket.socket) -> None:
            connection.sendall(answer)

        engine.monolith.scripts[b"/x"] = broken
        for _ in range(2):
            refused = engine.get("/x", method="POST", body=b"{}")
            assert refused.status == 502
            assert refused.values("proxy-status") == [f"strangler-proxy; error={error}".encode()]
            assert set(json.loads(refused.body)) == {"type", "title", "status", "code", "detail", "request_id"}

    def test_bytes_after_an_answer_never_become_another_one(self, engine: Rig) -> None:
        engine.monolith.scripts[b"/x"] = ok() + ok(b"forged")
        for _ in range(3):
            assert engine.get("/x").body == b"ok"
            assert engine.get("/y").body == b"monolith|/y|"

    @pytest.mark.parametrize("target", ["/x", "/f/x"])
    def test_a_post_is_not_sent_twice_when_a_kept_connection_breaks(self, engine: Rig, target: str) -> None:
        def closing(_: Seen, __: socket.socket) -> None:
            return None

        engine.get("/warm")
        engine.monolith.scripts[target.encode()] = closing
        assert engine.get(target, method="POST", body=b"{}").status == 502
        assert engine.monolith.targets.count(target.encode()) == 1

    def test_a_get_is_sent_twice_at_most(self, engine: Rig) -> None:
        def closing(_: Seen, __: socket.socket) -> None:
            return None

        engine.get("/warm")
        engine.monolith.scripts[b"/x"] = closing
        assert engine.get("/x").status == 502
        assert engine.monolith.targets.count(b"/x") == 2

    def test_the_pool_is_bounded_and_waits_are_too(self) -> None:
        options = Options(sweep_s=0.02, pool_limit=2, pool_wait_limit=3, pool_wait_s=0.3)
        with rig(options) as engine:
            go = threading.Event()
            engine.monolith.default = lambda _, __: (go.wait(3), ok())[1]
            clients = [engine.client() for _ in range(6)]
            for client in clients:
                client.send(request("/x", method="POST", body=b"{}"))
                time.sleep(0.02)
            overloaded = clients[5].answer()
            assert overloaded.status == 503
            assert json.loads(overloaded.body)["code"] == "overloaded"
            assert engine.monolith.connections == 2
            go.set()
            assert [client.answer().status for client in clients[:5]] == [200] * 5
            assert engine.monolith.connections == 2
            for client in clients:
                client.close()
