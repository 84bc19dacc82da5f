"""Bytes behind an answer on a kept upstream connection: they poison no later answer, the connection is dropped."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import Rig, Script, Seen, ok, rig, wait_until

EVIL = ok(b"evil", b"X-Evil: 1\r\n")
LATE = [
    pytest.param(EVIL, id="an answer"),
    pytest.param(EVIL * 3, id="three answers"),
    pytest.param(EVIL[:20], id="half an answer"),
    pytest.param(b"H", id="one byte"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="an interim answer"),
    pytest.param(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", id="a 408 of an impatient server"),
    pytest.param(b"\0\0\0\0", id="zeros"),
    pytest.param(b"evil", id="more of the body"),
]


@pytest.fixture
def engine() -> Iterator[Rig]:
    with rig(Options(sweep_s=0.02, upstream_keep_alive_s=60.0)) as made:
        yield made


def late(part: bytes, pause_s: float) -> Script:
    """A good answer, and `part` behind it after a pause; the connection stays."""

    def script(_: Seen, connection: socket.socket) -> bytes:
        if not pause_s:
            return ok(b"first") + part
        connection.sendall(ok(b"first"))
        time.sleep(pause_s)
        return part

    return script


def check_next(engine: Rig, used: int) -> None:
    """The next two requests get what is theirs, on a connection that has carried nothing else."""
    for target in ("/second", "/third"):
        answer = engine.get(target)
        assert (answer.status, answer.body) == (200, f"monolith|{target}|".encode())
        assert answer.values("x-evil") == []
        assert engine.monolith.seen[-1].connection > used


@pytest.mark.parametrize("pause_s", [0.0, 0.1], ids=["at once", "later"])
@pytest.mark.parametrize("part", LATE)
def test_it_is_nobodys_answer_and_the_connection_is_dropped(engine: Rig, part: bytes, pause_s: float) -> None:
    engine.monolith.scripts[b"/first"] = late(part, pause_s)
    assert engine.get("/first").body == b"first"
    used = engine.monolith.connections
    if pause_s:
        time.sleep(pause_s)
    assert engine.monolith.left.wait(3), "the upstream's end of the connection is closed"
    check_next(engine, used)


@pytest.mark.parametrize("pause_s", [0.0, 0.1], ids=["at once", "later"])
def test_the_same_behind_an_answer_whose_head_came_before(engine: Rig, pause_s: float) -> None:
    engine.monolith.scripts[b"/first"] = ok(b"first")
    for _ in range(4):
        assert engine.get("/first").body == b"first"
    assert {seen.connection for seen in engine.monolith.seen} == {1}, "a good connection is kept"
    engine.monolith.scripts[b"/first"] = late(EVIL, pause_s)
    assert engine.get("/first").body == b"first"
    assert engine.monolith.left.wait(3)
    check_next(engine, 1)


def test_behind_an_answer_to_head(engine: Rig) -> None:
    engine.monolith.scripts[b"/first"] = ok(b"body") + EVIL
    assert engine.get("/first", method="HEAD").body == b""
    assert engine.monolith.left.wait(3)
    check_next(engine, 1)


def test_who_waits_for_the_connection_does_not_get_it() -> None:
    """The only connection comes back with more than its answer, while another request waits for one."""
    with rig(Options(sweep_s=0.02, pool_limit=1)) as engine:

        def slow(_: Seen, connection: socket.socket) -> bytes:
            time.sleep(0.3)
            return ok(b"first") + EVIL

        engine.monolith.scripts[b"/first"] = slow
        first: list[bytes] = []
        thread = threading.Thread(target=lambda: first.append(engine.get("/first").body))
        thread.start()
        assert wait_until(lambda: len(engine.monolith.seen) == 1)
        answer = engine.get("/second")
        thread.join(5)
        assert first == [b"first"]
        assert answer.body == b"monolith|/second|"
        assert [seen.connection for seen in engine.monolith.seen] == [1, 2]
