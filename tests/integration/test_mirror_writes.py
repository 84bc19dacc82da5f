"""Writes are mirrored only where capturing is proved, and never again where a proof is missing or forged."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import EQUAL
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.shadow_wire import decode_effects
from strangler_proxy.core.stage import Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.mirror_proof import HOLDS_S
from tests.integration.engine_rig import HOLD, Seen, Upstream, fenced, ok, wait_until
from tests.integration.mirror_rig import MirrorRig, capturing, mark, mirroring, prove

ROW = {"kind": "row", "detail": {"table": "payment", "operation": "insert", "values": {"amount": 5}}}
MAIL = {"kind": "mail", "detail": {"to": ["ada@example.org"]}}


@pytest.fixture
def rig() -> Iterator[MirrorRig]:
    with mirroring() as made:
        made.monolith.default = capturing(ROW, MAIL)
        made.extracted.default = capturing(ROW)
        yield made


def prove_by_reading(rig: MirrorRig) -> None:
    count = len(rig.sink)
    assert rig.get("/f/read").status == 200
    assert rig.wait(count + 1)


def test_no_write_is_mirrored_before_a_read_has_proved_that_effects_are_captured(rig: MirrorRig) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
        assert rig.get("/f/x", method=method, body=b"{}").status == 200
    assert rig.wait(5)
    assert rig.sink.drops == {"not_declared_safe": 5}
    assert not rig.extracted.seen
    assert all(mark(seen) is None for seen in rig.monolith.seen), "nobody is asked for effects in vain"
    prove_by_reading(rig)
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(7)
    assert [seen.line.split()[0] for seen in rig.extracted.seen] == [b"GET", b"POST"]


def test_a_read_without_a_proof_or_with_a_forged_one_proves_nothing(rig: MirrorRig) -> None:
    rig.extracted.scripts[b"/f/plain"] = ok()
    rig.extracted.scripts[b"/f/forged"] = capturing(ROW, forged=True)
    rig.get("/f/plain")
    rig.get("/f/forged")
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(3)
    assert rig.sink.drops == {"not_declared_safe": 1}


def test_a_write_reports_its_effects_and_they_ride_to_the_candidate(rig: MirrorRig) -> None:
    prove_by_reading(rig)
    answer = rig.get("/f/x", method="POST", body=b'{"a": 1}')
    assert answer.status == 200
    assert b"x-strangler" not in answer.head.lower()
    assert rig.wait(2)
    ours, theirs = mark(rig.monolith.seen[-1]), mark(rig.extracted.seen[-1])
    assert ours is not None
    assert theirs is not None
    assert (ours.role.value, ours.flag, ours.body_sha256, ours.recorded_sha256) == ("record", "f", "", "")
    assert (theirs.role.value, theirs.flag) == ("mirror", "f")
    assert ours.id != theirs.id
    recorded = [value.decode() for value in rig.extracted.seen[-1].values("x-strangler-recorded")]
    assert decode_effects(recorded) == [ROW, MAIL]
    assert rig.extracted.seen[-1].body == b'{"a": 1}'
    pair = rig.sink.pairs[-1]
    assert (pair.safe, pair.body, pair.candidate.failure) == (False, b'{"a": 1}', None)
    assert decode_effects([pair.control.effects.decode()]) == [ROW, MAIL]
    assert decode_effects([pair.candidate.effects.decode()]) == [ROW]
    assert all(name.lower() != b"x-strangler-shadow" for name, _ in pair.fields)


def test_writes_with_equal_answers_and_equal_effects_are_equal(rig: MirrorRig) -> None:
    rig.monolith.default = capturing(ROW)
    prove_by_reading(rig)
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(2)
    assert rig.sink.fates == {EQUAL: 1, "pair": 1}, "a read's effects are told; a write's are equal"


def test_how_rows_were_before_makes_no_write_different(rig: MirrorRig) -> None:
    """Only the control has rows to be put back; the judge need not look at each write for that."""
    rig.monolith.default = capturing(ROW, undo=[{"table": "payment", "key": 7}])
    prove_by_reading(rig)
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(2)
    assert rig.sink.fates == {EQUAL: 1, "pair": 1}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_either_framing_arrives_whole(rig: MirrorRig, chunked: bool) -> None:
    prove_by_reading(rig)
    with rig.client() as client:
        if chunked:
            client.send(
                b"POST /f/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Last: transfer-encoding\r\n\r\n"
            )
            for part in (b"abc", b"defg" * 5_000):
                client.send(b"%x\r\n%b\r\n" % (len(part), part))
                time.sleep(0.02)
            client.send(b"0\r\n\r\n")
        else:
            client.send(b"POST /f/x HTTP/1.1\r\nHost: a\r\nContent-Length: 20003\r\n\r\nabc")
            time.sleep(0.02)
            client.send(b"defg" * 5_000)
        assert client.answer().status == 200
    assert rig.wait(2)
    assert rig.extracted.seen[-1].body == b"abc" + b"defg" * 5_000
    assert rig.sink.pairs[-1].body == b"abc" + b"defg" * 5_000
    assert rig.mirror.memory.held == 0


@pytest.mark.parametrize("lacking", ["missing", "forged", "of another request"])
def test_a_write_whose_answer_lacks_the_proof_ends_mirroring_of_writes(rig: MirrorRig, lacking: str) -> None:
    stolen: list[bytes] = []

    def replaying(seen: Seen, connection: socket.socket) -> bytes | None:
        answer = capturing(ROW)(seen, connection)
        assert answer is not None
        stolen.append(answer)
        return stolen[0]

    rig.extracted.scripts[b"/f/x"] = {
        "missing": ok(),
        "forged": capturing(ROW, forged=True),
        "of another request": replaying,
    }[lacking]
    prove_by_reading(rig)
    if lacking == "of another request":
        rig.get("/f/x", method="POST", body=b"{}")
        assert rig.wait(2)
    count = len(rig.sink)
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(count + 1)
    assert rig.sink.pairs[-1].candidate.failure is Failure.UNPROVEN
    assert rig.sink.pairs[-1].candidate.effects == b""
    mirrored = len(rig.extracted.seen)
    rig.get("/f/y", method="POST", body=b"{}")
    prove_by_reading(rig)  # too early: a proof counts again after a pause
    rig.get("/f/y", method="POST", body=b"{}")
    assert rig.wait(count + 4)
    assert rig.sink.drops == {"no_proof": 2}
    assert len(rig.extracted.seen) == mirrored + 1
    assert rig.call(rig.state.sick_upstreams) == {"unproven": [f"f 127.0.0.1:{rig.extracted.port}"]}


def test_a_proof_holds_for_a_minute_only(rig: MirrorRig) -> None:
    (endpoint,) = rig.state.table.clusters["extracted"].endpoints
    rig.call(lambda: rig.mirror.proofs.proved("f", endpoint, time.monotonic() - HOLDS_S - 1))
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(1)
    assert rig.sink.drops == {"no_proof": 1}


def test_a_proof_is_of_one_flag(rig: MirrorRig) -> None:
    prove_by_reading(rig)
    rig.get("/plain/x", method="POST", body=b"{}")
    assert rig.wait(2)
    assert rig.sink.drops == {"not_declared_safe": 1}


def test_effects_that_the_control_did_not_prove_go_nowhere(rig: MirrorRig) -> None:
    prove_by_reading(rig)
    rig.monolith.default = capturing(ROW, forged=True)
    rig.get("/f/x", method="POST", body=b"{}")
    assert rig.wait(2)
    assert rig.extracted.seen[-1].values("x-strangler-recorded") == []
    assert rig.sink.pairs[-1].control.effects == b""


def test_a_write_that_met_the_fence_is_compared_with_who_answered_it() -> None:
    with mirroring() as rig:
        prove(rig)
        rig.monolith.default = fenced(2, "extracted")
        rig.extracted.default = capturing(ROW)
        assert rig.get("/f/x", method="POST", body=b"{}").body == b"ok"
        assert wait_until(lambda: len(rig.sink) == 1)
        # The monolith has proved nothing: after the fence it would be the candidate.
        assert rig.sink.drops == {"no_proof": 1} or rig.sink.drops == {"not_declared_safe": 1}
        answered = mark(rig.extracted.seen[0])
        assert answered is not None
        assert answered.role.value == "record"


def test_a_held_write_is_mirrored_after_its_hold() -> None:
    with mirroring(hold=HOLD) as rig:
        rig.monolith.default = rig.extracted.default = capturing(ROW)
        prove(rig)
        with rig.client() as client:
            client.send(b"POST /f/x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            assert wait_until(lambda: rig.state.holding() == {"f": 1})
            client.send(b"def")
            rig.swap(stage=Stage.SHADOW)
            assert client.answer().status == 200
        assert rig.wait(1)
        assert rig.extracted.seen[0].body == b"abcdef"


def test_a_retried_write_asks_for_effects_under_another_id(rig: MirrorRig) -> None:
    prove_by_reading(rig)

    def broken(_: Seen, __: socket.socket) -> None:
        rig.monolith.scripts.clear()

    rig.monolith.scripts[b"/f/x"] = broken
    assert rig.get("/f/x", method="PUT", body=b"{}").status == 200
    assert rig.wait(2)
    ids = [marked.id for seen in rig.monolith.seen if (marked := mark(seen))]
    assert len(ids) == len(set(ids)) == 2
    assert rig.sink.pairs[-1].control.effects


def test_of_several_endpoints_only_those_that_proved_it_get_writes(rig: MirrorRig) -> None:
    older = Upstream("older")
    older.default = ok()
    ports = (rig.extracted.port, older.port)
    both = Cluster(name="extracted", endpoints=tuple(Endpoint(host="127.0.0.1", port=port) for port in ports))
    table = rig.table(stage=Stage.SHADOW)
    rig.call(
        lambda: rig.state.swap(
            RoutingTable.compile(
                revision=table.revision,
                flags=table.flags.values(),
                routes=table.routes,
                clusters=[table.clusters["monolith"], both],
                default_cluster="monolith",
            )
        )
    )
    for _ in range(4):
        prove_by_reading(rig)
    assert len(older.seen) == 2, "reads go to all"
    for _ in range(6):
        count = len(rig.sink)
        rig.get("/f/x", method="POST", body=b"{}")
        assert rig.wait(count + 1)
    assert len(older.seen) == 2
    assert len(rig.extracted.seen) == 2 + 6
    older.stop()
