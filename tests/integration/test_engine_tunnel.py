"""WebSockets: a real handshake and real frames, over raw sockets on both ends; and upgrades that are none."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.forward.metrics import OPEN_TUNNELS, TUNNELS
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Client, Rig, Seen, ok, request, rig, values, wait_until

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
OPTIONS = Options(sweep_s=0.02, tunnel_idle_s=0.5, tunnel_limit=3)
UPGRADE = (
    "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n"
)


def frame(opcode: int, payload: bytes, *, masked: bool = False) -> bytes:
    """One final frame (RFC 6455 5.2)."""
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("ended")
        data += part
    return data


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    first, second = read_exactly(connection, 2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(read_exactly(connection, 2), "big")
    elif size == 127:
        size = int.from_bytes(read_exactly(connection, 8), "big")
    mask = read_exactly(connection, 4) if second & 0x80 else b"\0\0\0\0"
    payload = read_exactly(connection, size)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if any(mask) else payload


def accept(seen: Seen) -> bytes:
    key = seen.values("sec-websocket-key")[0]
    digest = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSet-Cookie: a=1\r\n\r\n" % digest
    )


def echo(seen: Seen, connection: socket.socket) -> None:
    """A server that says hello in the same write as its 101, answers pings, echoes texts, and closes when told to."""
    connection.sendall(accept(seen) + frame(TEXT, b"hello"))
    connection.settimeout(5)
    while True:
        opcode, payload = read_frame(connection)
        connection.sendall(frame(PONG if opcode == PING else opcode, payload))
        if opcode == CLOSE:
            return


@pytest.fixture
def engine() -> Iterator[Rig]:
    with rig(OPTIONS) as made:
        made.monolith.scripts[b"/ws"] = echo
        yield made


def opened(client: Client, key: bytes = b"") -> bytes:
    """Shake hands; the head of the 101. The client's socket is to be used from then on."""
    key = key or base64.b64encode(os.urandom(16))
    client.send(request("/ws", UPGRADE.format(key.decode())))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.socket.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    wanted = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    assert values(head, "sec-websocket-accept") == [wanted]
    return head


def open_now(engine: Rig) -> float:
    engine.call(engine.engine.publish)
    return engine.metrics.gauges[OPEN_TUNNELS, ()]


def test_frames_go_both_ways_and_the_tunnel_is_counted(engine: Rig) -> None:
    with engine.client() as client:
        head = opened(client)
        assert values(head, "upgrade") == [b"websocket"]
        assert values(head, "connection") == [b"Upgrade"]
        assert values(head, "set-cookie") == [b"a=1"]
        assert values(head, "via") == [b"1.1 strangler-proxy"]
        assert read_frame(client.socket) == (TEXT, b"hello")
        for payload in (b"", b"x", b"y" * 70_000):
            client.send(frame(TEXT, payload, masked=True))
            assert read_frame(client.socket) == (TEXT, payload)
        client.send(frame(PING, b"p", masked=True))
        assert read_frame(client.socket) == (PONG, b"p")
        assert open_now(engine) == 1
        client.send(frame(CLOSE, b"\x03\xe8", masked=True))
        assert read_frame(client.socket) == (CLOSE, b"\x03\xe8")
        assert client.socket.recv(1) == b""
    assert wait_until(lambda: open_now(engine) == 0)
    assert engine.metrics.value(TUNNELS) == 1
    (seen,) = engine.monolith.seen
    assert seen.values("connection") == [b"Upgrade"]
    assert seen.values("upgrade") == [b"websocket"]
    assert seen.values("x-forwarded-for") == [b"127.0.0.1"]


def test_what_is_sent_before_the_101_arrives_behind_it(engine: Rig) -> None:
    def slow(seen: Seen, connection: socket.socket) -> None:
        time.sleep(0.1)
        echo(seen, connection)

    engine.monolith.scripts[b"/ws"] = slow
    with engine.client() as client:
        early = frame(TEXT, b"early" * 1000, masked=True)
        client.send(request("/ws", UPGRADE.format("AAAAAAAAAAAAAAAAAAAAAA==")) + early[:100])
        client.send(early[100:])
        client._head()
        reader = client._reader
        assert reader.read(7) == frame(TEXT, b"hello")
        assert reader.read(4 + 5000)[4:] == b"early" * 1000
    assert len(engine.monolith.seen) == 1


def test_an_upgrade_that_the_upstream_does_not_take_goes_on_as_http(engine: Rig) -> None:
    engine.monolith.scripts[b"/ws"] = ok(b"no")
    with engine.client() as client:
        client.send(request("/ws", UPGRADE.format("x")) + request("/next") * 3)
        assert client.answer().body == b"no"
        for _ in range(3):
            assert client.answer().body == b"monolith|/next|"
        assert client.get("/more").status == 200
    assert engine.monolith.targets == [b"/ws", b"/next", b"/next", b"/next", b"/more"]
    assert open_now(engine) == 0


def test_a_whole_read_of_upgrades_that_are_none_is_answered_one_by_one(engine: Rig) -> None:
    engine.monolith.scripts[b"/ws"] = ok(b"no")
    looped = request("/x", "Connection: Upgrade\r\nUpgrade: h2c\r\nVia: 1.1 strangler-proxy\r\n")
    with engine.client() as client:
        client.send(looped * 400 + request("/ws", UPGRADE.format("x")) * 20)
        assert [client.answer().status for _ in range(420)] == [508] * 400 + [200] * 20
        assert client.get("/more").status == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_a_101_that_was_not_agreed_on_is_a_502(engine: Rig, answer: bytes) -> None:
    engine.monolith.scripts[b"/ws"] = answer
    assert engine.get("/ws", UPGRADE.format("x")).status == 502


@pytest.mark.parametrize(
    "raw",
    [
        request("/x", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        request("/x", "Upgrade: websocket\r\n"),
        request("/x", UPGRADE.format("x"), "POST", b"abc"),
        b"GET /x HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_other_upgrades_are_dropped(engine: Rig, raw: bytes) -> None:
    with engine.client() as client:
        client.send(raw)
        assert client.answer().status == 200
    assert engine.monolith.seen[0].values("upgrade") == []


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


@pytest.mark.parametrize("parts", [1, 2, 40])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("behind", [b"", request("/first")])
def test_the_body_of_an_upgrade_is_never_read_as_a_request(
    engine: Rig, chunked: bool, parts: int, behind: bytes
) -> None:
    if chunked:
        body = b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
        head = request("/x", H2C + "Transfer-Encoding: chunked\r\n", "PATCH")
        raw = head.replace(b"Content-Length: 0\r\n", b"") + body
    else:
        raw = request("/x", H2C, "POST", SMUGGLED)
    raw = behind + raw + (request("/after") if parts == 1 else b"")
    with engine.client() as client:
        for at in range(0, len(raw), size := -(-len(raw) // parts)):
            client.send(raw[at : at + size])
            time.sleep(0.002)
        if behind:
            assert client.answer().status == 200
        answer = client.answer()
        assert answer.body == b"monolith|/x|" + SMUGGLED
        assert answer.values("connection") == [b"close"]
        assert client.is_closed()
    assert engine.monolith.targets == ([b"/first"] if behind else []) + [b"/x"]


def test_a_broken_body_of_an_upgrade_is_400(engine: Rig) -> None:
    with engine.client() as client:
        client.send(b"POST /x HTTP/1.1\r\nHost: h\r\n" + H2C.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert client.answer().status == 400
        assert client.is_closed()


def test_a_slow_reader_of_frames_slows_the_sender(engine: Rig) -> None:
    sent = 0

    def pour(seen: Seen, connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(accept(seen))
        part = frame(TEXT, b"z" * 65_000)
        connection.settimeout(0.3)
        try:
            for _ in range(2_000):
                connection.sendall(part)
                sent += len(part)
        except TimeoutError:
            pass

    engine.monolith.scripts[b"/ws"] = pour
    with engine.client() as client:
        opened(client)
        assert wait_until(lambda: sent > 0)
        time.sleep(0.6)
        assert sent < 30_000_000, "130 MB would have been taken in without backpressure"


def test_a_silent_tunnel_is_closed_and_one_that_speaks_is_not(engine: Rig) -> None:
    with engine.client() as silent, engine.client() as speaking:
        for client in (silent, speaking):
            opened(client)
            read_frame(client.socket)
        for _ in range(5):
            time.sleep(0.2)
            speaking.send(frame(PING, b"", masked=True))
            assert read_frame(speaking.socket) == (PONG, b"")
        assert silent.is_closed()
        assert wait_until(lambda: open_now(engine) == 1)


def test_each_side_may_stop_sending_and_still_be_told_the_rest(engine: Rig) -> None:
    ended = threading.Event()

    def count(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(accept(seen))
        received = 0
        while part := connection.recv(65_536):
            received += len(part)
        ended.set()
        connection.sendall(b"%d" % received)

    engine.monolith.scripts[b"/ws"] = count
    with engine.client() as client:
        opened(client)
        client.send(b"a" * 100_000)
        client.socket.shutdown(socket.SHUT_WR)
        assert ended.wait(3)
        assert client.socket.recv(100) == b"100000"
        assert client.socket.recv(1) == b""
    assert wait_until(lambda: open_now(engine) == 0)


def test_a_client_that_breaks_off_breaks_the_upstream(engine: Rig) -> None:
    left = threading.Event()

    def wait(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(accept(seen))
        try:
            if connection.recv(1) == b"":
                left.set()
        except ConnectionError:
            left.set()

    engine.monolith.scripts[b"/ws"] = wait
    with engine.client() as client:
        opened(client)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    assert left.wait(3)
    assert wait_until(lambda: open_now(engine) == 0)


def test_more_tunnels_than_allowed_are_503_and_take_no_connection_from_requests(engine: Rig) -> None:
    clients = [engine.client() for _ in range(3)]
    for client in clients:
        opened(client)
    assert engine.get("/ws", UPGRADE.format("x")).status == 503
    assert engine.get("/x").status == 200
    for client in clients:
        client.close()
    assert wait_until(lambda: open_now(engine) == 0)
    with engine.client() as client:
        opened(client)


def test_a_tunnel_lasts_as_long_as_the_drain(engine: Rig) -> None:
    with engine.client() as client:
        opened(client)
        read_frame(client.socket)
        drained = threading.Thread(target=engine.drain, args=(0.4,))
        drained.start()
        client.send(frame(PING, b"", masked=True))
        assert read_frame(client.socket) == (PONG, b"")
        drained.join(3)
        assert client.is_closed()
