"""What clients and upstreams may do at the edges of HTTP: half-closed connections, hops, early answers, events."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Rig, Seen, ok, request, rig, wait_until


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with rig(Options(sweep_s=0.02, linger_s=0.2, connection_limit=50)) as made:
        yield made


@pytest.fixture
def engine(shared: Rig) -> Rig:
    shared.monolith.seen.clear()
    shared.monolith.scripts.clear()
    shared.monolith.left.clear()
    return shared


def slowly(_: Seen, connection: socket.socket) -> bytes:
    time.sleep(0.2)
    return ok(b"slow")


class TestHalfClosed:
    """A client may close its sending side and wait for the answer; one that is gone cancels the upstream."""

    @pytest.mark.parametrize("version", ["1.1", "1.0"])
    def test_a_half_closed_client_gets_its_answer(self, engine: Rig, version: str) -> None:
        engine.monolith.scripts[b"/x"] = slowly
        with engine.client() as client:
            client.send(f"GET /x HTTP/{version}\r\nHost: h\r\n\r\n".encode())
            client.socket.shutdown(socket.SHUT_WR)
            answer = client.answer()
            assert answer.body == b"slow"
            assert answer.values("connection") == [b"close"]
            assert client.is_closed()

    def test_all_that_it_had_asked_for_is_answered(self, engine: Rig) -> None:
        engine.monolith.scripts[b"/x"] = slowly
        with engine.client() as client:
            client.send(request("/x") + request("/y", method="POST", body=b"abc") + request("/z"))
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().body == b"slow"
            assert client.answer().body == b"monolith|/y|abc"
            assert client.answer().body == b"monolith|/z|"
            assert client.is_closed()

    def test_an_answer_that_has_begun_is_ended(self, engine: Rig) -> None:
        def in_two(_: Seen, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            time.sleep(0.2)
            connection.sendall(b"cd")

        engine.monolith.scripts[b"/x"] = in_two
        with engine.client() as client:
            client.send(request("/x"))
            time.sleep(0.1)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().body == b"abcd"

    def test_a_client_that_is_gone_cancels_the_upstream(self, engine: Rig) -> None:
        cancelled = threading.Event()

        def wait(_: Seen, connection: socket.socket) -> None:
            connection.settimeout(3)
            try:
                if connection.recv(1) == b"":
                    cancelled.set()
            except ConnectionError:
                cancelled.set()

        engine.monolith.scripts[b"/x"] = wait
        began = time.monotonic()
        with engine.client() as client:
            client.send(request("/x"))
            assert wait_until(lambda: engine.monolith.targets == [b"/x"])
        assert cancelled.wait(2)
        assert time.monotonic() - began < 1

    def test_half_a_request_is_not_forwarded_as_a_whole(self, engine: Rig) -> None:
        with engine.client() as client:
            client.send(request("/x", method="POST", body=b"abcdef")[:-3])
            client.socket.shutdown(socket.SHUT_WR)
            assert client.is_closed()
        assert engine.monolith.seen == []


class TestHops:
    """Max-Forwards (RFC 9110 7.6.2) counts for TRACE and OPTIONS alone."""

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
    def test_it_counts_down(self, engine: Rig, method: str) -> None:
        for given, sent in (("5", b"4"), ("1", b"0")):
            assert engine.get("/x", f"Max-Forwards: {given}\r\n", method).status == 200
            assert engine.monolith.seen[-1].values("max-forwards") == [sent]

    def test_other_methods_pass_it_on(self, engine: Rig) -> None:
        assert engine.get("/x", "Max-Forwards: 0\r\n").status == 200
        assert engine.monolith.seen[0].values("max-forwards") == [b"0"]

    def test_the_last_hop_answers_and_the_connection_goes_on(self, engine: Rig) -> None:
        with engine.client() as client:
            assert client.get("/x", "Max-Forwards: 0\r\n", "OPTIONS").status == 501
            assert client.get("/y").status == 200
        assert engine.monolith.targets == [b"/y"]


def test_each_event_is_passed_on_when_it_comes(engine: Rig) -> None:
    def events(_: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            event = b"data: %d %.6f\n\n" % (number, time.monotonic())
            connection.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(0.1)
        connection.sendall(b"0\r\n\r\n")

    engine.monolith.scripts[b"/events"] = events
    with engine.client() as client:
        client.send(request("/events"))
        client._head()
        for number in range(5):
            client._reader.readline()
            data, sent_at = client._reader.readline().split()[1:]
            assert int(data) == number
            assert time.monotonic() - float(sent_at) < 0.09
            assert client._reader.read(3) == b"\n\r\n"


def test_a_range_and_its_answer_stay_as_they_are(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-3/10\r\nContent-Length: 2\r\n\r\ncd"
    )
    answer = engine.get("/x", 'Range: bytes=2-3\r\nIf-Range: "v"\r\n')
    assert (answer.status, answer.body) == (206, b"cd")
    assert answer.values("content-range") == [b"bytes 2-3/10"]
    assert engine.monolith.seen[0].values("range") == [b"bytes=2-3"]
    assert engine.monolith.seen[0].values("if-range") == [b'"v"']


def test_trailers_are_asked_for_and_come(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = (
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n"
        b"X-Strangler-Flag: f\r\nSet-Cookie: a=1\r\n\r\n"
    )
    answer = engine.get("/x", "TE: trailers, deflate\r\n")
    assert answer.raw_body == b"2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"
    assert engine.monolith.seen[0].values("te") == [b"trailers"]


def test_an_answer_before_the_request_has_ended_reaches_the_client_and_the_upload_goes_on(engine: Rig) -> None:
    whole = threading.Event()
    upstream = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = upstream.accept()
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nearly")
            while not received.endswith(b"END"):
                received += connection.recv(65_536)
            whole.set()
            connection.sendall(b"-late")

    threading.Thread(target=serve, daemon=True).start()
    kept, engine.monolith.port = engine.monolith.port, upstream.getsockname()[1]
    engine.swap()
    try:
        with engine.client() as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 200003\r\n\r\n")
            assert client._head().startswith(b"HTTP/1.1 200 ")
            assert client._reader.read(5) == b"early"
            for _ in range(20):
                client.send(b"a" * 10_000)
            client.send(b"END")
            assert whole.wait(3)
            assert client._reader.read(5) == b"-late"
    finally:
        engine.monolith.port = kept
        engine.swap()
        upstream.close()


def test_a_refusal_before_the_request_has_ended_is_read_and_ends_the_connection(engine: Rig) -> None:
    upstream = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = upstream.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")

    threading.Thread(target=serve, daemon=True).start()
    kept, engine.monolith.port = engine.monolith.port, upstream.getsockname()[1]
    engine.swap()
    try:
        with engine.client() as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
            answer = client.answer()
            assert (answer.status, answer.body) == (413, b"big")
            assert client.is_closed()
    finally:
        engine.monolith.port = kept
        engine.swap()
        upstream.close()


def test_an_expectation_of_http_10_is_ignored(engine: Rig) -> None:
    with engine.client() as client:
        client.send(b"POST /x HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
        answer = client.answer()
        assert answer.interim == []
        assert answer.body == b"monolith|/x|abc"


def test_connections_beyond_the_limit_are_told_so(engine: Rig) -> None:
    assert wait_until(lambda: len(engine.engine._context.connections) == 0)  # type: ignore[union-attr]
    clients = [engine.client() for _ in range(50)]
    assert wait_until(lambda: len(engine.engine._context.connections) == 50)  # type: ignore[union-attr]
    with engine.client() as late:
        answer = late.answer()
        assert answer.status == 503
        assert answer.values("retry-after") == [b"1"]
        assert late.is_closed()
    for client in clients:
        assert client.get("/x").status == 200
        client.close()
