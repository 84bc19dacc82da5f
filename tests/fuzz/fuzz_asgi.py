"""Fuzzing of the ASGI mode, for bounded time: `make fuzz` (SECONDS=60).

A server reads the bytes, and the application gets what it made of them. So both are tried: made-up scopes and messages
straight at the application, as no server should send them, and made-up bytes at every server that is installed. Either
way the request is refused, or the upstream sees one that a strict reader reads in one way, with nothing in it that was
not sent and nothing that only a proxy may say. Not part of the default suite.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.asgi import StranglerProxy
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.table import RoutingTable
from tests.corpus.engines import OPTIONS
from tests.corpus.recorder import Recorder
from tests.corpus.started import ASGI_SERVERS, asgi_engine, is_there
from tests.fuzz.fuzz_requests import GOOD, SECONDS, TOKENS, UNTIL_TOLD, Clock, TimeIsUp, assembled, mutated, read
from tests.integration.engine_rig import Client, values, wait_until

pytestmark = pytest.mark.timeout(SECONDS * 4 + 60)

THERE = [server for server in ASGI_SERVERS if is_there(server)]
QUIET_S = 0.05
"""A server that has said nothing for so long has nothing to say: some are lost where the client closes its side."""

NAMES = [b"x-a", b"x-b", b"x-c", b"x-d", b"host", b"content-length", b"transfer-encoding", b"connection", b"via",
         b"x_forwarded_for", b"expect", b"x-strangler-flag", b"x_strangler_flag", b"upgrade", b"max-forwards",
         b"trailer", b"keep-alive", b"x-forwarded-for", b"cookie"]  # fmt: skip
VALUES = [b"x", b"y", b"0", b"3", b"4, 3", b"+3", b"chunked", b"identity", b"close", b"host", b"keep-alive, x-a", b"",
          b"1.1 strangler-proxy", b"100-continue", b"websocket", b"a\r\nX-B: c", b"a\nb", b"a\0b", b" x ", b"\xff",
          b"x-strangler-flag"]  # fmt: skip
BITS = [b"/", b"s", b"..", b".", b"%2e", b"%2F", b"%c0%ae", b";", b"?", b"#", b" ", b"\r\n", b"\0", b"\x7f", b"//",
        b"http://x/", b"\xff", b"*"]  # fmt: skip
OURS = {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded", b"via", b"x-request-id",
        b"traceparent", b"transfer-encoding", b"max-forwards"}  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "G ET", "GET\r\n", "", "CONNECT", "BREW", "\xe9"]


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A good scope with the messages of its body, up to three things of which were changed."""
    body = draw(st.sampled_from([b"", b"", b"abc", b"GET /x HTTP/1.1\r\n\r\n"]))
    fields = [(b"host", b"x"), *([(b"content-length", b"%d" % len(body))] if body else ())]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST" if body else "GET",
        "http_version": "1.1",
        "scheme": "http",
        "path": "/s",
        "raw_path": b"/s",
        "query_string": b"",
        "headers": fields,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    parts = [body]
    named = st.tuples(
        st.one_of(st.sampled_from(NAMES), st.binary(max_size=3)),
        st.one_of(st.sampled_from(VALUES), st.binary(max_size=3)),
    )
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.integers(0, 7)):
            case 0:
                scope["method"] = draw(st.sampled_from(METHODS))
            case 1:
                scope["http_version"] = draw(st.sampled_from(["1.0", "2", "3", "1.2", ""]))
            case 2:
                target = b"/" * draw(st.integers(0, 1)) + b"".join(draw(st.lists(st.sampled_from(BITS), max_size=4)))
                scope["path"], scope["raw_path"] = target.decode("latin-1"), draw(st.sampled_from([target, None]))
            case 3:
                scope["query_string"] = draw(st.sampled_from([b"a=b", b"a b", b"a\r\nX: y", b"#"]))
            case 4:
                parts.insert(0, draw(st.sampled_from([b"", b"abcd", b"0\r\n\r\n"])))
            case 5:
                del fields[draw(st.integers(0, len(fields) - 1)) :]
                fields.append(draw(named))
            case _:
                fields.insert(draw(st.integers(0, len(fields))), draw(named))
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    return scope, [*messages, {"type": "http.request", "body": b"", "more_body": False}]


@st.composite
def nearly_good(draw: st.DrawFn) -> bytes:
    """One to three good requests, with one token too many at most."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(GOOD), min_size=1, max_size=3))))
    at = draw(st.integers(0, len(data)))
    data[at:at] = draw(st.one_of(st.just(b""), st.sampled_from(TOKENS)))
    return bytes(data)


class Site:
    """The application in a loop of its own, and a recorder behind it."""

    def __init__(self, recorder: Recorder) -> None:
        upstream = Cluster(name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=recorder.port),))
        self.recorder = recorder
        self.app = StranglerProxy(RoutingTable.empty(upstream), options=OPTIONS)

    async def ask(self, scope: dict[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the application sends; the client stays until it is answered."""
        waiting, sent = iter(messages), []

        async def receive() -> dict[str, Any]:
            message = next(waiting, None)
            if message is None:
                await asyncio.sleep(10)
            return message or {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async with asyncio.timeout(8):
            await self.app(scope, receive, send)  # type: ignore[arg-type]
        return sent


def strict(request: bytes) -> bytes:
    """The head of a request that was forwarded, once it was looked at: it may hold nothing that only we may say."""
    head = request.partition(b"\r\n\r\n")[0]
    assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~\x80-\xff]+ HTTP/1\.1", head.partition(b"\r\n")[0]), head
    assert len(values(head, "host")) == 1, head
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        assert colon, head
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), head
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value), head
        assert not name.lower().replace(b"_", b"-").startswith(b"x-strangler-"), head
        assert name.lower() not in (b"keep-alive", b"upgrade", b"x_forwarded_for"), head
    assert values(head, "connection") == [], head
    return head


def fields_of(head: bytes) -> set[tuple[bytes, bytes]]:
    """The fields of a head but for those that are the proxy's own."""
    split = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {(name.lower(), value.strip(b" \t")) for name, _, value in split if name.lower() not in OURS}


def test_whatever_a_server_passes_on_is_refused_or_seen_once() -> None:
    recorder, tried, forwarded = Recorder(), 0, 0
    clock = Clock(time.monotonic() + SECONDS / 4)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        site = Site(recorder)

        @settings(**UNTIL_TOLD)
        @given(request=asked())
        def run(request: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
            nonlocal tried, forwarded
            with clock:
                tried += 1
                recorder.reset()
                forwarded += judge(runner.run(site.ask(*request)), *request)

        def judge(sent: list[dict[str, Any]], scope: dict[str, Any], messages: list[dict[str, Any]]) -> bool:
            passed = bool(sent) and sent[0]["status"] == 200
            assert recorder.unreadable == []
            assert len(recorder.requests) == passed or (not passed and len(recorder.requests) <= 1)
            for seen in recorder.requests:
                given = {(name.lower(), value.strip(b" \t")) for name, value in scope["headers"]}
                assert fields_of(strict(seen)) <= given, "a field that was not sent"
                method, target, body = read(seen)
                whole = b"".join(message["body"] for message in messages)
                assert method == scope["method"].encode()
                assert target.startswith(b"/") or target == b"*"
                assert whole.startswith(body)
            return passed

        try:
            run()
        except* TimeIsUp:
            pass
        finally:
            runner.run(site.app.close(0))
    recorder.close()
    assert tried > SECONDS
    assert forwarded > SECONDS / 10, "some of it has to be good"
    print(f"scopes: {tried} requests, {forwarded} forwarded")


@pytest.fixture(scope="module", params=THERE)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, Recorder]]:
    recorder = Recorder()
    with asgi_engine(request.param, recorder.port) as port:
        yield request.param, port, recorder
    recorder.close()


def test_whatever_bytes_come_the_upstream_sees_one_reading(server: tuple[str, int, Recorder]) -> None:
    """Servers read more leniently than a strict reader would, so only what arrives is judged, and that it was sent."""
    name, port, recorder = server
    clock, tried, forwarded = Clock(time.monotonic() + SECONDS / 4 / len(THERE)), 0, 0

    @settings(**UNTIL_TOLD)
    @given(data=st.one_of(nearly_good(), nearly_good(), mutated(), assembled()))
    def run(data: bytes) -> None:
        nonlocal tried, forwarded
        with clock:
            tried += 1
            recorder.reset()
            answered = statuses(port, data)
            wait_until(lambda: len(recorder.requests) >= answered.count(200), 0.5)
            assert recorder.unreadable == []
            assert len(recorder.requests) >= answered.count(200)
            for request in list(recorder.requests):
                method, target, _ = read(strict(request) + b"\r\n\r\n0\r\n\r\n")
                assert method.lower() in data.lower()
                assert target.partition(b"?")[0] in data or target == b"/", "a path that nobody sent"
            forwarded += len(recorder.requests)

    try:
        run()
    except* TimeIsUp:
        pass
    assert tried > 5
    assert forwarded, "some of it has to be good"
    print(f"{name}: {tried} connections, {forwarded} requests forwarded")


def statuses(port: int, data: bytes) -> list[int]:
    """Send it, and read until the server has closed or is quiet; the statuses of its answers."""
    received = b""
    with Client(port, 1.0) as client, suppress(ConnectionError, TimeoutError):
        client.send(data)
        client.socket.settimeout(QUIET_S)
        while part := client.socket.recv(65_536):
            received += part
    return [int(each) for each in re.findall(rb"(?:^|\r\n|ok)HTTP/1\.[01] (\d{3})", received)]
