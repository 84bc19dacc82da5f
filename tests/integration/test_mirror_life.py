"""What becomes of a copy whose request does not go the usual way; and asking once more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Side
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.stage import Stage
from strangler_proxy.core.table import RoutingTable
from tests.integration.engine_rig import HOLD, asleep, ok, request, wait_until
from tests.integration.mirror_rig import MirrorRig, mark, mirroring, prove


@pytest.fixture
def rig() -> Iterator[MirrorRig]:
    with mirroring() as made:
        yield made


def test_an_upgrade_is_dropped_and_counted(rig: MirrorRig) -> None:
    rig.monolith.scripts[b"/f/ws"] = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    with rig.client() as client:
        client.send(request("/f/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        assert b"101" in client.socket.recv(1000)
        assert rig.wait(1)
    assert rig.sink.fates == {"upgrade": 1}
    assert not rig.extracted.seen


def test_the_kill_switch_stops_copies_too(rig: MirrorRig) -> None:
    rig.call(lambda: rig.state.set_killed(frozenset({"f"})))
    assert rig.get("/f/x").status == 200
    rig.get("/plain/x")
    assert rig.wait(2)
    assert rig.sink.drops == {"killed": 1}
    assert rig.extracted.targets == [b"/plain/x"]


def test_a_stage_that_stops_mirroring_meanwhile_is_counted() -> None:
    with mirroring(hold=HOLD, bounds={}) as rig, rig.client() as client:
        prove(rig)
        client.send(request("/f/x", method="POST", body=b"{}"))
        assert wait_until(lambda: rig.state.holding() == {"f": 1})
        rig.swap(stage=Stage.MONOLITH)
        assert client.answer().status == 200
        assert wait_until(lambda: rig.sink.drops == {"stage_changed": 1})


def test_a_client_that_leaves_and_a_control_that_breaks_are_counted(rig: MirrorRig) -> None:
    rig.monolith.scripts[b"/f/slow"] = asleep(0.5)
    rig.monolith.scripts[b"/f/broken"] = lambda _, c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    with rig.client() as client:
        client.send(request("/f/slow"))
        assert wait_until(lambda: b"/f/slow" in rig.monolith.targets)
    with rig.client() as client, pytest.raises(ConnectionError):
        client.get("/f/broken")
    assert rig.wait(2)
    assert rig.sink.drops == {"client_left": 1, "no_answer": 1}
    assert rig.mirror.memory.held == 0


def test_an_answer_before_the_whole_request_is_not_compared(rig: MirrorRig) -> None:
    prove(rig)
    rig.monolith.scripts[b"/f/early"] = lambda _, c: c.sendall(ok(b"no more"))
    before = len(rig.sink)
    with socket.create_server(("127.0.0.1", 0)) as server:
        early = Cluster(name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=server.getsockname()[1]),))
        threading.Thread(target=answer_early, args=(server,), daemon=True).start()
        rig.call(lambda: rig.state.swap(with_cluster(rig, early)))
        with rig.client() as client:
            client.send(b"POST /f/early HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
            assert client.answer().status == 413
    assert rig.wait(before + 1)
    assert rig.sink.drops == {"early_answer": 1}


def test_a_fault_of_the_mirror_itself_is_nothing_to_the_client(rig: MirrorRig) -> None:
    class Broken:
        @property
        def exact(self) -> bool:
            raise RuntimeError("exact")

        def note(self, _: object) -> None:
            raise RuntimeError("note")

        def take(self, _: object) -> None:
            raise RuntimeError("take")

    rig.mirror.sink = Broken()
    with rig.client() as client:
        for target in ("/f/x", "/f/y"):
            assert client.get(target).status == 200
            assert client.get(target, method="POST", body=b"{}").status == 200
        rig.mirror.targets.find = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
        assert client.get("/f/x").status == 200
    assert wait_until(lambda: rig.mirror.faults >= 5)
    assert wait_until(lambda: rig.mirror.memory.held == 0)


def test_a_chunked_request_without_a_body_is_whole(rig: MirrorRig) -> None:
    with rig.client() as client:
        client.send(b"GET /f/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert client.answer().status == 200
    assert rig.wait(1)
    assert rig.sink.pairs[0].candidate.failure is None


def test_event_streams_are_passed_on_and_not_kept(rig: MirrorRig) -> None:
    def stream(_: object, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for n in range(3):
            connection.sendall(b"data: %d\n\n" % n)

    rig.monolith.default = stream
    assert rig.get("/f/events").body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert rig.wait(1)
    assert rig.sink.drops == {"too_long": 1}
    assert not rig.extracted.seen


def test_an_answer_that_takes_too_long_is_let_go() -> None:
    with mirroring(bounds={"answer_s": 0.1}) as rig:
        rig.monolith.default = asleep(0.4, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        with rig.client() as client:
            client.send(request("/f/x"))
            assert wait_until(lambda: rig.mirror.memory.peak > 0)
            assert wait_until(lambda: rig.mirror.memory.held == 0)
        assert rig.wait(1)
        assert rig.extracted.seen == []


def test_a_control_that_takes_longer_than_copies_may_is_not_held_against_the_candidate() -> None:
    with mirroring(bounds={"deadline_s": 0.1}) as rig:
        rig.monolith.default = asleep(0.3)
        assert rig.get("/f/x").status == 200
        assert rig.wait(1)
        assert rig.sink.drops == {"too_long": 1}


def test_asking_again_asks_the_control_as_the_client_did_and_the_candidate_marked(rig: MirrorRig) -> None:
    rig.get("/f/x?a=1", "Cookie: sessionid=s\r\n")
    assert rig.wait(1)
    (pair,) = rig.sink.pairs
    again = rig.ask(pair, Side.CONTROL)
    assert (again.status, again.body, again.failure) == (200, b"monolith|/f/x?a=1|", None)
    assert rig.monolith.seen[0].head == rig.monolith.seen[1].head
    again = rig.ask(pair, Side.CANDIDATE)
    assert again.body == b"extracted|/f/x?a=1|"
    marked = mark(rig.extracted.seen[1])
    assert marked is not None
    assert marked.id != pair.id
    assert len(rig.sink) == 1, "asking is no request of a client"
    assert rig.mirror.asks == {Side.CONTROL: 1, Side.CANDIDATE: 1}


def test_only_safe_requests_are_asked_again(rig: MirrorRig) -> None:
    rig.get("/f/x")
    assert rig.wait(1)
    (pair,) = rig.sink.pairs
    for unsafe in (replace(pair, safe=False), replace(pair, method="POST")):
        with pytest.raises(ValueError, match="not safe"):
            rig.ask(unsafe, Side.CONTROL)


def test_asking_a_side_that_is_gone_says_so(rig: MirrorRig) -> None:
    rig.get("/f/x")
    assert rig.wait(1)
    rig.extracted.stop()
    assert rig.ask(rig.sink.pairs[0], Side.CANDIDATE).failure in (Failure.REFUSED, Failure.RESET)
    assert rig.get("/f/x").status == 200


def test_numbers_of_the_mirror_are_in_the_metrics(rig: MirrorRig) -> None:
    rig.monolith.default = rig.extracted.default = ok(b"same")
    rig.get("/f/x")
    rig.get("/f/x", method="POST", body=b"x")
    assert rig.wait(2)
    rig.call(rig.engine.publish)
    text = rig.metrics.render()
    assert 'strangler_mirror_eligible_total{flag="f"} 2' in text
    assert 'strangler_mirror_requests_total{flag="f",outcome="equal"} 1' in text
    assert 'strangler_mirror_dropped_total{flag="f",reason="not_declared_safe"} 1' in text
    assert "strangler_mirror_held_bytes 0" in text


def answer_early(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        connection.recv(1)


def with_cluster(rig: MirrorRig, cluster: Cluster) -> RoutingTable:
    table = rig.table(stage=Stage.SHADOW)
    return RoutingTable.compile(
        revision=table.revision,
        flags=table.flags.values(),
        routes=table.routes,
        clusters=[cluster, table.clusters["extracted"]],
        default_cluster="monolith",
    )
