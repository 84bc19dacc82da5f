"""The ASGI mode on real servers and sockets: uvicorn always, granian and hypercorn where `make bench` put them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from strangler_proxy.asgi import StranglerProxy
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.table import RoutingTable
from tests.integration.engine_rig import Answer, Client, Upstream, fenced, ok, request, wait_until
from tests.servers import ROOT, free_port

OTHERS = ROOT / ".venv-bench" / "bin"
UVICORN = [sys.executable, "-m", "uvicorn", "--no-proxy-headers", "--log-level", "warning", "--no-access-log"]
COMMANDS = {
    "uvicorn-httptools": [*UVICORN, "--http", "httptools", "--loop", "uvloop"],
    "uvicorn-h11": [*UVICORN, "--http", "h11", "--loop", "asyncio"],
    "granian": [str(OTHERS / "granian"), "--interface", "asgi", "--http", "1", "--no-ws", "--log-level", "warning"],
    "hypercorn": [str(OTHERS / "hypercorn"), "--log-level", "warning"],
}


@dataclass
class Site:
    """A running server with the proxy in it, and the two upstreams behind."""

    server: str
    port: int
    monolith: Upstream
    extracted: Upstream

    def client(self) -> Client:
        return Client(self.port, 5.0)

    def get(self, target: str, fields: str = "", method: str = "GET", body: bytes = b"") -> Answer:
        with self.client() as client:
            return client.get(target, fields, method, body)

    def says(self, raw: bytes) -> int:
        """The status of the answer to raw bytes; 0 where the connection ends without one."""
        with self.client() as client:
            client.send(raw)
            try:
                return client.answer().status
            except (ConnectionError, TimeoutError, ValueError, IndexError):
                return 0


@contextmanager
def site(server: str, app: str = "app", **more: str) -> Iterator[Site]:
    command = COMMANDS[server]
    if server in ("granian", "hypercorn") and not os.access(command[0], os.X_OK):
        pytest.skip(f"{server} comes with make bench")
    port, monolith, extracted = free_port(), Upstream("monolith"), Upstream("extracted")
    where = ["--bind", f"127.0.0.1:{port}"] if server == "hypercorn" else ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_paths()["purelib"])),
        "TEST_MONOLITH_PORT": str(monolith.port),
        "TEST_EXTRACTED_PORT": str(extracted.port),
        **more,
    }
    process = subprocess.Popen([*command, *where, f"tests.integration.asgi_site:{app}"], cwd=ROOT, env=environment)
    try:
        assert wait_until(lambda: _listens(port), 15.0)
        yield Site(server, port, monolith, extracted)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        monolith.stop()
        extracted.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", params=list(COMMANDS))
def served(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(request.param) as running:
        yield running


class TestForwarding:
    def test_a_request_reaches_the_side_that_its_route_names(self, served: Site) -> None:
        assert served.get("/f/x?q=1").body == b"monolith|/f/x?q=1|"
        assert served.get("/moved/x").body == b"extracted|/moved/x|"
        assert served.get("/elsewhere").body == b"monolith|/elsewhere|"

    def test_the_target_arrives_byte_for_byte(self, served: Site) -> None:
        for target in ("/caf%C3%A9/%7Ex", "/a//b;v=1?x=%2F&y", "/a%20b"):
            assert served.get(target).body == f"monolith|{target}|".encode()

    def test_bodies_arrive_with_a_length_and_in_chunks(self, served: Site) -> None:
        body = b"0123456789" * 30_000
        assert served.get("/f/x", method="POST", body=body).body == b"monolith|/f/x|" + body
        with served.client() as client:
            client.send(b"POST /f/x HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
            assert client.answer().body == b"monolith|/f/x|abcdefg"

    def test_cookies_stay_apart_and_the_proxy_adds_its_own(self, served: Site) -> None:
        served.monolith.scripts[b"/f/cookies"] = ok(b"ok", b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n")
        answer = served.get("/f/cookies")
        cookies = answer.values("set-cookie")
        assert cookies[:2] == [b"a=1", b"b=2"]
        assert any(cookie.startswith(b"strangler_visitor=") for cookie in cookies)
        assert answer.values("x-request-id")

    def test_fields_of_clients_that_are_ours_do_not_arrive(self, served: Site) -> None:
        served.get("/f/x", "X-Strangler-Flag: x\r\nX_Forwarded_For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\n")
        seen = served.monolith.seen[-1]
        assert seen.values("x-forwarded-for") == [b"127.0.0.1"]
        assert seen.values("x-strangler-flag") == [b"f"]
        assert not seen.values("x_forwarded_for")

    def test_head_and_304_have_no_body(self, served: Site) -> None:
        served.monolith.scripts[b"/f/304"] = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 10\r\n\r\n'
        with served.client() as client:
            assert client.get("/f/x", method="HEAD").body == b""
            assert client.get("/f/304").status == 304
            assert client.get("/f/x").status == 200

    def test_an_answer_of_unknown_length_ends_well(self, served: Site) -> None:
        served.monolith.scripts[b"/f/chunks"] = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        assert served.get("/f/chunks").body == b"hello"

    def test_a_head_goes_on_before_its_body_has_come(self, served: Site) -> None:
        """A stream of events says nothing for a while; its client has to know that it is there."""
        go_on = threading.Event()

        def begin(_: object, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            go_on.wait(5)
            connection.sendall(b"2\r\nok\r\n0\r\n\r\n")

        if served.server == "granian":
            pytest.skip("granian waits for a body before it sends a head")
        served.monolith.scripts[b"/f/begun"] = begin
        with served.client() as client:
            client.send(request("/f/begun"))
            first = client.socket.recv(1 << 16, socket.MSG_PEEK)
            go_on.set()
            assert first.startswith(b"HTTP/1.1 200")
            assert client.answer().body == b"ok"

    def test_a_body_ends_where_its_length_says_and_the_upstream_is_kept(self, served: Site) -> None:
        """granian tells of the end in a message of its own, that may come after the answer."""
        for _ in range(20):
            assert served.get("/f/kept", method="POST", body=b"x" * 4096).status == 200
        assert len({seen.connection for seen in served.monolith.seen if seen.target == b"/f/kept"}) <= 2

    def test_a_truncated_answer_never_ends_as_if_it_were_whole(self, served: Site) -> None:
        def cut(_: object, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            time.sleep(0.05)

        served.monolith.scripts[b"/f/cut"] = cut
        with served.client() as client, pytest.raises((ConnectionError, ValueError)):
            client.get("/f/cut")

    def test_a_fenced_write_is_replayed_to_the_owner(self, served: Site) -> None:
        served.monolith.scripts[b"/f/fenced"] = fenced(7, "extracted")
        answer = served.get("/f/fenced", method="POST", body=b"{}")
        assert (answer.status, answer.body) == (200, b"extracted|/f/fenced|{}")
        assert served.extracted.seen[-1].values("x-strangler-replay") == [b"safe"]

    def test_a_refused_upstream_is_502_without_an_address(self) -> None:
        with site("uvicorn-httptools") as alone:
            alone.extracted.stop()
            answer = alone.get("/moved/x", method="POST", body=b"x")
            assert answer.status in (502, 503)
            assert b"127.0.0.1" not in answer.body
            assert answer.values("proxy-status")

    def test_a_client_that_leaves_is_seen_and_its_upstream_is_left(self, served: Site) -> None:
        served.monolith.left.clear()
        served.monolith.scripts[b"/f/slow"] = lambda seen, connection: (connection.recv(1), None)[1]
        client = served.client()
        client.send(request("/f/slow"))
        time.sleep(0.3)
        client.close()
        assert wait_until(lambda: served.get("/f/x").status == 200, 3.0)


class TestGuard:
    """What a server may let through is refused here; either way nothing reaches an upstream."""

    @pytest.mark.parametrize(
        "raw",
        [
            pytest.param(b"GET /f/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
            pytest.param(b"GET /f/x HTTP/1.1\r\n\r\n", id="no host"),
            pytest.param(b"GET /f/x HTTP/1.1\r\nHost: a b\r\n\r\n", id="no host name"),
            pytest.param(
                b"POST /f/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="two lengths"
            ),
            pytest.param(b"GET /f/../x HTTP/1.1\r\nHost: a\r\n\r\n", id="dot segments"),
            pytest.param(b"GET /f/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded dot segments"),
            pytest.param(b"GET /f/a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", id="encoded slash"),
            pytest.param(b"GET /f/%00 HTTP/1.1\r\nHost: a\r\n\r\n", id="NUL"),
            pytest.param(b"GET /f/%c0%af HTTP/1.1\r\nHost: a\r\n\r\n", id="overlong UTF-8"),
            pytest.param(b"GET /f/x HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 60 + b"\r\n", id="too many fields"),
            pytest.param(b"GET /f/x HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", id="endless field"),
            pytest.param(b"GET /f/" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="endless target"),
            pytest.param(b"GET /f/x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", id="space before colon"),
            pytest.param(b"GET /f/x HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="NUL in a value"),
        ],
    )
    def test_it_is_refused_and_not_forwarded(self, served: Site, raw: bytes) -> None:
        seen = len(served.monolith.seen)
        status = served.says(raw)
        assert status == 0 or 400 <= status < 500, status
        assert len(served.monolith.seen) == seen

    def test_two_framings_are_refused_or_become_one(self, served: Site) -> None:
        """granian's server takes the chunks and hides the length, so that nothing is left to refuse."""
        raw = b"POST /else HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        seen = len(served.monolith.seen)
        status = served.says(raw)
        if served.server == "granian":
            assert (status, len(served.monolith.seen)) == (200, seen + 1)
            assert not served.monolith.seen[-1].values("content-length")
        else:
            assert status == 400
            assert len(served.monolith.seen) == seen

    def test_a_body_over_the_limit_is_413(self, served: Site) -> None:
        with served.client() as client:
            client.send(b"POST /f/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nabc")
            assert client.answer().status == 413


class TestMounted:
    def test_starlette_keeps_its_own_pages_and_the_proxy_gets_the_rest(self) -> None:
        with site("uvicorn-httptools", "mounted") as beside:
            assert beside.get("/own").body == b"own page"
            assert beside.get("/f/x?y=1").body == b"monolith|/f/x?y=1|"


@pytest.mark.parametrize("more", [True, False])
async def test_more_of_a_body_than_its_length_says_never_reaches_an_upstream(more: bool) -> None:
    """What an upstream would take for the next request; servers look at it, but no server has to be trusted with it."""
    upstream, sent = Upstream("monolith"), []
    endpoint = Endpoint(host="127.0.0.1", port=upstream.port)
    proxy = StranglerProxy(RoutingTable.empty(Cluster(name="monolith", endpoints=(endpoint,))))
    scope = {
        "type": "http", "http_version": "2", "method": "POST", "scheme": "http", "path": "/x", "raw_path": b"/x",
        "query_string": b"", "headers": [(b"host", b"a"), (b"content-length", b"5")],
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    messages = [{"type": "http.request", "body": b"0123456789", "more_body": more}]

    async def receive() -> dict[str, object]:
        if not messages:
            await asyncio.sleep(3_600)
        return messages.pop()

    async def send(message: MutableMapping[str, object]) -> None:
        sent.append(message)

    await proxy(scope, receive, send)
    await proxy.close()
    upstream.stop()
    assert sent[0]["status"] == 400
    assert not upstream.seen
