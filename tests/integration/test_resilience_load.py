"""Too much: requests are refused early, with a word on when to come again, and nothing grows."""

from __future__ import annotations

import json
import threading
import time

from strangler_proxy.core.rate import Rate
from strangler_proxy.core.route import Timeouts
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import ok, request, wait_until
from tests.integration.resilience_rig import NEVER_OPENS, ClusterRig, cluster_rig

PATIENT = Timeouts(first_byte_s=10.0)
ROUTE = {"breaker": NEVER_OPENS, "timeouts": PATIENT, "retries": 0, "fallback": False}


def crowd(rig: ClusterRig, number: int, target: str) -> tuple[list[int], list[float]]:
    """So many requests at once to an upstream that hangs; the statuses and waits of those that were answered early."""
    clients = [rig.client() for _ in range(number)]
    statuses, waits = [], []
    for client in clients:
        client.send(request(target))
    for client in clients:
        client.socket.settimeout(0.05)
        began = time.monotonic()
        try:
            answer = client.answer()
        except TimeoutError:
            continue
        assert answer.values("retry-after") == [b"1"]
        statuses.append(answer.status)
        waits.append(time.monotonic() - began)
    for client in clients:
        client.close()
    return statuses, waits


def test_pending_requests_of_a_cluster_are_bounded_and_other_clusters_are_not_affected() -> None:
    with cluster_rig(cluster={"max_pending": 5}, route=ROUTE) as rig:
        go = threading.Event()
        rig.many[0].default = lambda _, __: (go.wait(5), ok())[1]
        waiting = [rig.client() for _ in range(5)]
        for client in waiting:
            client.send(request("/f/x"))
        assert wait_until(lambda: len(rig.many[0].seen) == 5)
        began = time.monotonic()
        refused = rig.get("/f/x")
        assert (refused.status, json.loads(refused.body)["code"]) == (503, "overloaded")
        assert refused.values("retry-after") == [b"1"]
        assert time.monotonic() - began < 0.2
        assert rig.get("/elsewhere").status == 200
        assert rig.metrics.value("strangler_proxy_shed_total", cluster="extracted", scope="cluster") == 1
        go.set()
        assert {client.answer().status for client in waiting} == {200}
        assert rig.get("/f/x").status == 200
        for client in waiting:
            client.close()
        assert rig.call(lambda: rig.engine.pending) == 0


def test_pending_requests_are_bounded_in_all() -> None:
    with cluster_rig(options=Options(sweep_s=0.02, pending_limit=10), route=ROUTE) as rig:
        go = threading.Event()
        rig.many[0].default = rig.monolith.default = lambda _, __: (go.wait(5), ok())[1]
        statuses, waits = crowd(rig, 60, "/f/x")
        assert statuses == [503] * 50
        assert sum(waits) / len(waits) < 0.1
        assert wait_until(lambda: rig.call(lambda: rig.engine.pending) == 0)
        go.set()
        assert rig.get("/elsewhere").status == 200


def test_requests_that_wait_for_a_connection_are_pending_too() -> None:
    options = Options(sweep_s=0.02, pool_limit=2)
    with cluster_rig(options=options, cluster={"max_pending": 6}, route=ROUTE) as rig:
        go = threading.Event()
        rig.many[0].default = lambda _, __: (go.wait(5), ok())[1]
        waiting = [rig.client() for _ in range(6)]
        for client in waiting:
            client.send(request("/f/x"))
        assert wait_until(lambda: rig.call(lambda: rig.engine.pending) == 6)
        assert rig.get("/f/x").status == 503
        go.set()
        assert {client.answer().status for client in waiting} == {200}
        assert rig.many[0].connections == 2
        for client in waiting:
            client.close()


class TestRates:
    """Rate limits of a route, for each targeting key."""

    def test_a_key_gets_its_burst_and_then_429_with_the_time_to_wait(self) -> None:
        with cluster_rig(route={"rate": Rate(per_s=0.5, burst=3)}) as rig:
            answers = [rig.get("/f/x") for _ in range(5)]
            assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
            assert answers[-1].values("retry-after") == [b"2"]
            assert json.loads(answers[-1].body)["code"] == "rate_limited"
            assert rig.counts == [3]
            assert rig.get("/other/x").status == 200

    def test_visitors_do_not_take_from_each_other(self) -> None:
        with cluster_rig(route={"rate": Rate(per_s=0.1, burst=1)}) as rig:
            for name in ("ada", "bob", "cyd"):
                cookie = f"Cookie: strangler_visitor={rig.signer.visitor_cookie(name)}\r\n"
                assert [rig.get("/f/x", cookie).status for _ in range(2)] == [200, 429]

    def test_a_flip_does_not_fill_the_bucket(self) -> None:
        with cluster_rig(route={"rate": Rate(per_s=0.1, burst=2)}) as rig:
            assert [rig.get("/f/x").status for _ in range(2)] == [200, 200]
            rig.swap(reason="another revision")
            assert rig.get("/f/x").status == 429

    def test_the_rate_comes_back(self) -> None:
        with cluster_rig(route={"rate": Rate(per_s=10, burst=1)}) as rig:
            assert [rig.get("/f/x").status for _ in range(2)] == [200, 429]
            time.sleep(0.12)
            assert rig.get("/f/x").status == 200
