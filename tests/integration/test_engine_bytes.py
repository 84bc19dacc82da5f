"""Bytes arrive as they were sent, both ways, whatever frames them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.integration.engine_rig import Rig, Seen, ok, request, rig


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with rig() as made:
        yield made


@pytest.fixture
def engine(shared: Rig) -> Rig:
    shared.monolith.seen.clear()
    shared.monolith.scripts.clear()
    return shared


def test_the_target_is_forwarded_byte_for_byte(engine: Rig) -> None:
    target = "/a//b;v=1/%7Eq/caf%C3%A9?q=%20a+b&z=%2F&u=http://x/../y"
    assert engine.get(target).status == 200
    assert engine.monolith.targets == [target.encode()]


def test_duplicate_fields_keep_their_order_and_case(engine: Rig) -> None:
    engine.get("/x", "X-D: 1\r\naccept: b\r\nX-d: 2\r\nX-D: caf\xe9\r\n")
    lines = engine.monolith.seen[0].head.split(b"\r\n")
    at = lines.index(b"X-D: 1")
    assert lines[at : at + 4] == [b"X-D: 1", b"accept: b", b"X-d: 2", b"X-D: caf\xe9"]


def test_set_cookie_is_never_joined_and_encoded_bodies_stay(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = ok(
        b"\x1f\x8b raw", b"Set-Cookie: a=1\r\nContent-Encoding: gzip\r\nSet-Cookie: b=2\r\nX-MiXed: v\r\n"
    )
    answer = engine.get("/x", "Accept-Encoding: gzip\r\n")
    assert answer.values("set-cookie") == [b"a=1", b"b=2"]
    assert answer.body == b"\x1f\x8b raw"
    assert b"X-MiXed: v" in answer.head


def test_connections_are_kept_on_both_sides(engine: Rig) -> None:
    with engine.client() as client:
        for _ in range(5):
            assert client.get("/x").status == 200
    assert len({seen.connection for seen in engine.monolith.seen}) == 1


def test_a_body_of_known_length_arrives_whole(engine: Rig) -> None:
    body = bytes(range(256)) * 4096
    answer = engine.get("/x", method="POST", body=body)
    assert answer.body == b"monolith|/x|" + body
    assert engine.monolith.seen[0].values("content-length") == [b"1048576"]


def test_a_chunked_request_stays_chunked_with_its_trailers(engine: Rig) -> None:
    with engine.client() as client:
        client.send(
            b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
            b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Sum: 5\r\nAuthorization: forged\r\nX_Forwarded_For: 1.1.1.1\r\n\r\n"
        )
        assert client.answer().body == b"monolith|/x|abcde"
        assert client.get("/y").status == 200
    seen = engine.monolith.seen[0]
    assert seen.raw_body == b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    assert seen.values("transfer-encoding") == [b"chunked"]
    assert not seen.values("content-length")


def test_a_request_without_a_body_gets_no_framing_fields(engine: Rig) -> None:
    engine.get("/x")
    head = engine.monolith.seen[0].head.lower()
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head


def test_a_chunked_answer_keeps_its_trailers(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n"
    )
    with engine.client() as client:
        answer = client.get("/x")
        assert answer.body == b"hello world"
        assert answer.raw_body.endswith(b"0\r\nX-Sum: 11\r\n\r\n")
        assert client.get("/y").status == 200


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked", "X-None: 1"])
def test_an_answer_to_head_ends_at_its_head(engine: Rig, framing: str) -> None:
    engine.monolith.scripts[b"/x"] = f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode()
    with engine.client() as client:
        for _ in range(3):
            answer = client.get("/x", method="HEAD")
            assert answer.status == 200
        assert client.get("/y").body == b"monolith|/y|"
    if framing.startswith("Content-Length"):
        assert answer.values("content-length") == [b"10"]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_get_none(engine: Rig, status: bytes) -> None:
    engine.monolith.scripts[b"/x"] = b'HTTP/1.1 %b\r\nETag: "x"\r\n\r\n' % status
    with engine.client() as client:
        answer = client.get("/x")
        assert answer.head.startswith(b"HTTP/1.1 " + status)
        assert not answer.values("transfer-encoding")
        assert client.get("/y").status == 200


def test_early_hints_are_passed_on_and_100_is_not(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s>\r\nX-Strangler-Fence: x\r\n\r\n" + ok()
    )
    answer = engine.get("/x")
    assert answer.body == b"ok"
    assert [head.split(b"\r\n")[:2] for head in answer.interim] == [[b"HTTP/1.1 103 Early Hints", b"Link: </s>"]]
    assert b"Strangler" not in answer.interim[0]


def end_after(*parts: bytes, reset: bool = False):  # type: ignore[no-untyped-def]
    def script(_: Seen, connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    return script


def test_an_answer_that_ends_with_its_connection_is_sent_chunked(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = end_after(b"HTTP/1.1 200 OK\r\n\r\neof-", b"body")
    with engine.client() as client:
        answer = client.get("/x")
        assert answer.body == b"eof-body"
        assert answer.values("transfer-encoding") == [b"chunked"]
        assert client.get("/y").status == 200


@pytest.mark.parametrize(
    ("head", "reset"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil eof", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", False),
    ],
)
def test_a_truncated_answer_never_ends_cleanly(engine: Rig, head: bytes, reset: bool) -> None:
    engine.monolith.scripts[b"/x"] = end_after(head, reset=reset)
    with engine.client() as client, pytest.raises(ConnectionError):
        client.get("/x")


def test_an_http_10_client_gets_what_it_understands(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with engine.client() as client:
        client.send(b"GET /x HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert answer.body == b"hello"
        assert not answer.values("transfer-encoding")
        assert client.is_closed()
    assert engine.monolith.seen[0].line == b"GET /x HTTP/1.1"
    assert engine.monolith.seen[0].values("host") == [b"127.0.0.1:%d" % engine.port]


def test_an_http_10_client_may_keep_its_connection(engine: Rig) -> None:
    with engine.client() as client:
        for _ in range(2):
            client.send(b"GET /x HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
            assert client.answer().values("connection") == [b"keep-alive"]


def test_expect_100_is_answered_here_and_not_forwarded(engine: Rig) -> None:
    with engine.client() as client:
        client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client._head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.answer().body == b"monolith|/x|abc"
    assert not engine.monolith.seen[0].values("expect")


def test_an_upstream_that_switches_protocols_unasked_is_a_502(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc"
    assert engine.get("/x").status == 502


def test_pipelined_requests_are_answered_in_order(engine: Rig) -> None:
    def slow(_: Seen, __: socket.socket) -> bytes:
        time.sleep(0.1)
        return ok(b"slow")

    engine.monolith.scripts[b"/slow"] = slow
    with engine.client() as client:
        client.send(
            request("/slow") + request("/b", method="POST", body=b"xyz") + request("/c") * 50 + request("/d")[:20]
        )
        assert client.answer().body == b"slow"
        assert client.answer().body == b"monolith|/b|xyz"
        for _ in range(50):
            assert client.answer().body == b"monolith|/c|"
        client.send(request("/d")[20:])
        assert client.answer().body == b"monolith|/d|"


def test_requests_that_dribble_in_are_read(engine: Rig) -> None:
    with engine.client() as client:
        for byte in request("/x", "X-A: b\r\n", "POST", b"ab"):
            client.send(bytes([byte]))
            time.sleep(0.001)
        assert client.answer().body == b"monolith|/x|ab"


def test_parts_of_an_answer_are_passed_on_as_they_come(engine: Rig) -> None:
    def events(_: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        connection.sendall(b"data: 1\n\n")
        time.sleep(0.6)
        connection.sendall(b"data: 2\n\n")

    engine.monolith.scripts[b"/sse"] = events
    with engine.client() as client:
        began = time.monotonic()
        client.send(request("/sse"))
        client._head()
        assert client._reader.readline() == b"9\r\n"
        assert time.monotonic() - began < 0.4


def test_a_stale_connection_is_replaced_without_the_client_noticing(engine: Rig) -> None:
    def closing(_: Seen, connection: socket.socket) -> None:
        connection.sendall(ok())
        connection.recv(1)  # the next request is read in part, and never answered

    engine.monolith.scripts[b"/last"] = closing
    for _ in range(3):
        assert engine.get("/last").status == 200
        assert engine.get("/next").body == b"monolith|/next|"


def test_an_idle_connection_that_the_upstream_closed_is_not_used(engine: Rig) -> None:
    engine.monolith.scripts[b"/last"] = end_after(ok())
    assert engine.get("/last").status == 200
    time.sleep(0.05)
    assert engine.get("/next", method="POST", body=b"x").status == 200
