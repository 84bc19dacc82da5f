"""The control plane as a process: who may call, what is refused, and that nothing is half done."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from starlette.requests import Request

from strangler_proxy.control.access import Access
from strangler_proxy.control.api import Desk, Endpoint
from strangler_proxy.control.verbs import Call
from strangler_proxy.store import Store
from strangler_proxy.store.memory import memory_store
from tests.integration.control_rig import PLANS, TOKEN, VIEWER, Proxy, Rig, control_rig, live_stream
from tests.servers import EmbeddedPostgres, create_database, drop_database


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One control plane for the tests of this file that do not disturb each other."""
    url = create_database(postgres, "control_api")
    with control_rig(url, tmp_path_factory.mktemp("control")) as rig:
        yield rig
    drop_database(postgres, url)


@pytest.fixture
def api(shared: Rig) -> Iterator[httpx.Client]:
    """A client with the operator's token, and the example's files applied."""
    with shared.client() as client:
        assert client.post("/v1/apply", json={"files": plan_files()}).status_code == 200
        yield client


def plan_files() -> list[dict[str, str]]:
    return [{"name": path.name, "text": path.read_text()} for path in sorted(PLANS.glob("*.toml"))]


def revision(api: httpx.Client) -> int:
    return int(api.get("/v1/status").json()["revision"])


def make_live(rig: Rig, key: str, **changes: object) -> None:
    async def work(store: Store) -> None:
        await store.sync.want(key, True)
        await store.sync.publish(key, live_stream(flag=key, **changes))

    rig.with_store(work)


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}]
)
def test_a_call_without_the_token_is_401(shared: Rig, headers: dict[str, str]) -> None:
    with shared.client(token=None, **headers) as client:
        answer = client.get("/v1/status")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_a_viewer_may_look_and_change_nothing(shared: Rig, api: httpx.Client) -> None:
    before = revision(api)
    with shared.client(VIEWER) as viewer:
        assert viewer.get("/v1/status").status_code == 200
        assert viewer.post("/v1/why", json={"method": "GET", "url": "/api/auth/me"}).status_code == 200
        for path, body in [
            ("/v1/apply", {"files": plan_files()}),
            ("/v1/flags/auth/flip", {"stage": "shadow"}),
            ("/v1/flags/auth/flip", {"stage": "shadow", "dry_run": True}),
            ("/v1/flags/auth/sync", {"running": True}),
        ]:
            answer = viewer.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "read_only")
    assert revision(api) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_call(shared: Rig, headers: dict[str, str]) -> None:
    with shared.client(**headers) as client:
        answer = client.post("/v1/flags/auth/flip", json={"stage": "shadow"})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


def test_the_same_site_can_call(shared: Rig) -> None:
    with shared.client(Origin=shared.url, **{"Sec-Fetch-Site": "same-origin"}) as client:
        assert client.get("/v1/flags").status_code == 200


def test_health_and_metrics_need_no_token(shared: Rig, api: httpx.Client) -> None:
    with shared.client(token=None) as client:
        assert client.get("/healthz").text == "ok\n"
        assert client.get("/readyz").text == "ready\n"
        metrics = client.get("/metrics").text
    assert 'strangler_control_calls_total{status="200",verb="apply_files"}' in metrics


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/flags/auth/flip", {"stage": "shadow", "dry_rum": True}, 400, "bad_body"),
        ("POST", "/v1/flags/auth/flip", {"stage": "canary", "weight": "25%"}, 400, "bad_body"),
        ("POST", "/v1/flags/auth/flip", {"stage": "shadow", "wait_s": 1e9}, 400, "bad_body"),
        ("POST", "/v1/flags/auth/flip", [], 400, "bad_body"),
        ("POST", "/v1/flags/nobody/flip", {"stage": "shadow"}, 404, "unknown_name"),
        ("POST", "/v1/flags/auth/flip", {"stage": "beta"}, 404, "unknown_name"),
        ("POST", "/v1/flags/auth/flip", {"stage": "canary"}, 409, "stage_skipped"),
        ("POST", "/v1/flags/auth/flip", {"stage": "shadow", "if_revision": 999}, 412, "revision_moved"),
        ("POST", "/v1/flags/payments/flip", {"stage": "shadow"}, 409, "gate_refused"),
        ("POST", "/v1/flags/auth/flip", {"stage": "shadow", "weight": 5}, 422, "bad_weight"),
        ("GET", "/v1/routes/nobody", None, 404, "unknown_name"),
        ("GET", "/v1/audit?limit=many", None, 400, "bad_query"),
        ("GET", "/v1/nothing", None, 404, "not_found"),
        ("DELETE", "/v1/flags/auth/flip", None, 405, "method_not_allowed"),
    ],
)
def test_bad_calls_are_told_apart_and_change_nothing(
    api: httpx.Client, method: str, path: str, body: Any, status: int, code: str
) -> None:
    before = api.get("/v1/status").json()["flags"]
    answer = api.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]
    now = api.get("/v1/status").json()["flags"]
    assert [(flag["stage"], flag["weight"]) for flag in now] == [(flag["stage"], flag["weight"]) for flag in before]


def test_a_body_that_is_not_json_or_too_large_is_refused(api: httpx.Client) -> None:
    assert api.post("/v1/apply", content=b"{").json()["code"] == "malformed_body"
    assert api.post("/v1/apply", content=b" " * 8_000_001).json()["code"] == "too_large"


def test_a_malformed_file_is_told_with_line_and_nothing_is_written(api: httpx.Client) -> None:
    before = revision(api)
    files = [*plan_files(), {"name": "migrations_plan/third.toml", "text": "[routes.x]\npath = 3\n"}]
    answer = api.post("/v1/apply", json={"files": files})
    assert answer.status_code == 422
    assert 'migrations_plan/third.toml:2: route "x": path must be text, got 3' in answer.json()["problems"]
    assert revision(api) == before


def test_a_flip_in_the_same_moment_as_another_is_done_once(shared: Rig, api: httpx.Client) -> None:
    make_live(shared, "auth")
    api.post("/v1/flags/auth/flip", json={"stage": "monolith"})
    api.post("/v1/flags/auth/flip", json={"stage": "shadow"})
    now = revision(api)

    def one(weight: int) -> httpx.Response:
        return api.post("/v1/flags/auth/flip", json={"stage": "canary", "weight": weight, "if_revision": now})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(1, 9)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert api.get("/v1/flags/auth").json()["flag"]["weight"] == winner["after"]["weight"]
    assert revision(api) == now + 1
    history = api.get("/v1/flags/auth/history", params={"limit": 1}).json()["entries"]
    assert history[0]["after"]["weight"] == winner["after"]["weight"]
    api.post("/v1/flags/auth/flip", json={"stage": "monolith"})


def test_flips_of_two_flags_in_the_same_moment_both_happen(shared: Rig, api: httpx.Client) -> None:
    for key in ("auth", "payments"):
        make_live(shared, key)
        assert api.post(f"/v1/flags/{key}/flip", json={"stage": "shadow"}).status_code == 200
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for weight in range(100, 600, 100):
            calls = [
                pool.submit(api.post, f"/v1/flags/{key}/flip", json={"stage": "canary", "weight": weight})
                for key in ("auth", "payments")
            ]
            assert [call.result().status_code for call in calls] == [200, 200]
    assert api.get("/v1/audit/verify").json()["intact"]
    for key in ("auth", "payments"):
        api.post(f"/v1/flags/{key}/flip", json={"stage": "monolith"})


def test_a_flip_says_how_long_live_proxies_took_and_names_the_one_that_did_not(shared: Rig, api: httpx.Client) -> None:
    make_live(shared, "auth")
    with Proxy(shared.database_url, "quick"):
        answer = api.post("/v1/flags/auth/flip", json={"stage": "shadow", "wait_s": 5.0}).json()
        assert answer["acknowledged"]["complete"]
        assert answer["acknowledged"]["by"] == ["quick"]
        assert 0 < answer["acknowledged"]["seconds"] < 2
        with Proxy(shared.database_url, "slow", follows=False, refused="route x names no cluster"):
            began = time.monotonic()
            answer = api.post("/v1/flags/auth/flip", json={"stage": "canary", "weight": 9, "wait_s": 0.5}).json()
            assert 0.4 < time.monotonic() - began < 5
            assert not answer["acknowledged"]["complete"]
            (missing,) = answer["acknowledged"]["missing"]
            assert (missing["proxy_id"], missing["refused_table"]) == ("slow", "route x names no cluster")
            status = api.get("/v1/status").json()
            assert status["acknowledged"] == {"by": 1, "of": 2}
            assert status["flags"][0]["weight"] == 9, "the change stands"
    api.post("/v1/flags/auth/flip", json={"stage": "monolith"})


def test_a_dry_run_says_the_same_and_does_nothing(shared: Rig, api: httpx.Client) -> None:
    make_live(shared, "auth")
    before = revision(api)
    answer = api.post("/v1/flags/auth/flip", json={"stage": "shadow", "dry_run": True, "wait_s": 1.0}).json()
    assert (answer["before"]["stage"], answer["after"]["stage"], answer["changed"]) == ("monolith", "shadow", False)
    assert revision(api) == before
    assert api.post("/v1/flags/auth/flip", json={"stage": "canary", "dry_run": True}).json()["code"] == "stage_skipped"


def test_who_calls_is_in_the_audit_entry_without_control_characters(shared: Rig, api: httpx.Client) -> None:
    make_live(shared, "auth")
    api.post(
        "/v1/flags/auth/flip",
        json={"stage": "shadow", "reason": "because"},
        headers=[(b"Strangler-Actor", b"ada@desk\t\xe9")],
    )
    entry = api.get("/v1/flags/auth/history").json()["entries"][0]
    assert (entry["actor"], entry["reason"], entry["verb"]) == ("ada@desk??", "because", "flip")
    api.post("/v1/flags/auth/flip", json={"stage": "monolith"})


def test_a_flip_that_the_database_holds_up_is_given_up_in_time_and_nothing_is_half_done(
    shared: Rig, api: httpx.Client
) -> None:
    make_live(shared, "auth")
    before = api.get("/v1/flags/auth").json()
    with psycopg.connect(shared.database_url) as connection:
        connection.execute("SELECT * FROM strangler.state FOR UPDATE")
        began = time.monotonic()
        answer = api.post("/v1/flags/auth/flip", json={"stage": "shadow"})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert time.monotonic() - began < 8
    time.sleep(0.3)
    after = api.get("/v1/flags/auth").json()
    assert (after["revision"], after["flag"]["stage"]) == (before["revision"], "monolith")
    assert api.post("/v1/flags/auth/flip", json={"stage": "shadow"}).status_code == 200
    api.post("/v1/flags/auth/flip", json={"stage": "monolith"})


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    async def slow(call: Call) -> dict[str, Any]:
        await asyncio.sleep(20)
        return {}

    store = memory_store()
    desk = Desk(store, Access(TOKEN, None, now=time.monotonic), deadline_s=0.05)
    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": headers, "query_string": b"wait_s=0.1"}
    began = time.monotonic()
    answer = await desk.take(Request(scope), {"GET": Endpoint(method="GET", path="/x", verb=slow)})
    await store.close()
    assert 0.1 < time.monotonic() - began < 5
    assert (answer.status_code, json.loads(bytes(answer.body))["exit_code"]) == (504, 5)


def test_many_wrong_tokens_are_429_for_a_while(database: str, tmp_path: Path) -> None:
    with control_rig(database, tmp_path) as rig:
        with rig.client("a-wrong-token-again") as client:
            codes = [client.get("/v1/status").status_code for _ in range(12)]
            assert codes == [401] * 10 + [429] * 2
            assert int(client.get("/v1/status").headers["retry-after"]) in range(1, 62)
        with rig.client() as client:
            assert client.get("/v1/status").status_code == 429, "not even the right token says that it is right"
        with rig.client(token=None) as client:
            assert client.get("/healthz").status_code == 200


def test_with_the_database_away_every_call_says_so_in_time(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    url = create_database(postgres, "away")
    with control_rig(url, tmp_path) as rig:
        with rig.client() as client:
            assert client.get("/v1/status").status_code == 200
        drop_database(postgres, url)
        with rig.client() as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            for call in (
                lambda: client.get("/v1/status"),
                lambda: client.post("/v1/flags/auth/flip", json={"stage": "shadow"}),
                lambda: client.post("/v1/apply", json={"files": plan_files()}),
            ):
                began = time.monotonic()
                answer = call()
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
                assert answer.json()["next_command"]
                assert time.monotonic() - began < 8
        done = rig.run("status")
        assert done.code == 1
        assert "control database" in done.err


def test_a_flip_waits_for_a_moment_of_lag_where_it_may_wait(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    url = create_database(postgres, "control_lag")
    with control_rig(url, tmp_path) as rig, rig.client() as client:
        assert client.post("/v1/apply", json={"files": plan_files()}).status_code == 200
        make_live(rig, "auth", lag_seconds=3.2)
        hasty = client.post("/v1/flags/auth/flip", json={"stage": "shadow"})
        assert (hasty.status_code, hasty.json()["code"]) == (409, "gate_refused")
        asked = httpx.Timeout(30.0)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            flip = pool.submit(
                client.post, "/v1/flags/auth/flip", json={"stage": "shadow", "wait_s": 20}, timeout=asked
            )
            time.sleep(0.6)
            assert not flip.done()
            make_live(rig, "auth", lag_seconds=0.1)
            answer = flip.result(timeout=20)
            assert answer.status_code == 200, answer.text
            assert client.get("/v1/flags/auth").json()["flag"]["stage"] == "shadow"
    drop_database(postgres, url)
