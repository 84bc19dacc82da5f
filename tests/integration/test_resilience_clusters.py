"""Several endpoints: who gets requests, who is taken out, and who comes back."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from strangler_proxy.core.balance import Balance
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from tests.integration.engine_rig import asleep, ok, request, wait_until
from tests.integration.resilience_rig import NEVER_OPENS, UNAVAILABLE, ClusterRig, closing, cluster_rig, nobody_listens

OUTLIER = OutlierPolicy(failures=3, eject_s=0.4, longest_s=2.0)
PROBE = ProbePolicy(path="/well", interval_s=0.1, timeout_s=0.2, unwell=2, well=2)


def three(**cluster: Any) -> dict[str, Any]:
    return {
        "size": 3,
        "route": {"breaker": NEVER_OPENS, "retries": 0, "fallback": False},
        "cluster": {"outlier": OUTLIER, "slow_start_s": 0.0, **cluster},
    }


def shares(rig: ClusterRig, requests: int) -> list[int]:
    """How many of so many requests each endpoint got."""
    before = rig.counts
    with rig.client() as client:
        for _ in range(requests):
            client.get("/f/x")
    return [after - b for b, after in zip(before, rig.counts, strict=True)]


@pytest.mark.parametrize("balance", list(Balance))
def test_equal_endpoints_get_equal_parts(balance: Balance) -> None:
    with cluster_rig(**three(balance=balance)) as rig:
        assert shares(rig, 30) == [10, 10, 10]


def test_least_pending_avoids_a_slow_endpoint_and_round_robin_does_not() -> None:
    for balance, of_the_slow in ((Balance.LEAST_PENDING, {1}), (Balance.ROUND_ROBIN, {4})):
        with cluster_rig(**three(balance=balance)) as rig:
            rig.many[1].default = asleep(0.4)
            clients = [rig.client() for _ in range(12)]
            for client in clients:
                client.send(request("/f/x"))
                time.sleep(0.015)
            assert {client.answer().status for client in clients} == {200}
            assert {rig.counts[1]} <= (of_the_slow | {2} if balance is Balance.LEAST_PENDING else of_the_slow)
            for client in clients:
                client.close()


@pytest.mark.parametrize("sickness", [closing, UNAVAILABLE])
def test_a_sick_endpoint_of_three_is_ejected_and_comes_back(sickness: Any) -> None:
    with cluster_rig(**three()) as rig:
        sick = rig.many[2]
        sick.default = sickness
        shares(rig, 9)
        assert rig.sick() == {"ejected": [f"extracted 127.0.0.1:{sick.port} outlier"]}
        assert shares(rig, 20)[2] == 0
        assert rig.metrics.value("strangler_proxy_ejections_total", cluster="extracted", why="outlier") == 1
        sick.default = None
        assert wait_until(lambda: not rig.sick(), 2)
        assert wait_until(lambda: shares(rig, 3)[2] > 0, 2)


def test_each_further_ejection_is_longer() -> None:
    with cluster_rig(**three()) as rig:
        rig.many[2].default = closing
        lasted = []
        for _ in range(2):
            assert wait_until(lambda: bool(shares(rig, 1)) and bool(rig.sick()), 3)
            began = time.monotonic()
            assert wait_until(lambda: not rig.sick(), 3)
            lasted.append(time.monotonic() - began)
        assert lasted[1] > 1.5 * lasted[0]


def test_a_cluster_that_is_sick_as_a_whole_keeps_its_share() -> None:
    with cluster_rig(**three()) as rig:
        for each in rig.many:
            each.default = UNAVAILABLE
        shares(rig, 60)
        assert len(rig.sick()["ejected"]) == 1
        assert rig.get("/f/x").body == b"sick"


def test_an_endpoint_that_refuses_is_left_at_once_and_no_client_notices() -> None:
    with cluster_rig(**three() | {"route": {"fallback": False}}) as rig:
        rig.ports = [rig.many[0].port, nobody_listens(), rig.many[1].port]
        rig.swap()
        with rig.client() as client:
            assert {client.get("/f/x", method="POST", body=b"{}").status for _ in range(30)} == {200}


def test_an_ejection_outlives_a_flip_and_an_endpoint_that_is_new_starts_slowly() -> None:
    with cluster_rig(**three(slow_start_s=5.0)) as rig:
        rig.ports = [rig.many[0].port, rig.many[1].port]
        rig.swap()
        rig.many[1].default = UNAVAILABLE
        shares(rig, 8)
        rig.ports = None
        rig.swap()
        assert rig.sick() == {"ejected": [f"extracted 127.0.0.1:{rig.many[1].port} outlier"]}
        rig.many[1].default = None
        first, second, third = shares(rig, 40)
        assert second == 0
        assert 0 < third < first / 3


class TestProbes:
    """Active probes."""

    def test_they_take_an_endpoint_out_before_a_request_meets_it_and_let_it_in_again(self) -> None:
        with cluster_rig(**three(probe=PROBE)) as rig:
            rig.many[0].scripts[b"/well"] = UNAVAILABLE
            assert wait_until(lambda: "ejected" in rig.sick())
            assert rig.sick() == {"ejected": [f"extracted 127.0.0.1:{rig.many[0].port} probe"]}
            assert [seen.target for seen in rig.many[0].seen if seen.target != b"/well"] == []
            began = targets(rig)
            for _ in range(9):
                assert rig.get("/f/x").status == 200
            assert targets(rig)[0] == began[0]
            del rig.many[0].scripts[b"/well"]
            assert wait_until(lambda: not rig.sick())

    def test_a_hanging_probe_is_an_answer_too_and_no_request_waits_for_it(self) -> None:
        with cluster_rig(**three(probe=PROBE)) as rig:
            for each in rig.many:
                each.scripts[b"/well"] = asleep(1.0)
            began = time.monotonic()
            assert rig.get("/f/x").status == 200
            assert time.monotonic() - began < 0.3
            assert wait_until(lambda: len(rig.sick().get("ejected", ())) == 3)

    def test_where_none_is_well_safe_requests_fall_back_and_others_are_503(self) -> None:
        options = three(probe=PROBE) | {"route": {"fallback": True}}
        with cluster_rig(**options) as rig:
            for each in rig.many:
                each.scripts[b"/well"] = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
            assert wait_until(lambda: len(rig.sick().get("ejected", ())) == 3)
            assert rig.get("/f/x").body.startswith(b"monolith|")
            refused = rig.get("/f/x", method="POST", body=b"{}")
            assert refused.status == 503
            assert refused.values("retry-after") == [b"1"]
            assert b'"no_endpoint"' in refused.body

    def test_a_cluster_of_one_is_probed_too(self) -> None:
        with cluster_rig(cluster={"probe": PROBE}) as rig:
            assert wait_until(lambda: len(rig.many[0].seen) > 2)
            seen = rig.many[0].seen[0]
            assert (seen.line, seen.values("user-agent")) == (b"GET /well HTTP/1.1", [b"strangler-probe"])
            rig.many[0].scripts[b"/well"] = ok() * 0 + b"nonsense\r\n\r\n"
            assert wait_until(lambda: bool(rig.sick()))
            assert rig.get("/f/x").body.startswith(b"monolith|")

    def test_a_new_table_ends_them(self) -> None:
        with cluster_rig(cluster={"probe": PROBE}) as rig:
            assert wait_until(lambda: len(rig.many[0].seen) > 0)
            rig.cluster_options = {}
            rig.swap()
            time.sleep(0.3)
            number = len(rig.many[0].seen)
            time.sleep(0.4)
            assert len(rig.many[0].seen) == number


def targets(rig: ClusterRig) -> list[int]:
    return [Counter(each.targets)[b"/f/x"] for each in rig.many]
