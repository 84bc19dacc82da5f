"""The breaker on real sockets (promise 18), and faults that stay where they are (promise 29)."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.route import Timeouts
from tests.integration.engine_rig import asleep, ok, request, wait_until
from tests.integration.resilience_rig import NEVER_OPENS, UNAVAILABLE, ClusterRig, at_once, closing, cluster_rig

POLICY = BreakerPolicy(failures=5, open_s=0.5)


def breaking(**more: Any) -> dict[str, Any]:
    return {"route": {"breaker": POLICY, "retries": 0, "fallback": False, **more}}


def open_it(rig: ClusterRig) -> None:
    rig.many[0].default = closing
    for _ in range(POLICY.failures):
        assert rig.get("/f/x", method="POST", body=b"{}").status == 502


def code(answer: Any) -> str:
    return str(json.loads(answer.body)["code"])


def test_it_opens_at_its_threshold_and_then_nothing_reaches_the_upstream() -> None:
    with cluster_rig(**breaking()) as rig:
        rig.many[0].default = closing
        for number in range(1, POLICY.failures + 1):
            assert rig.get("/f/x").status == 502
            assert rig.counts == [number]
        refused = rig.get("/f/x")
        assert (refused.status, code(refused)) == (503, "breaker_open")
        assert refused.values("retry-after") == [b"1"]
        assert rig.counts == [POLICY.failures]
        assert rig.sick() == {"breakers": ["extracted/f open"]}
        assert rig.metrics.value("strangler_proxy_breaker_opened_total", cluster="extracted", route="f") == 1


def test_half_open_lets_one_of_a_hundred_through_and_its_success_lets_all() -> None:
    with cluster_rig(**breaking(timeouts=Timeouts(first_byte_s=5.0))) as rig:
        open_it(rig)
        time.sleep(POLICY.open_s)
        rig.many[0].seen.clear()
        go = threading.Event()
        rig.many[0].default = lambda _, __: (go.wait(5), ok())[1]
        threading.Timer(1.0, go.set).start()
        answers = at_once(rig, 100, lambda _: rig.get("/f/x"))
        assert len(rig.many[0].seen) == 1
        assert sorted(answer.status for answer in answers) == [200] + [503] * 99
        assert [rig.get("/f/x").status for _ in range(3)] == [200] * 3
        assert rig.sick() == {}


def test_a_permit_is_held_until_the_body_ends() -> None:
    with cluster_rig(**breaking()) as rig:
        open_it(rig)
        time.sleep(POLICY.open_s)
        go = threading.Event()

        def slow_body(_: object, connection: Any) -> bytes:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            go.wait(3)
            return b"k"

        rig.many[0].default = slow_body
        with rig.client() as client:
            client.send(request("/f/x"))
            assert client.socket.recv(15) == b"HTTP/1.1 200 OK"
            assert rig.get("/f/x").status == 503
            go.set()
            assert wait_until(lambda: not rig.sick())
        rig.many[0].default = None
        assert rig.get("/f/x").status == 200


def test_a_trial_whose_body_breaks_opens_it_again() -> None:
    with cluster_rig(**breaking()) as rig:
        open_it(rig)
        time.sleep(POLICY.open_s)
        rig.many[0].default = lambda _, connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")
        with pytest.raises(ConnectionError):
            rig.get("/f/x")
        assert rig.sick() == {"breakers": ["extracted/f open"]}


def test_clients_that_leave_are_neutral() -> None:
    with cluster_rig(**breaking()) as rig:
        rig.many[0].default = asleep(0.3)
        for number in range(3 * POLICY.failures):
            with rig.client() as client:
                client.send(request("/f/x"))
                assert wait_until(lambda number=number: len(rig.many[0].seen) > number)  # type: ignore[misc]
        assert wait_until(lambda: not rig.call(lambda: rig.engine.pending))
        assert rig.sick() == {}
        rig.many[0].default = None
        assert rig.get("/f/x").status == 200


def test_a_trial_that_leaves_gives_its_place_to_the_next() -> None:
    with cluster_rig(**breaking()) as rig:
        open_it(rig)
        time.sleep(POLICY.open_s)
        rig.many[0].default = asleep(0.3)
        rig.many[0].seen.clear()
        with rig.client() as client:
            client.send(request("/f/x"))
            assert wait_until(lambda: len(rig.many[0].seen) == 1)
        assert wait_until(lambda: not rig.call(lambda: rig.engine.pending))
        assert rig.sick() == {"breakers": ["extracted/f half-open"]}
        rig.many[0].default = None
        assert rig.get("/f/x").status == 200
        assert rig.sick() == {}


def test_answers_that_say_the_service_is_sick_open_it_too() -> None:
    with cluster_rig(**breaking()) as rig:
        rig.many[0].default = UNAVAILABLE
        assert [rig.get("/f/x").body for _ in range(POLICY.failures)] == [b"sick"] * POLICY.failures
        assert code(rig.get("/f/x")) == "breaker_open"


def test_an_open_breaker_falls_back_where_flag_and_route_allow_it() -> None:
    with cluster_rig(**breaking(fallback=True)) as rig:
        rig.many[0].default = closing
        for _ in range(POLICY.failures + 3):
            assert rig.get("/f/x").body.startswith(b"monolith|")
        assert rig.counts == [POLICY.failures]
        assert code(rig.get("/f/x", method="POST", body=b"{}")) == "breaker_open"
        assert rig.metrics.value("strangler_proxy_fallbacks_total", route="f") == POLICY.failures + 3


def test_a_flip_does_not_forget_who_is_sick() -> None:
    with cluster_rig(**breaking()) as rig:
        open_it(rig)
        rig.swap(reason="another revision")
        assert code(rig.get("/f/x")) == "breaker_open"


def test_one_sick_route_leaves_the_others_of_its_cluster_alone() -> None:
    with cluster_rig(**breaking()) as rig:
        rig.many[0].scripts[b"/f/x"] = closing
        for _ in range(2 * POLICY.failures):
            rig.get("/f/x")
        assert code(rig.get("/f/x")) == "breaker_open"
        assert rig.get("/other/x").status == 200


def test_a_dead_service_leaves_what_is_not_its_own_without_an_error() -> None:
    with cluster_rig(**breaking()) as rig:
        rig.many[0].stop()
        statuses = [(rig.get("/f/x", method="POST", body=b"{}").status, rig.get("/shelf").status) for _ in range(20)]
        assert {own for own, _ in statuses} == {502, 503}
        assert {other for _, other in statuses} == {200}


def test_what_no_route_matches_has_no_breaker() -> None:
    with cluster_rig() as rig:
        rig.monolith.scripts[b"/sick"] = UNAVAILABLE
        assert {rig.get("/sick").status for _ in range(40)} == {503}
        assert rig.get("/well").status == 200


def test_a_hung_upstream_opens_it_within_the_first_byte_budget() -> None:
    with cluster_rig(**breaking()) as rig:
        rig.many[0].default = asleep(2.0)
        answers = at_once(rig, POLICY.failures, lambda _: rig.get("/f/x"))
        assert {answer.status for answer in answers} == {504}
        began = time.monotonic()
        assert code(rig.get("/f/x")) == "breaker_open"
        assert time.monotonic() - began < 0.2


def test_a_client_that_does_not_read_is_not_the_upstreams_fault() -> None:
    with cluster_rig(**breaking(breaker=BreakerPolicy(failures=1))) as rig:
        rig.many[0].default = ok(b"a" * 30_000_000)
        with rig.client() as client:
            client.send(request("/f/x"))
            assert wait_until(lambda: not rig.call(lambda: rig.engine.pending), 5)
        assert rig.sick() == {}


def test_without_a_threshold_it_never_opens() -> None:
    with cluster_rig(**breaking(breaker=NEVER_OPENS)) as rig:
        rig.many[0].default = closing
        assert {rig.get("/f/x").status for _ in range(30)} == {502}
