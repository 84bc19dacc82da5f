"""The files of `docs/how-to/put-a-front-before-it.md`, run as they are: a front, a proxy behind it, an upstream."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.certificates import Pair, make_pair
from tests.conftest import front_program
from tests.integration.engine_rig import Seen, Upstream, request
from tests.integration.test_engine_tunnel import TEXT, UPGRADE, echo, frame, read_frame
from tests.running_proxy import RunningProxy
from tests.servers import ROOT, free_port

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs" / "how-to" / "put-a-front-before-it.md").read_text()


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def placed(text: str, port: int, proxy_port: int, pair: Pair) -> str:
    """The page's file with the ports and the certificate of this test; each has to be in it."""
    for said, here in (
        ("8443", str(port)),
        ("127.0.0.1:8000" if "127.0.0.1:8000" in text else "port_value: 8000", f"127.0.0.1:{proxy_port}"),
        ("/etc/strangler/cert.pem", str(pair.chain)),
        ("/etc/strangler/key.pem", str(pair.key)),
    ):
        assert said in text, said
        text = text.replace(said, f"port_value: {proxy_port}" if said.startswith("port_value") else here)
    return text.replace("https://example.com:", "https://localhost:")


def nginx_command(folder: Path, text: str) -> list[str]:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
        f"{temporary}{text}}}\n"
    )
    return ["-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy_command(folder: Path, text: str) -> list[str]:
    (folder / "Caddyfile").write_text(text)
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def envoy_command(folder: Path, text: str) -> list[str]:
    (folder / "envoy.yaml").write_text(text)
    return ["-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]


FRONTS = {"nginx": ("nginx", nginx_command), "caddy": ("caddyfile", caddy_command), "envoy": ("yaml", envoy_command)}


@contextmanager
def running(name: str, folder: Path, proxy_port: int, pair: Pair) -> Iterator[int]:
    """The front on a free port, once it takes connections."""
    language, command = FRONTS[name]
    program = front_program(name)
    assert program is not None
    port = free_port()
    arguments = command(folder, placed(block(language), port, proxy_port, pair))
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        )  # fmt: skip
        try:
            until = time.monotonic() + 15
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    said = (folder / "front.log").read_text()
                    assert process.poll() is None, said
                    assert time.monotonic() < until, said
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)


class Fronted:
    """A front, and what is behind it."""

    def __init__(self, port: int, pair: Pair, upstream: Upstream) -> None:
        self.port = port
        self.pair = pair
        self.upstream = upstream

    def curl(self, target: str, *options: str) -> str:
        """Standard output of curl, which speaks HTTP/2 here."""
        done = subprocess.run(
            ["curl", "--http2", "-sS", "--path-as-is", "--max-time", "20", "--cacert", str(self.pair.chain), *options,
             f"https://localhost:{self.port}{target}"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def addressed(self, raw: bytes) -> bytes:
        """A request with the Host that the front serves."""
        return raw.replace(b"Host: example.com", b"Host: localhost:%d" % self.port)

    def tls(self) -> ssl.SSLSocket:
        """A raw connection in HTTP/1.1."""
        context = ssl.create_default_context(cafile=str(self.pair.chain))
        context.set_alpn_protocols(["http/1.1"])
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return context.wrap_socket(raw, server_hostname="localhost")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in FRONTS],
)
def fronted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    folder = tmp_path_factory.mktemp(request.param)
    pair = make_pair(folder / "tls")
    upstream = Upstream("monolith")
    settings = {
        "STRANGLER_UPSTREAM": f"http://127.0.0.1:{upstream.port}",
        "STRANGLER_TRUSTED_PROXIES": "127.0.0.1",
    }
    with ExitStack() as stack:
        proxy = stack.enter_context(RunningProxy(folder, **settings))
        proxy.start()
        port = stack.enter_context(running(request.param, folder, proxy.port, pair))
        yield Fronted(port, pair, upstream)
    upstream.stop()


@pytest.fixture
def front(fronted: Fronted) -> Fronted:
    fronted.upstream.seen.clear()
    fronted.upstream.scripts.clear()
    return fronted


def test_http_2_ends_there_and_the_target_arrives_as_it_was_sent(front: Fronted) -> None:
    said = front.curl("/a//b;v=1/%7Eq?q=%20a&z=%2F", "-w", "%{http_version} %{http_code}", "-o", "/dev/null")
    assert said == "2 200"
    assert front.upstream.targets == [b"/a//b;v=1/%7Eq?q=%20a&z=%2F"]


def test_the_application_learns_client_and_scheme_and_nothing_that_was_forged(front: Fronted) -> None:
    front.curl(
        "/x", "-H", "X-Forwarded-For: 6.6.6.6", "-H", "X-Forwarded-Proto: http", "-H", "X-Forwarded-Host: evil",
        "-H", "Forwarded: for=6.6.6.6", "-H", "X-Strangler-Flag: f",
    )  # fmt: skip
    (seen,) = front.upstream.seen
    assert b"6.6.6.6" not in seen.head
    assert b"evil" not in seen.head
    assert seen.values("x-strangler-flag") == []
    assert seen.values("x-forwarded-proto") == [b"https"]
    (chain,) = seen.values("x-forwarded-for")
    client, proxy = chain.split(b", ")
    assert proxy == b"127.0.0.1"
    assert ipaddress.ip_address(client.decode()), "Envoy names the host's own address for a client on loopback"
    host = b"localhost:%d" % front.port
    assert seen.values("host") == [host]
    assert seen.values("x-forwarded-host") == [host]


def test_bodies_go_both_ways_and_what_is_encoded_stays(front: Fronted, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 20_000)
    front.curl("/x", "--data-binary", f"@{body}", "-o", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"monolith|/x|" + body.read_bytes()
    packed = b"\x1f\x8b not really"
    front.upstream.scripts[b"/packed"] = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
    )
    front.curl("/packed", "-H", "Accept-Encoding: gzip", "-o", str(tmp_path / "packed"))
    assert (tmp_path / "packed").read_bytes() == packed


def test_events_come_when_they_are_sent(front: Fronted) -> None:
    def events(_: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _number in range(2):
            connection.sendall(b"9\r\ndata: 1\n\n\r\n")
            time.sleep(1)
        connection.sendall(b"0\r\n\r\n")

    front.upstream.scripts[b"/events"] = events
    with front.tls() as client:
        began = time.monotonic()
        client.sendall(front.addressed(request("/events")))
        received = b""
        while b"data: 1" not in received:
            received += client.recv(4_096)
        assert time.monotonic() - began < 0.8


def test_websockets_go_through(front: Fronted) -> None:
    front.upstream.scripts[b"/ws"] = echo
    with front.tls() as client:
        client.sendall(front.addressed(request("/ws", UPGRADE.format("AAAAAAAAAAAAAAAAAAAAAA=="))))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert read_frame(client) == (TEXT, b"hello")
        client.sendall(frame(TEXT, b"there" * 1000, masked=True))
        assert read_frame(client) == (TEXT, b"there" * 1000)


def test_what_the_proxy_refuses_is_told_to_the_client(front: Fronted) -> None:
    answer = front.curl("/a%2Fb", "-w", "\n%{http_code}")
    body, _, status = answer.rpartition("\n")
    assert status == "400"
    assert json.loads(body)["code"] == "malformed_request"
    assert front.upstream.seen == []
