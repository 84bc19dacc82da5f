"""Kept connections that an upstream closes as a request reaches it: what may be sent again is, and where it can be."""

from __future__ import annotations

import socket

from tests.integration.engine_rig import Script, Seen, ok
from tests.integration.resilience_rig import NEVER_EJECTS, NEVER_OPENS, ClusterRig, cluster_rig

ROUTE = {"breaker": NEVER_OPENS, "fallback": False}


def only_once(rig: ClusterRig, number: int) -> Script:
    """Answers the first request of the first connection; every other one, on whatever connection, it closes."""

    def script(_: Seen, connection: socket.socket) -> bytes | None:
        return ok(b"one") if len(rig.many[number].seen) == 1 else None

    return script


def test_where_there_is_another_endpoint_it_gets_the_request() -> None:
    """An endpoint that restarts closes what is kept, and its backlog too: no request fails that can be sent again."""
    with cluster_rig(size=2, route=ROUTE, cluster={"outlier": NEVER_EJECTS, "slow_start_s": 0.0}) as rig:
        rig.many[0].default = only_once(rig, 0)
        with rig.client() as client:
            statuses = [client.get("/f/x").status for _ in range(6)]
        assert statuses == [200] * 6
        assert rig.counts[0] >= 2, "it was asked on the kept connection"
        assert rig.metrics.value("strangler_proxy_retries_total", reason="stale") >= 1


def test_a_refused_connection_after_that_counts_as_no_attempt() -> None:
    with cluster_rig(route=ROUTE) as rig:

        def leaves(seen: Seen, _: socket.socket) -> bytes | None:
            if len(rig.many[0].seen) == 1:
                return ok(b"one")
            rig.many[0].stop()
            return None

        rig.many[0].default = leaves
        with rig.client() as client:
            assert client.get("/f/x").status == 200
            assert client.get("/f/x").status == 502
        assert rig.metrics.value("strangler_proxy_retries_total", reason="stale") == 1
        assert rig.metrics.value("strangler_proxy_retries_total", reason="connect") == 1


def test_a_post_on_such_a_connection_is_not_sent_again() -> None:
    with cluster_rig(size=2, route=ROUTE, cluster={"outlier": NEVER_EJECTS, "slow_start_s": 0.0}) as rig:
        rig.many[0].default = only_once(rig, 0)
        rig.many[1].default = only_once(rig, 1)
        with rig.client() as client:
            first = [client.get("/f/x", method="POST", body=b"{}").status for _ in range(2)]
            later = [client.get("/f/x", method="POST", body=b"{}").status for _ in range(4)]
        assert first == [200, 200]
        assert later == [502] * 4
        assert sum(rig.counts) == 6, "each was sent once"
