"""TLS at the edge: real handshakes with a real `strangler serve`, and certificates that change under it."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from strangler_proxy.forward.options import Options
from strangler_proxy.forward.tls import Certificate
from tests.certificates import Pair, make_pair
from tests.integration.engine_rig import Rig, request, rig
from tests.running_proxy import NamedUpstream, RunningProxy


def client_context(pair: Pair, **options: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pair.chain))
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in options.items():
        setattr(context, name, value)
    return context


def shake_hands(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    try:
        return context.wrap_socket(raw, server_hostname="localhost")
    except BaseException:
        raw.close()
        raise


def ask(connection: ssl.SSLSocket, raw: bytes = request("/x")) -> bytes:
    connection.sendall(raw)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65_536)
    return answer


def served_name(port: int) -> str:
    with shake_hands(port, _trusting()) as connection:
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return str(x509.load_der_x509_certificate(der).subject.rfc4514_string())


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def engine(pair: Pair) -> Iterator[Rig]:
    certificate = Certificate(pair.chain, pair.key)
    with rig(Options(sweep_s=0.02, header_timeout_s=0.5, linger_s=0.1), tls=certificate.context) as made:
        yield made


def test_requests_come_by_tls_and_the_upstream_is_told(engine: Rig, pair: Pair) -> None:
    engine.monolith.seen.clear()
    with shake_hands(engine.port, client_context(pair)) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1", "HTTP/2 is not offered"
        for _ in range(3):
            assert ask(connection).startswith(b"HTTP/1.1 200 ")
    seen = engine.monolith.seen[0]
    assert seen.values("x-forwarded-proto") == [b"https"]
    assert seen.values("forwarded") == [b'for=127.0.0.1;host="example.com";proto=https']


def test_large_bodies_go_both_ways_through_tls(engine: Rig, pair: Pair) -> None:
    body = bytes(range(256)) * 8_192
    with shake_hands(engine.port, client_context(pair)) as connection:
        connection.sendall(request("/x", method="POST", body=body))
        reader = connection.makefile("rb")
        while reader.readline() != b"\r\n":
            pass
        assert reader.read(len(b"monolith|/x|") + len(body)) == b"monolith|/x|" + body
        reader.close()


def test_a_malformed_request_is_told_so_and_the_connection_ends(engine: Rig, pair: Pair) -> None:
    with shake_hands(engine.port, client_context(pair)) as connection:
        assert ask(connection, b"GET /s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        rest = connection.recv(65_536)
        while rest:
            rest = connection.recv(65_536)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_versions_are_spoken(engine: Rig, pair: Pair, version: ssl.TLSVersion) -> None:
    with shake_hands(engine.port, client_context(pair, minimum_version=version, maximum_version=version)) as connection:
        assert ask(connection).startswith(b"HTTP/1.1 200 ")


def test_an_old_version_is_not(engine: Rig) -> None:
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{engine.port}", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        input=b"", capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert b"Cipher is (NONE)" in done.stdout


@pytest.mark.parametrize("said", [b"", b"\x16", request("/x"), b"\x16\x03\x01\x02\x00" + b"\x01" * 512])
def test_who_does_not_shake_hands_is_cut(engine: Rig, said: bytes) -> None:
    engine.monolith.seen.clear()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", engine.port), timeout=5) as connection:
        connection.sendall(said)
        try:
            while connection.recv(65_536):
                pass
        except ConnectionError:
            pass
    assert time.monotonic() - began < 2
    assert engine.monolith.seen == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not(tmp_path: Path, workers: int) -> None:
    pair = make_pair(tmp_path / "tls", name="first")
    upstream = NamedUpstream("monolith")
    settings = {
        "STRANGLER_UPSTREAM": f"http://127.0.0.1:{upstream.port}",
        "STRANGLER_TLS_CERTIFICATE": str(pair.chain),
        "STRANGLER_TLS_KEY": str(pair.key),
    }
    with RunningProxy(tmp_path, workers=workers, tls=pair.chain, **settings) as proxy:
        proxy.start()
        assert proxy.get("/") == "monolith"
        context = client_context(pair)
        kept = shake_hands(proxy.port, context)
        assert b"HTTP/1.1 200 " in ask(kept)
        assert served_name(proxy.port) == "CN=first"
        make_pair(tmp_path / "tls", name="second")
        until_named(proxy.port, "CN=second")
        assert b"HTTP/1.1 200 " in ask(kept), "what is open stays open"
        kept.close()
        pair.key.write_text("torn")
        time.sleep(1.5)
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert served_name(proxy.port) == "CN=second"
        make_pair(tmp_path / "tls", name="third")
        proxy.process.send_signal(signal.SIGHUP)
        until_named(proxy.port, "CN=third", within_s=3)
        assert proxy.stop() == 0
        events = [json.loads(line)["message"] for line in proxy.log().splitlines()]
        assert events.count("tls.certificate_loaded") >= 2
        assert "tls.certificate_refused" in events
    upstream.close()


def until_named(port: int, name: str, within_s: float = 5.0) -> None:
    """Every process that shares the port has it: many handshakes in a row say so."""
    until = time.monotonic() + within_s
    while True:
        names = {served_name(port) for _ in range(12)}
        if names == {name}:
            return
        assert time.monotonic() < until, names
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"STRANGLER_TLS_CERTIFICATE": "cert.pem"}, "go together"),
        ({"STRANGLER_TLS_KEY": "key.pem"}, "go together"),
        ({"STRANGLER_TLS_CERTIFICATE": "none.pem", "STRANGLER_TLS_KEY": "key.pem"}, "No such file"),
        ({"STRANGLER_TLS_CERTIFICATE": "cert.pem", "STRANGLER_TLS_KEY": "cert.pem"}, "STRANGLER_TLS_CERTIFICATE"),
    ],
)
def test_a_pair_that_does_not_load_stops_the_start(tmp_path: Path, given: dict[str, str], said: str) -> None:
    make_pair(tmp_path)
    settings = {name: str(tmp_path / value) for name, value in given.items()}
    with RunningProxy(tmp_path, STRANGLER_UPSTREAM="http://127.0.0.1:9", **settings) as proxy:
        with pytest.raises(RuntimeError):
            proxy.start()
        assert proxy.process is not None
        assert proxy.process.wait(5) == 2
        assert said in proxy.log()
