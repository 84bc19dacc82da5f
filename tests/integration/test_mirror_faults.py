"""The mirror is never in the way: whatever a candidate does, clients get their answers, and everything is counted."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import EQUAL
from tests.integration.engine_rig import Script, Seen, asleep, ok, wait_until
from tests.integration.mirror_rig import MirrorRig, mirroring, prove

MB = 1 << 20
NEVER_OPENS = BreakerPolicy(failures=0)


def dribble(_: Seen, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.02)


def reset(_: Seen, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut_off(_: Seen, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")


def endless(sent: list[int], head: bytes, part: bytes) -> Script:
    """Send up to a gigabyte; `sent` counts what got away."""

    def script(_: Seen, connection: socket.socket) -> None:
        connection.sendall(head)
        try:
            for _ in range((1 << 30) // len(part)):
                connection.sendall(part)
                sent[0] += len(part)
        except OSError:
            return

    return script


CHUNK = b"x" * 65_536
FAULTS: dict[str, tuple[Callable[[list[int]], bytes | Script], Failure]] = {
    "hangs": (lambda _: asleep(3.0), Failure.TIMEOUT),
    "dribbles": (lambda _: dribble, Failure.TIMEOUT),
    "resets": (lambda _: reset, Failure.RESET),
    "cuts off": (lambda _: cut_off, Failure.RESET),
    "no HTTP": (lambda _: b"SSH-2.0-OpenSSH_9.2\r\n", Failure.GARBAGE),
    "two lengths": (lambda _: ok(fields=b"Content-Length: 7\r\n"), Failure.GARBAGE),
    "a 101 nobody asked for": (lambda _: b"HTTP/1.1 101 Switching\r\n\r\n", Failure.GARBAGE),
    "endless head": (lambda sent: endless(sent, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1_000), Failure.GARBAGE),
    "1 GB": (
        lambda sent: endless(sent, b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", CHUNK),
        Failure.TOO_LARGE,
    ),
    "1 GB in chunks": (
        lambda sent: endless(
            sent, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + CHUNK + b"\r\n"
        ),
        Failure.TOO_LARGE,
    ),
    "1 GB until the end": (lambda sent: endless(sent, b"HTTP/1.0 200 OK\r\n\r\n", CHUNK), Failure.TOO_LARGE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sick_candidate_is_a_failure_and_touches_nobody(fault: str) -> None:
    make, failure = FAULTS[fault]
    sent = [0]
    with mirroring(bounds={"deadline_s": 0.4, "breaker": NEVER_OPENS}) as rig:
        rig.monolith.default = ok(b"authoritative")
        rig.extracted.default = make(sent)
        with rig.client() as client:
            for _ in range(5):
                began = time.monotonic()
                assert client.get("/f/x").body == b"authoritative"
                assert time.monotonic() - began < 2.0
        assert rig.wait(5)
        assert [pair.candidate.failure for pair in rig.sink.pairs] == [failure] * 5
        assert rig.mirror.memory.held == 0
        assert rig.mirror.memory.peak < 8 * MB
        assert sent[0] < 60 * MB, "reading stopped"


def test_a_candidate_that_is_down_is_left_alone_and_tried_again() -> None:
    quick = BreakerPolicy(failures=3, share=50, window_s=2.0, open_s=0.3, trials=1)
    with mirroring(bounds={"breaker": quick}) as rig:
        rig.monolith.default = rig.extracted.default = ok(b"same")
        port = rig.extracted.port
        rig.extracted.stop()
        with rig.client() as client:
            for n in range(20):
                assert client.get("/f/x").body == b"same"
                assert rig.wait(n + 1)
        fates = rig.sink.fates
        assert set(fates) == {"pair", "candidate_down"}
        assert {pair.candidate.failure for pair in rig.sink.pairs} == {Failure.REFUSED}
        rig.call(rig.engine.publish)
        assert 'strangler_mirror_paused{cluster="extracted"} 1' in rig.metrics.render()
        with socket.create_server(("127.0.0.1", port)) as server:
            threading.Thread(target=serve_same, args=(server,), daemon=True).start()
            with rig.client() as client:
                assert wait_until(lambda: client.get("/f/x").status == 200 and rig.sink.fates[EQUAL] > 3, 5.0)


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    with mirroring() as rig:
        rig.monolith.default = ok(b"same")

        used: set[int] = set()

        def once(seen: Seen, _: socket.socket) -> bytes | None:
            if seen.connection in used:
                return None
            used.add(seen.connection)
            return ok(b"same")

        rig.extracted.default = once
        with rig.client() as client:
            for n in range(10):
                client.get("/f/x")
                assert rig.wait(n + 1)
        assert rig.sink.fates == {EQUAL: 10}


def test_a_full_queue_drops_and_counts() -> None:
    with mirroring(bounds={"connection_limit": 1, "queue_limit": 3, "deadline_s": 0.5}) as rig:
        rig.extracted.default = asleep(1.0)
        with rig.client() as client:
            for _ in range(12):
                assert client.get("/f/x").status == 200
        assert wait_until(lambda: len(rig.sink) == 12)
        assert rig.sink.drops["queue_full"] == 8
        assert rig.sink.drops["too_long"] + len(rig.sink.pairs) == 4


def test_memory_has_a_bound_and_what_does_not_fit_is_counted() -> None:
    limit = 4 * MB
    with mirroring(bounds={"memory_bytes": limit, "connection_limit": 2, "deadline_s": 1.0}) as rig:
        rig.monolith.default = ok(b"x" * (MB - 1000))
        rig.extracted.default = asleep(2.0)
        peaks = []
        with rig.client() as client:
            for _ in range(20):
                assert len(client.get("/f/x").body) == MB - 1000
                peaks.append(rig.mirror.memory.held)
        assert max(peaks) <= limit
        assert wait_until(lambda: len(rig.sink) == 20)
        assert rig.sink.drops["memory_full"] >= 15
        assert wait_until(lambda: rig.mirror.memory.held == 0)
        assert rig.mirror.memory.peak <= limit


def test_answers_of_a_candidate_count_against_the_same_memory() -> None:
    def slowly(_: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900_000)
        time.sleep(0.5)

    with mirroring(bounds={"memory_bytes": 2 * MB, "deadline_s": 0.3, "breaker": NEVER_OPENS}) as rig:
        rig.extracted.default = slowly
        with rig.client() as client:
            for _ in range(8):
                client.get("/f/x")
        assert wait_until(lambda: len(rig.sink) == 8)
        assert rig.mirror.memory.peak <= 2 * MB
        assert rig.sink.drops["memory_full"] > 0
        assert rig.mirror.memory.held == 0


def test_large_answers_and_bodies_are_passed_on_whole_and_not_kept() -> None:
    with mirroring(bounds={"answer_bytes": 10_000, "body_bytes": 10_000}) as rig:
        prove(rig)
        rig.monolith.scripts[b"/f/sized"] = ok(b"x" * 50_000)
        rig.monolith.scripts[b"/f/chunked"] = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(20))
            + b"0\r\n\r\n"
        )
        with rig.client() as client:
            assert len(client.get("/f/sized").body) == 50_000
            assert len(client.get("/f/chunked").body) == 20 * 4096
            assert client.get("/f/body", method="PUT", body=b"y" * 20_000).body.endswith(b"y" * 20_000)
            chunks = b"".join(b"1000\r\n" + b"z" * 4096 + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
            client.send(b"PUT /f/chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
            assert client.answer().body.endswith(b"z" * 20_480)
        assert rig.wait(4)
        assert rig.sink.drops == {"answer_too_large": 2, "body_too_large": 2}
        assert not rig.extracted.seen
        assert rig.mirror.memory.held == 0


def test_every_request_is_told_exactly_once_in_all_weathers() -> None:
    with mirroring(mirror_sample=8_000, bounds={"deadline_s": 0.3, "connection_limit": 4, "queue_limit": 20}) as rig:
        turn = iter(range(1_000_000))
        weathers: list[bytes | Script] = [ok(b"same"), ok(b"other"), asleep(0.5), reset, cut_off, b"no HTTP\r\n"]

        def weather(seen: Seen, connection: socket.socket) -> bytes | None:
            script = weathers[next(turn) % len(weathers)]
            return script(seen, connection) if callable(script) else script

        rig.monolith.default = ok(b"same")
        rig.extracted.default = weather
        total = 6 * 40
        failures: list[object] = []

        def drive() -> None:
            with rig.client() as client:
                for n in range(40):
                    body = b"{}" if n % 10 == 0 else b""
                    answer = client.get("/f/x", method="POST" if body else "GET", body=body)
                    if answer.body != b"same":
                        failures.append(answer)

        threads = [threading.Thread(target=drive) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not failures
        assert wait_until(lambda: len(rig.sink) == total, 10.0)
        time.sleep(0.2)
        assert len(rig.sink) == total
        assert rig.call(lambda: sum(rig.mirror.tally.values())) == total
        assert Counter(rig.sink.fates) == Counter({fate: n for (_, fate), n in rig.mirror.tally.items()})
        assert rig.mirror.memory.held == 0


def test_leaving_drops_what_waits_and_counts_it(rig_of_a_slow_candidate: MirrorRig) -> None:
    rig = rig_of_a_slow_candidate
    with rig.client() as client:
        for _ in range(5):
            client.get("/f/x")
    rig.drain(0.0)
    assert len(rig.sink) == 5
    assert rig.sink.fates == {"stopped": 5}, "a candidate is not to blame for our leaving"
    assert rig.mirror.memory.held == 0


@pytest.fixture
def rig_of_a_slow_candidate() -> object:
    with mirroring(bounds={"connection_limit": 1, "deadline_s": 5.0}) as rig:
        rig.extracted.default = asleep(1.0)
        yield rig


def serve_same(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer_same, args=(connection,), daemon=True).start()


def answer_same(connection: socket.socket) -> None:
    with connection:
        while connection.recv(65_536):
            connection.sendall(ok(b"same"))
