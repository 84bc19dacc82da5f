"""What a cutover looks like from the proxy: requests are held in order, and one that meets the fence is replayed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import HOLD, Answer, Client, Rig, Seen, fenced, ok, request, rig, wait_until

OPTIONS = Options(sweep_s=0.02, hold_limit=5, hold_timeout_s=1.0, replay_body_bytes=65_536, linger_s=0.2)


@pytest.fixture
def engine() -> Iterator[Rig]:
    with rig(OPTIONS, stage=Stage.CANARY, weight=0, owner_epoch=3) as made:
        yield made


def holding(engine: Rig) -> int:
    return engine.call(engine.state.holding).get("f", 0)


def post(number: int = 0, body: bytes = b"{}") -> bytes:
    return request(f"/f/{number}", method="POST", body=body)


def side(answer: Answer) -> str:
    return answer.body.partition(b"|")[0].decode()


class TestHold:
    """While a flag has a hold, its unsafe requests wait."""

    def test_they_wait_in_order_and_go_to_the_owner_that_the_new_table_names(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
        clients: list[Client] = []
        for number in range(5):
            clients.append(engine.client())
            clients[-1].send(post(number, b"n" * number))
            assert wait_until(lambda n=number: holding(engine) == n + 1)  # type: ignore[misc]
        assert engine.get("/f/read").status == 200
        assert [seen.line for seen in engine.monolith.seen] == [b"GET /f/read HTTP/1.1"]
        engine.extracted.default = lambda seen, _: (time.sleep(0.01), ok(b"extracted|" + seen.body))[1]
        engine.swap(stage=Stage.EXTRACTED, owner_epoch=4)
        for number, client in enumerate(clients):
            assert client.answer().body == b"extracted|" + b"n" * number
            client.close()
        assert sorted(engine.extracted.targets) == [b"/f/%d" % n for n in range(5)]
        assert holding(engine) == 0

    def test_they_are_released_first_in_first_out(self) -> None:
        options = Options(sweep_s=0.02, pool_limit=1)
        with rig(options, stage=Stage.CANARY, owner_epoch=3, hold=HOLD) as engine:
            clients = []
            for number in range(20):
                clients.append(engine.client())
                clients[-1].send(post(number))
                assert wait_until(lambda n=number: holding(engine) == n + 1)  # type: ignore[misc]
            engine.swap(stage=Stage.CANARY, owner_epoch=5)
            for client in clients:
                assert side(client.answer()) == "monolith"
                client.close()
            assert engine.monolith.targets == [b"/f/%d" % n for n in range(20)]

    def test_one_too_many_is_told_to_come_again(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
        clients = [engine.client() for _ in range(5)]
        for client in clients:
            client.send(post())
        assert wait_until(lambda: holding(engine) == 5)
        refused = engine.get("/f/x", method="POST", body=b"{}")
        assert refused.status == 503
        assert refused.values("retry-after") == [b"1"]
        assert json.loads(refused.body)["code"] == "hold_full"
        for client in clients:
            client.close()

    def test_a_hold_that_takes_too_long_ends_with_503(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
        began = time.monotonic()
        answer = engine.get("/f/x", method="POST", body=b"{}")
        assert answer.status == 503
        assert answer.values("retry-after") == [b"1"]
        assert 0.9 < time.monotonic() - began < 1.6
        assert engine.monolith.seen == []

    def test_a_client_that_leaves_is_taken_out(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
        with engine.client() as client:
            client.send(post())
            assert wait_until(lambda: holding(engine) == 1)
        assert wait_until(lambda: holding(engine) == 0)
        engine.swap(stage=Stage.EXTRACTED, owner_epoch=4)
        time.sleep(0.05)
        assert engine.extracted.seen == []

    def test_a_body_is_read_up_to_the_limit_and_then_the_client_waits(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
        body = b"z" * 8_000_000
        with engine.client() as client:
            sender = threading.Thread(target=client.send, args=(request("/f/x", method="POST", body=body),))
            sender.start()
            time.sleep(0.2)
            assert sender.is_alive(), "the whole body was read while it was held"
            engine.swap(stage=Stage.EXTRACTED, owner_epoch=4)
            assert client.answer().body == b"extracted|/f/x|" + body
            sender.join(5)

    def test_unsafe_requests_sent_before_the_hold_are_counted_until_they_end(self, engine: Rig) -> None:
        go = threading.Event()
        engine.monolith.scripts[b"/f/slow"] = lambda _, __: (go.wait(3), ok())[1]
        with engine.client() as early, engine.client() as late:
            early.send(request("/f/slow", method="POST", body=b"{}"))
            assert wait_until(lambda: len(engine.monolith.seen) == 1)
            assert engine.call(engine.state.unsafe_in_flight) == {}
            engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
            late.send(post())
            assert wait_until(lambda: holding(engine) == 1)
            assert engine.call(engine.state.unsafe_in_flight) == {"f": 1}
            go.set()
            assert early.answer().status == 200
            assert wait_until(lambda: engine.call(engine.state.unsafe_in_flight) == {"f": 0})

    def test_pipelined_requests_behind_a_held_one_wait_with_it(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, owner_epoch=3, hold=HOLD)
        with engine.client() as client:
            client.send(post(1) + post(2) + request("/f/3"))
            assert wait_until(lambda: holding(engine) == 1)
            engine.swap(stage=Stage.EXTRACTED, owner_epoch=4)
            assert [client.answer().body for _ in range(3)] == [
                b"extracted|/f/1|{}",
                b"extracted|/f/2|{}",
                b"extracted|/f/3|",
            ]


class TestReplay:
    """A fenced answer never reaches a client."""

    def test_a_stale_table_costs_one_more_trip_and_is_put_right(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "extracted")
        body = b"b" * 50_000
        answer = engine.get("/f/x", method="POST", body=body)
        assert answer.body == b"extracted|/f/x|" + body
        (first,) = engine.monolith.seen
        (again,) = engine.extracted.seen
        assert first.values("x-strangler-replay") == []
        assert again.values("x-strangler-replay") == [b"safe"]
        assert again.values("x-request-id") == first.values("x-request-id")
        assert engine.learned == [("f", Ownership(owner=Origin.EXTRACTED, epoch=4))]
        assert side(engine.get("/f/y", method="POST", body=b"{}")) == "extracted"
        assert len(engine.monolith.seen) == 1

    def test_what_a_fence_taught_survives_an_older_table(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "extracted")
        engine.get("/f/x", method="POST", body=b"{}")
        engine.swap(stage=Stage.CANARY, owner=Origin.MONOLITH, owner_epoch=3)
        assert side(engine.get("/f/y", method="POST", body=b"{}")) == "extracted"
        assert len(engine.monolith.seen) == 1, "the older table was believed"
        engine.swap(stage=Stage.CANARY, owner=Origin.MONOLITH, owner_epoch=6)
        engine.monolith.default = None
        assert side(engine.get("/f/z", method="POST", body=b"{}")) == "monolith"

    def test_a_chunked_body_is_replayed_too(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "extracted")
        with engine.client() as client:
            client.send(
                b"POST /f/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            )
            assert client.answer().body == b"extracted|/f/x|abcde"

    def test_a_body_that_is_still_coming_is_replayed_as_it_comes(self, engine: Rig) -> None:
        def early(_: Seen, __: socket.socket) -> bytes:
            raise AssertionError("the request was read to its end")

        answered = threading.Event()

        def fence_at_once(connection: socket.socket) -> None:
            connection.sendall(fenced(4, "extracted"))
            answered.set()

        engine.monolith.default = early
        original = engine.monolith._read
        engine.monolith._read = lambda reader, number: (  # type: ignore[method-assign]
            [reader.readline() for _ in range(3)],
            fence_at_once(next(iter(engine.monolith._open))),
            None,
        )[2]
        with engine.client() as client:
            client.send(b"POST /f/x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
            assert answered.wait(3)
            time.sleep(0.05)
            client.send(b"def")
            assert client.answer().body == b"extracted|/f/x|abcdef"
        engine.monolith._read = original  # type: ignore[method-assign]

    def test_resume_is_said_to_the_owner(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "extracted", "resume")
        assert engine.get("/f/x", method="POST", body=b"{}").status == 200
        assert engine.extracted.seen[0].values("x-strangler-replay") == [b"resume"]

    def test_what_cannot_be_gone_on_from_is_503(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "extracted", "no")
        answer = engine.get("/f/x", method="POST", body=b"{}")
        assert answer.status == 503
        assert answer.values("retry-after") == [b"1"]
        assert answer.body != b"fenced"
        assert engine.extracted.seen == []
        assert side(engine.get("/f/y", method="POST", body=b"{}")) == "extracted"

    def test_a_body_too_large_to_keep_is_503_and_the_next_one_is_right(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "extracted")
        with engine.client() as client:
            client.send(request("/f/x", method="POST", body=b"b" * 70_000))
            assert client.answer().status == 503
        assert engine.extracted.seen == []
        assert side(engine.get("/f/y", method="POST", body=b"b" * 70_000)) == "extracted"

    def test_bodies_kept_together_have_a_bound(self) -> None:
        options = Options(sweep_s=0.02, replay_total_bytes=1_000)
        with rig(options, stage=Stage.CANARY, owner_epoch=3) as engine:
            engine.monolith.default = fenced(4, "extracted")
            assert engine.get("/f/x", method="POST", body=b"b" * 1_001).status == 503
            assert engine.call(lambda: engine.state.kept_bytes) == 0

    def test_memory_of_kept_bodies_is_given_back(self, engine: Rig) -> None:
        engine.get("/f/x", method="POST", body=b"b" * 10_000)
        with engine.client() as client:
            client.send(b"POST /f/x HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n" + b"b" * 500)
            assert wait_until(lambda: engine.call(lambda: engine.state.kept_bytes) == 500)
        assert wait_until(lambda: engine.call(lambda: engine.state.kept_bytes) == 0)

    def test_both_sides_fenced_waits_until_one_opens(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "monolith")
        engine.extracted.default = fenced(3, "monolith")

        def open_later() -> None:
            time.sleep(0.25)
            engine.extracted.default = None

        opener = threading.Thread(target=open_later)
        opener.start()
        answer = engine.get("/f/x", method="POST", body=b"{}")
        opener.join()
        assert side(answer) == "extracted"
        assert len(engine.extracted.seen) + len(engine.monolith.seen) < 15, "it backs off"

    def test_both_sides_fenced_finds_the_source_again_after_an_abort(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "monolith")
        engine.extracted.default = fenced(3, "monolith")

        def abort_later() -> None:
            time.sleep(0.2)
            engine.monolith.default = None

        opener = threading.Thread(target=abort_later)
        opener.start()
        assert side(engine.get("/f/x", method="POST", body=b"{}")) == "monolith"
        opener.join()

    def test_both_sides_fenced_for_too_long_is_503(self, engine: Rig) -> None:
        engine.monolith.default = fenced(4, "monolith")
        engine.extracted.default = fenced(4, "monolith")
        began = time.monotonic()
        answer = engine.get("/f/x", method="POST", body=b"{}")
        assert answer.status == 503
        assert answer.values("retry-after") == [b"1"]
        assert 0.5 < time.monotonic() - began < 1.6

    def test_a_read_that_writes_is_sent_to_the_owner(self, engine: Rig) -> None:
        engine.swap(stage=Stage.CANARY, weight=10_000, owner_epoch=3)
        engine.extracted.default = fenced(3, "monolith")
        assert side(engine.get("/f/x")) == "monolith"

    @pytest.mark.parametrize("target", ["/other", "/plain/x"])
    def test_a_route_outside_of_the_flag_is_503_and_teaches(self, engine: Rig, target: str) -> None:
        engine.monolith.default = fenced(4, "extracted")
        answer = engine.get(target, method="POST", body=b"{}")
        assert answer.status == 503
        assert answer.values("content-type") == [b"application/problem+json"]
        assert engine.metrics.value("strangler_proxy_fenced_total", flag="f", outcome="outside") == 1
        assert engine.learned == [("f", Ownership(owner=Origin.EXTRACTED, epoch=4))]

    @pytest.mark.parametrize(
        "head",
        [
            b"HTTP/1.1 409 Conflict\r\nX-Strangler-Fence: nonsense\r\n",
            b"HTTP/1.1 409 Conflict\r\n",
            b"HTTP/1.1 200 OK\r\nX-Strangler-Fence: flag=f; epoch=4; owner=extracted; replay=safe\r\n",
        ],
    )
    def test_other_answers_are_passed_on(self, engine: Rig, head: bytes) -> None:
        engine.monolith.default = head + b"Content-Length: 2\r\n\r\nhi"
        answer = engine.get("/f/x", method="POST", body=b"{}")
        assert answer.head.startswith(head[:12])
        assert answer.body == b"hi"
        assert answer.values("x-strangler-fence") == []
        assert engine.learned == []

    def test_a_fenced_answer_to_a_killed_flag_ends_with_503(self, engine: Rig) -> None:
        engine.call(lambda: engine.state.set_killed(frozenset({"f"})))
        engine.monolith.default = fenced(4, "extracted")
        assert engine.get("/f/x", method="POST", body=b"{}").status == 503
        assert engine.extracted.seen == []


def test_flips_under_load_lose_nothing(engine: Rig) -> None:
    """Cutovers back and forth while clients write: every request is answered 200 and reaches an owner exactly once."""
    owner = {"side": "monolith", "epoch": 3}
    guard = threading.Lock()
    accepted: list[bytes] = []

    def origin(name: str) -> Callable[[Seen, socket.socket], bytes]:
        def answer(seen: Seen, _: socket.socket) -> bytes:
            with guard:
                if owner["side"] != name:
                    return fenced(int(owner["epoch"]), "monolith")
                accepted.append(seen.target)
            return ok(name.encode())

        return answer

    engine.monolith.default, engine.extracted.default = origin("monolith"), origin("extracted")
    statuses: list[int] = []
    done = threading.Event()

    def write(number: int) -> None:
        with engine.client() as client:
            for at in range(10_000):
                if done.is_set():
                    return
                statuses.append(client.get(f"/f/{number}-{at}", method="POST", body=b"{}").status)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for turn in range(20):
        to = Origin.EXTRACTED if turn % 2 == 0 else Origin.MONOLITH
        stage = Stage.CANARY if to is Origin.EXTRACTED else Stage.EXTRACTED
        engine.swap(stage=stage, owner=to.other, owner_epoch=int(owner["epoch"]), hold=HOLD if turn % 3 else None)
        time.sleep(0.01)
        with guard:
            owner["side"], owner["epoch"] = "nobody", int(owner["epoch"]) + 1
        time.sleep(0.01)
        with guard:
            owner["side"] = to.value
        after = Stage.EXTRACTED if to is Origin.EXTRACTED else Stage.CANARY
        engine.swap(stage=after, owner=to, owner_epoch=int(owner["epoch"]))
        time.sleep(0.01)
    done.set()
    for writer in writers:
        writer.join(10)
    assert set(statuses) == {200}
    assert len(accepted) == len(set(accepted)) == len(statuses) > 50
