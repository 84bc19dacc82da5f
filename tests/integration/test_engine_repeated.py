"""Heads that came before are not parsed again: nothing that is answered may change by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strangler_proxy.core.stage import Stage
from strangler_proxy.forward.options import Options
from strangler_proxy.forward.repeated import Repeated
from tests.integration.engine_rig import Client, Rig, rig

FIELDS = "Accept: application/json\r\nCookie: a=1; b=2\r\n"


@pytest.fixture
def engine() -> Iterator[Rig]:
    with rig(Options(sweep_s=0.02, max_header_count=20), stage=Stage.MONOLITH) as made:
        yield made


def remembered(engine: Rig) -> Repeated:
    context = engine.engine._context
    assert context is not None
    return context.repeated


def warm(client: Client, target: str = "/f/x", fields: str = FIELDS, method: str = "GET", body: bytes = b"") -> None:
    for _ in range(4):
        assert client.get(target, fields, method, body).status == 200


class TestRequests:
    def test_a_repeated_head_is_sent_on_like_the_first(self, engine: Rig) -> None:
        with engine.client() as client:
            client.get("/f/x?q=1", FIELDS)
            first = engine.monolith.seen[-1].head
            warm(client, "/f/x?q=1")
            assert remembered(engine).requests, "it was never remembered"
            assert without_ids(engine.monolith.seen[-1].head) == without_ids(first)

    def test_another_target_with_the_same_fields_goes_to_its_own_route(self, engine: Rig) -> None:
        with engine.client() as client:
            warm(client)
            assert client.get("/plain/y?z", FIELDS).status == 200
            assert engine.monolith.seen[-1].head.startswith(b"GET /plain/y?z HTTP/1.1\r\n")

    @pytest.mark.parametrize(
        "line",
        [
            "GET /f/a/../b HTTP/1.1",
            "GET /f/%2e%2e/b HTTP/1.1",
            "GET //f HTTP/1.1",
            "GET /f/x HTTP/1.2",
            "GET /f/x\tHTTP/1.1",
            "get /f/x HTTP/1.1",
            "GET http://other.example/f/x HTTP/1.1",
            "CONNECT example.com:443 HTTP/1.1",
        ],
    )
    def test_a_bad_request_line_before_known_fields_is_refused(self, engine: Rig, line: str) -> None:
        with engine.client() as client:
            warm(client)
            seen = len(engine.monolith.seen)
            client.send(f"{line}\r\nHost: example.com\r\n{FIELDS}\r\n".encode())
            assert client.answer().status in (400, 501, 505)
            assert client.is_closed()
            assert len(engine.monolith.seen) == seen

    def test_a_repeated_body_is_counted(self, engine: Rig) -> None:
        with engine.client() as client:
            warm(client, method="POST", body=b"0123456789")
            client.get("/f/x", FIELDS, "POST", b"abcdefghij")
            assert engine.monolith.seen[-1].body == b"abcdefghij"

    def test_a_body_in_two_parts_after_a_known_head_arrives_whole(self, engine: Rig) -> None:
        with engine.client() as client:
            warm(client, method="POST", body=b"0123456789")
            head = f"POST /f/x HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n{FIELDS}\r\n".encode()
            client.send(head + b"abc")
            client.send(b"defghij")
            assert client.answer().status == 200
            assert engine.monolith.seen[-1].body == b"abcdefghij"

    def test_pipelined_requests_after_a_known_head_are_answered_in_order(self, engine: Rig) -> None:
        one = f"GET /f/x HTTP/1.1\r\nHost: example.com\r\n{FIELDS}\r\n".encode()
        with engine.client() as client:
            warm(client)
            client.send(one * 3)
            assert [client.answer().status for _ in range(3)] == [200, 200, 200]
            warm(client)

    def test_a_known_head_within_a_body_is_body(self, engine: Rig) -> None:
        one = f"GET /f/x HTTP/1.1\r\nHost: example.com\r\n{FIELDS}\r\n".encode()
        with engine.client() as client:
            warm(client)
            client.send(b"POST /f/x HTTP/1.1\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n" % len(one))
            seen = len(engine.monolith.seen)
            client.send(one)
            assert client.answer().status == 200
            assert engine.monolith.seen[-1].body == one
            assert len(engine.monolith.seen) == seen + 1

    @pytest.mark.parametrize("field", ["Connection: close", "Transfer-Encoding: chunked", "Upgrade: h2c", "Host: b"])
    def test_heads_with_something_to_watch_are_not_remembered(self, engine: Rig, field: str) -> None:
        for _ in range(3):
            with engine.client() as client:
                client.send(f"GET /f/x HTTP/1.1\r\nHost: example.com\r\n{field}\r\n\r\n0\r\n\r\n".encode())
                client.answer()
        assert not remembered(engine).requests

    def test_what_is_remembered_is_bounded(self, engine: Rig) -> None:
        known = remembered(engine)
        for number in range(10_000):
            known.line(b"GET /%d HTTP/1.1" % number)
        assert len(known.lines) <= 4_096


class TestAnswers:
    def test_a_repeated_answer_is_passed_on_like_the_first(self, engine: Rig) -> None:
        with engine.client() as client:
            first = client.get("/f/x", FIELDS)
            for _ in range(4):
                again = client.get("/f/x", FIELDS)
            assert remembered(engine).answers, "it was never remembered"
            assert (without_ids(again.head), again.body) == (without_ids(first.head), first.body)

    def test_head_after_a_known_answer_has_no_body(self, engine: Rig) -> None:
        with engine.client() as client:
            warm(client)
            assert client.get("/f/x", FIELDS, "HEAD").body == b""
            warm(client)


def without_ids(head: bytes) -> list[bytes]:
    own = (b"x-request-id", b"traceparent", b"set-cookie")
    return [line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() not in own]
