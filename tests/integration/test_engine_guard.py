"""Hostile and broken requests: answered by the proxy, the connection closed, nothing forwarded. And trusted fields."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Rig, request, rig

POST = b"POST /s HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /s HTTP/1.1\r\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with rig(Options(sweep_s=0.02, linger_s=0.1, max_body_bytes=1 << 20)) as made:
        yield made


@pytest.fixture
def engine(shared: Rig) -> Rig:
    shared.monolith.seen.clear()
    return shared


def test_nothing_after_a_refused_request_is_answered(engine: Rig) -> None:
    with engine.client() as client:
        client.send(request("/first") + b"GET /../x HTTP/1.1\r\nHost: x\r\n\r\n" + request("/smuggled"))
        assert client.answer().status == 200
        assert client.answer().status == 400
        assert client.is_closed()
    assert engine.monolith.targets == [b"/first"]


def test_a_broken_body_behind_a_good_request_does_not_cost_that_one_its_answer(engine: Rig) -> None:
    with engine.client() as client:
        client.send(request("/first") + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert client.answer().status == 200
        assert client.answer().status == 400
        assert client.is_closed()
    assert engine.monolith.targets == [b"/first"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (GET + b"Host: x\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", 431),
        (GET + b"Host: x\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (GET + b"Host: x\r\nX-A: " + b"a" * 2_000_000, 431),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 2_000_000, 414),
        (POST + b"Content-Length: 1048577\r\n\r\n", 413),
        (POST + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"a" * 65536 + b"\r\n0\r\n"
         + b"X-T: 1\r\n" * 20_000 + b"\r\n", 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 17, 413),
        (POST + b"Content-Length: 3\r\nExpect: 200-maybe\r\n\r\nabc", 417),
    ],
)  # fmt: skip
def test_limits_have_their_own_status(engine: Rig, raw: bytes, status: int) -> None:
    with engine.client() as client:
        try:
            client.send(raw)
        except ConnectionError:
            pass  # it need not read it all
        assert client.answer().status == status
        assert client.is_closed()


def test_a_client_that_is_still_sending_gets_to_read_why_it_was_refused(engine: Rig) -> None:
    with engine.client() as client:
        client.send(POST + b"Content-Length: 1048577\r\n\r\n")
        for _ in range(20):
            time.sleep(0.002)
            client.send(b"a" * 10_000)
        assert client.answer().status == 413


def test_many_requests_in_one_connection_may_together_pass_the_header_limit(engine: Rig) -> None:
    with engine.client() as client:
        client.send(request("/x", "X-A: " + "a" * 1000 + "\r\n") * 100)
        for _ in range(100):
            assert client.answer().status == 200


def test_a_loop_is_broken(engine: Rig) -> None:
    assert engine.get("/x", "Via: 1.1 other, 1.1 strangler-proxy\r\n").status == 508
    assert engine.monolith.seen == []
    assert engine.get("/x", "Via: 1.1 edge\r\n").status == 200
    assert engine.monolith.seen[0].values("via") == [b"1.1 edge", b"1.1 strangler-proxy"]


FORGED = """X-Forwarded-For: 6.6.6.6
X_Forwarded_For: 6.6.6.6
X-Forwarded-Host: evil
X-Forwarded-Port: 1
Forwarded: for=6.6.6.6
X-Strangler-Replay: safe
X-Strangler-Flag: f
X_Strangler-Replay: resume
x_strangler_flag: g
Content_Length: 5
Transfer_Encoding: chunked
Proxy-Authorization: Basic x
Keep-Alive: timeout=5
Proxy-Connection: keep-alive
Upgrade: h2c
TE: gzip, trailers
""".replace("\n", "\r\n")


def test_trusted_fields_cannot_be_forged(engine: Rig) -> None:
    engine.get("/x", FORGED)
    (seen,) = engine.monolith.seen
    assert b"6.6.6.6" not in seen.head
    assert b"evil" not in seen.head
    assert b"trangler-" not in seen.head.replace(b"strangler-proxy", b"")
    assert b"_" not in seen.head
    assert seen.values("x-forwarded-for") == [b"127.0.0.1"]
    assert seen.values("x-forwarded-host") == [b"example.com"]
    assert seen.values("x-forwarded-proto") == [b"http"]
    assert seen.values("forwarded") == [b'for=127.0.0.1;host="example.com";proto=http']
    assert seen.values("te") == [b"trailers"]
    for name in ("proxy-authorization", "keep-alive", "proxy-connection", "upgrade", "x-forwarded-port"):
        assert seen.values(name) == []


def test_fields_named_by_connection_are_dropped_but_not_ours(engine: Rig) -> None:
    engine.get(
        "/f/x",
        "Connection: close, X-Secret, X-Forwarded-For, X-Request-Id, X-Strangler-Flag, Host, Content-Length\r\n"
        "X-Secret: 1\r\nX-Kept: 2\r\n",
    )
    (seen,) = engine.monolith.seen
    assert seen.values("x-secret") == []
    assert seen.values("x-kept") == [b"2"]
    for name in ("host", "x-forwarded-for", "x-request-id", "x-strangler-flag", "traceparent"):
        assert len(seen.values(name)) == 1, name


def test_absolute_form_to_this_host_is_sent_on_as_a_path(engine: Rig) -> None:
    with engine.client() as client:
        client.send(b"GET http://EXAMPLE.com/f/x?a=1 HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert client.answer().status == 200
    assert engine.monolith.targets == [b"/f/x?a=1"]


def test_request_ids_and_traces_are_continued_or_begun(engine: Rig) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = engine.get("/x", f"X-Request-Id: mine-1\r\ntraceparent: {trace}\r\ntracestate: k=v\r\n")
    assert answer.values("x-request-id") == [b"mine-1"]
    first = engine.monolith.seen[0]
    assert first.values("x-request-id") == [b"mine-1"]
    assert first.values("traceparent")[0].startswith(b"00-" + b"a" * 32 + b"-")
    assert first.values("traceparent")[0].endswith(b"-01")
    assert b"b" * 16 not in first.values("traceparent")[0]
    assert first.values("tracestate") == [b"k=v"]
    answer = engine.get("/x", "X-Request-Id: not valid!\r\ntraceparent: nonsense\r\ntracestate: k=v\r\n")
    second = engine.monolith.seen[1]
    assert answer.values("x-request-id") == second.values("x-request-id") != [b"not valid!"]
    assert second.values("tracestate") == []
    assert len(second.values("traceparent")[0]) == 55


def test_what_upstreams_say_for_the_proxy_does_not_reach_clients(engine: Rig) -> None:
    engine.monolith.scripts[b"/x"] = (
        b"HTTP/1.1 200 OK\r\nX-Strangler-Fence: flag=f; epoch=1; owner=monolith; replay=safe\r\nX_Strangler_Flag: f\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nX-Request-Id: theirs\r\nContent-Length: 2\r\n\r\nok"
    )
    answer = engine.get("/x", "X-Request-Id: ours\r\n")
    assert answer.status == 200
    assert b"trangler_" not in answer.head
    assert b"Fence" not in answer.head
    assert answer.values("x-hop") == answer.values("keep-alive") == []
    assert answer.values("x-request-id") == [b"ours"]
    assert answer.values("via") == [b"1.1 strangler-proxy"]


def test_forwarded_fields_are_appended_to_behind_a_trusted_proxy() -> None:
    options = Options(sweep_s=0.02, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    with rig(options) as engine:
        engine.get(
            "/x", "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: pub\r\n"
        )
        (seen,) = engine.monolith.seen
        assert seen.values("x-forwarded-for") == [b"6.6.6.6, 203.0.113.7, 127.0.0.1"]
        assert seen.values("x-forwarded-proto") == [b"https"]
        assert seen.values("x-forwarded-host") == [b"pub"]
        assert seen.values("forwarded")[0].endswith(b'for=127.0.0.1;host="example.com";proto=https')
