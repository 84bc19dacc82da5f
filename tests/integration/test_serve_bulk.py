"""Large bodies through a real proxy: memory stays flat, and a slow side slows the other one down.

`STRANGLER_TEST_BULK_BYTES` is the size of a body; `make soak` runs it with 1 GiB.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.running_proxy import RunningProxy

SIZE = int(os.environ.get("STRANGLER_TEST_BULK_BYTES", 100 << 20))
GROWTH = 30 << 20
BLOCK = bytes(range(256)) * 256
pytestmark = pytest.mark.timeout(600)


class Bulk:
    """An upstream: `/down` sends SIZE bytes (chunked with `?chunked`), `/up` answers the digest of what it got."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = self.sent = 0
        self.pause_s = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        with suppress(OSError), connection, reader:
            while line := reader.readline():
                head = b""
                while (field := reader.readline()) != b"\r\n":
                    head += field.lower()
                if b" /down" in line:
                    self._send(connection, chunked=b"?chunked" in line)
                elif b" /up" in line:
                    answer = self._receive(reader, chunked=b"transfer-encoding" in head)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
                else:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _send(self, connection: socket.socket, *, chunked: bool) -> None:
        self.sent = 0
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
        connection.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        for _ in range(SIZE // len(BLOCK)):
            connection.sendall(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
            self.sent += len(BLOCK)
        if chunked:
            connection.sendall(b"0\r\n\r\n")

    def _receive(self, reader, *, chunked: bool) -> bytes:  # type: ignore[no-untyped-def]
        digest, self.received = hashlib.blake2b(), 0
        while True:
            left = int(reader.readline(), 16) if chunked else SIZE
            if left == 0:
                reader.readline()
                return digest.hexdigest().encode()
            while left:
                part = reader.read1(min(left, 1 << 20))
                if not part:
                    raise ConnectionError("ended")
                digest.update(part)
                left -= len(part)
                self.received += len(part)
                time.sleep(self.pause_s)
            if not chunked:
                return digest.hexdigest().encode()
            reader.readline()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Bulk]:
    made = Bulk()
    yield made
    made.close()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, upstream: Bulk) -> Iterator[RunningProxy]:
    settings = {"STRANGLER_UPSTREAM": f"http://127.0.0.1:{upstream.port}", "STRANGLER_TOTAL_TIMEOUT_S": "600"}
    with RunningProxy(tmp_path_factory.mktemp("bulk"), **settings) as running:
        running.start()
        yield running


@pytest.fixture
def grown(proxy: RunningProxy) -> Iterator[list[int]]:
    """Resident bytes above those at the start, looked at twenty times a second; checked at the end."""
    process = proxy.family()[0]
    before, seen, stop = process.memory_info().rss, [0], threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            seen.append(process.memory_info().rss - before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield seen
    stop.set()
    thread.join()
    assert max(seen) < GROWTH, f"{max(seen) >> 20} MiB"


def expected() -> bytes:
    digest = hashlib.blake2b()
    for _ in range(SIZE // len(BLOCK)):
        digest.update(BLOCK)
    return digest.hexdigest().encode()


def connected(proxy: RunningProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


@pytest.mark.parametrize("query", ["", "?chunked"])
def test_a_large_download_arrives_whole_in_flat_memory(proxy: RunningProxy, grown: list[int], query: str) -> None:
    with connected(proxy) as client, client.makefile("rb") as reader:
        client.sendall(b"GET /down%b HTTP/1.1\r\nHost: x\r\n\r\n" % query.encode())
        while reader.readline() != b"\r\n":
            pass
        digest, total = hashlib.blake2b(), 0
        while total < SIZE:
            left = int(reader.readline(), 16) if query else SIZE
            total += left
            while left:
                part = reader.read1(min(left, 1 << 20))
                assert part
                digest.update(part)
                left -= len(part)
            if query:
                reader.readline()
        assert digest.hexdigest().encode() == expected()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_arrives_whole_in_flat_memory(proxy: RunningProxy, grown: list[int], chunked: bool) -> None:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
    with connected(proxy) as client, client.makefile("rb") as reader:
        client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % framing)
        for _ in range(SIZE // len(BLOCK)):
            client.sendall(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
        if chunked:
            client.sendall(b"0\r\n\r\n")
        while reader.readline() != b"\r\n":
            pass
        assert reader.read(128) == expected()


def test_a_client_that_does_not_read_stops_the_upstream(proxy: RunningProxy, upstream: Bulk, grown: list[int]) -> None:
    with connected(proxy) as client:
        client.sendall(b"GET /down HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.7)
        first = upstream.sent
        time.sleep(0.5)
        assert upstream.sent == first
        assert first < SIZE / 3


def test_an_upstream_that_reads_slowly_slows_the_client(proxy: RunningProxy, upstream: Bulk, grown: list[int]) -> None:
    upstream.pause_s = 0.05
    sent = 0
    try:
        with connected(proxy) as client:
            client.settimeout(0.3)
            client.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
            until = time.monotonic() + 1.5
            while time.monotonic() < until and sent < SIZE:
                with suppress(TimeoutError):
                    sent += client.send(BLOCK)
    finally:
        upstream.pause_s = 0.0
    assert 0 < sent < SIZE * 0.8


def test_many_slow_readers_of_large_answers_cost_little_and_others_are_served(
    proxy: RunningProxy, grown: list[int]
) -> None:
    clients = [connected(proxy) for _ in range(40)]
    try:
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.sendall(b"GET /down HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.5)
        seconds = []
        with connected(proxy) as other:
            for _ in range(20):
                began = time.monotonic()
                other.sendall(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 200 " in other.recv(4_096)
                seconds.append(time.monotonic() - began)
                for client in clients:
                    client.recv(1_024)
        assert sorted(seconds)[10] < 0.25
    finally:
        for client in clients:
            client.close()
