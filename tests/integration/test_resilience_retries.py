"""Retries on real sockets: never a storm, never a second write (promise 19); fallback, and deadlines (promise 15)."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from strangler_proxy.core.retry import BUDGET_FLOOR
from strangler_proxy.core.route import Timeouts
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.forward.options import Options
from tests.integration.engine_rig import asleep, ok
from tests.integration.resilience_rig import (
    NEVER_OPENS,
    UNAVAILABLE,
    ClusterRig,
    closing,
    cluster_rig,
    nobody_listens,
)

KEY = "Idempotency-Key: abc\r\n"


def patient(**more: Any) -> dict[str, Any]:
    """A route whose breaker stays closed, so that every request is tried."""
    return {"breaker": NEVER_OPENS, "fallback": False, "retries": 3, **more}


def attempts_of(rig: ClusterRig) -> int:
    return sum(value for (name, _), value in rig.metrics.counters.items() if name == "strangler_proxy_retries_total")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_upstream_that_is_down_is_asked_at_most_once_and_a_fifth(method: str) -> None:
    with cluster_rig(route=patient()) as rig:
        rig.many[0].default = closing
        body = b"{}" if method == "PUT" else b""
        requests = 100
        with rig.client() as client:
            statuses = {client.get("/f/x", method=method, body=body).status for _ in range(requests)}
        assert statuses == {502}
        assert requests < rig.counts[0] <= 1.2 * requests
        assert rig.metrics.value("strangler_proxy_retries_refused_total", cluster="extracted", reason="budget") > 0


def test_a_refused_connection_is_tried_at_most_once_and_a_fifth() -> None:
    with cluster_rig(route=patient()) as rig:
        rig.ports = [nobody_listens()]
        rig.swap()
        with rig.client() as client:
            assert {client.get("/f/x").status for _ in range(60)} == {502}
        assert BUDGET_FLOOR < attempts_of(rig) <= 12


@pytest.mark.parametrize("fields", ["", KEY])
def test_a_post_is_not_sent_again_without_a_key_that_both_sides_keep(fields: str) -> None:
    with cluster_rig(route=patient(), owns_data=True) as rig:
        rig.many[0].default = closing
        assert {rig.get("/f/x", fields, method="POST", body=b"{}").status for _ in range(20)} == {502}
        assert rig.counts == [20]


def test_a_post_with_a_shared_key_is_sent_again_with_the_same_body() -> None:
    with cluster_rig(route=patient(idempotency_key=True), owns_data=True) as rig:
        rig.many[0].default = lambda seen, _: ok(seen.body) if len(rig.many[0].seen) > 1 else None
        answer = rig.get("/f/x", KEY, method="POST", body=b'{"a": 1}')
        assert (answer.status, answer.body) == (200, b'{"a": 1}')
        assert [seen.body for seen in rig.many[0].seen] == [b'{"a": 1}'] * 2
        assert {tuple(seen.values("idempotency-key")) for seen in rig.many[0].seen} == {(b"abc",)}


def test_a_post_with_a_shared_key_that_is_too_large_to_keep_is_not_sent_again() -> None:
    options = Options(sweep_s=0.02, replay_body_bytes=1_000)
    with cluster_rig(options=options, route=patient(idempotency_key=True), owns_data=True) as rig:
        rig.many[0].default = closing
        assert rig.get("/f/x", KEY, method="POST", body=b"a" * 5_000).status == 502
        assert rig.counts == [1]


def test_a_post_of_which_nothing_was_sent_goes_to_another_endpoint() -> None:
    with cluster_rig(route=patient()) as rig:
        rig.ports = [nobody_listens(), rig.many[0].port]
        rig.swap()
        assert {rig.get("/f/x", method="POST", body=b"{}").status for _ in range(10)} == {200}
        assert rig.counts == [10]
        assert attempts_of(rig) == 1


@pytest.mark.parametrize("beginning", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_nothing_is_sent_again_once_a_byte_of_the_answer_has_come(beginning: bytes) -> None:
    with cluster_rig(route=patient()) as rig:
        rig.many[0].default = lambda _, connection: connection.sendall(beginning)
        try:
            assert rig.get("/f/x").status == 502
        except ConnectionError:
            assert len(beginning) > 1
        assert rig.counts == [1]


def test_no_retries_where_the_route_says_none() -> None:
    with cluster_rig(route=patient(retries=0)) as rig:
        rig.many[0].default = closing
        assert rig.get("/f/x").status == 502
        assert rig.counts == [1]


def test_a_time_out_is_not_tried_again() -> None:
    with cluster_rig(route=patient()) as rig:
        rig.many[0].default = asleep(1.0)
        assert rig.get("/f/x").status == 504
        assert rig.counts == [1]


class TestFallback:
    """Safe requests of a flag that allows it, to the monolith."""

    def test_after_a_time_out(self) -> None:
        with cluster_rig(route=patient(fallback=True)) as rig:
            rig.many[0].default = asleep(1.0)
            began = time.monotonic()
            assert rig.get("/f/x").body == b"monolith|/f/x|"
            assert time.monotonic() - began < 0.9

    def test_not_once_the_whole_budget_is_spent(self) -> None:
        spent = Timeouts(first_byte_s=0.3, total_s=0.3)
        with cluster_rig(route=patient(fallback=True, timeouts=spent)) as rig:
            rig.many[0].default = asleep(1.0)
            assert rig.get("/f/x").status == 504
            assert rig.monolith.seen == []

    def test_after_an_answer_that_says_unavailable(self) -> None:
        with cluster_rig(route=patient(fallback=True)) as rig:
            rig.many[0].default = UNAVAILABLE
            assert rig.get("/f/x").body == b"monolith|/f/x|"
            assert rig.get("/f/x", method="POST", body=b"{}").body == b"sick"

    @pytest.mark.parametrize(("owns_data", "reason"), [(True, b"fallback-stale"), (False, b"fallback")])
    def test_it_is_labelled_for_trusted_callers_only(self, owns_data: bool, reason: bytes) -> None:
        with cluster_rig(route=patient(fallback=True), owns_data=owns_data) as rig:
            rig.many[0].default = UNAVAILABLE
            told = rig.get("/f/x", f"X-Strangler-Override: {trusted(rig)}\r\n")
            assert told.values("x-strangler-origin") == [b"monolith"]
            assert told.values("x-strangler-reason") == [reason]
            assert rig.get("/f/x").values("x-strangler-reason") == []
            assert rig.metrics.value("strangler_proxy_fallbacks_total", route="f") == 2

    def test_a_retired_monolith_is_never_asked(self) -> None:
        with cluster_rig(route=patient(fallback=True), stage=Stage.RETIRED) as rig:
            rig.many[0].default = UNAVAILABLE
            assert rig.get("/f/x").body == b"sick"
            assert rig.monolith.seen == []


class TestDeadlines:
    """Whatever stalls, the answer comes within its budget."""

    @pytest.mark.parametrize(
        ("script", "status"),
        [
            (asleep(2.0), 504),
            (asleep(2.0, b"HTTP/1.1 200"), 504),
            (asleep(2.0, b"HTTP/1.1 103 Early Hints\r\n\r\n"), 504),
            (asleep(2.0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), 0),
        ],
    )
    def test_of_an_upstream_that_stalls(self, script: Any, status: int) -> None:
        with cluster_rig(route=patient()) as rig:
            rig.many[0].default = script
            began = time.monotonic()
            try:
                assert rig.get("/f/x").status == status
            except ConnectionError:
                assert status == 0
            assert time.monotonic() - began < 1.2

    def test_of_an_upstream_that_sends_hints_for_ever(self) -> None:
        def hints(_: object, connection: Any) -> None:
            for _n in range(20):
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.2)

        with cluster_rig(route=patient(timeouts=Timeouts(first_byte_s=0.4, idle_s=0.4, total_s=1.0))) as rig:
            rig.many[0].default = hints
            began = time.monotonic()
            assert rig.get("/f/x").status in (502, 504)
            assert time.monotonic() - began < 1.6

    def test_of_one_that_takes_no_more_of_the_body(self) -> None:
        with cluster_rig(route=patient()) as rig:
            rig.many[0]._read = lambda *_: time.sleep(3)  # type: ignore[method-assign,assignment]
            began = time.monotonic()
            with rig.client() as client:
                sender = threading.Thread(target=flood, args=(client,), daemon=True)
                sender.start()
                assert client.answer().status == 504
            assert time.monotonic() - began < 2.0


def flood(client: Any) -> None:
    try:
        client.send(b"PUT /f/x HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n" + b"a" * 50_000_000)
    except OSError:
        return


def trusted(rig: ClusterRig) -> str:
    """An override of flag f to extracted, as operators have it signed."""
    return rig.signer.override("f", Origin.EXTRACTED, int(time.time()) + 60)


def test_problems_are_documents_without_addresses() -> None:
    with cluster_rig(route=patient()) as rig:
        port = str(rig.many[0].port).encode()
        rig.many[0].stop()
        answer = rig.get("/f/x")
        assert set(json.loads(answer.body)) == {"type", "title", "status", "code", "detail", "request_id"}
        assert port not in answer.head + answer.body
