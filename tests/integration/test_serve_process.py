"""`strangler serve` as real processes: outages, cold starts, kill files, several processes, and leaving."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store, migrate, open_store
from tests.ports.store_samples import CATALOG, LEDGER, applied, at_upstreams
from tests.running_proxy import NamedUpstream, RunningProxy, Traffic
from tests.servers import EmbeddedPostgres, free_port
from tests.servers_stopped import stopped

PATHS = {"/api/catalog": "GET", "/api/ledger/1": "POST", "/": "GET"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder: Path = tmp_path_factory.mktemp("serve")
    server = EmbeddedPostgres(folder / "data", settings={"fsync": "off"}).start()
    yield server
    server.stop()


@pytest.fixture
def monolith() -> Iterator[NamedUpstream]:
    upstream = NamedUpstream("monolith")
    yield upstream
    upstream.close()


@pytest.fixture
def extracted() -> Iterator[NamedUpstream]:
    upstream = NamedUpstream("extracted")
    yield upstream
    upstream.close()


@pytest.fixture
def control(server: EmbeddedPostgres, monolith: NamedUpstream, extracted: NamedUpstream) -> str:
    """URL of a control database where both capabilities are applied, at `monolith`."""
    with psycopg.connect(server.url()) as connection:
        connection.execute("DROP SCHEMA IF EXISTS strangler CASCADE")
    migrate(server.url())
    ports = {"monolith": monolith.port, "extracted": extracted.port}
    change(server.url(), lambda store: applied(store, [at_upstreams(c, **ports) for c in (CATALOG, LEDGER)]))
    return server.url()


def change(url: str, work: Callable[[Store], object]) -> object:
    """Do something with a store, from outside of any event loop."""

    async def run() -> object:
        store = open_store(url)
        try:
            return await work(store)  # type: ignore[misc]
        finally:
            await store.close()

    return asyncio.run(run())


def to_extracted(url: str) -> None:
    """The catalogue serves from extracted, and the ledger's rows belong to it."""

    async def work(store: Store) -> None:
        for stage in (Stage.SHADOW, Stage.CANARY, Stage.EXTRACTED):
            await store.switches.set_stage("catalog", stage=stage, weight=0, by="a", reason="", expected_revision=None)
        moved = Ownership(owner=Origin.EXTRACTED, epoch=1)
        await store.flags.release("ledger", moved, stage="extracted", weight=0, by="w", reason="")

    change(url, work)


def until(holds: Callable[[], bool], within_s: float) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < within_s, f"not within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - begun


def live(url: str) -> dict[str, int]:
    return {h.proxy_id: h.revision for h in change(url, lambda store: store.flags.live_proxies())}  # type: ignore[attr-defined]


def test_one_upstream_without_database_and_file_and_leaving_lets_requests_end(
    tmp_path: Path, monolith: NamedUpstream
) -> None:
    upstream = f"http://127.0.0.1:{monolith.port}"
    with (
        RunningProxy(tmp_path, STRANGLER_UPSTREAM=upstream, STRANGLER_DRAIN_NOTICE_S="0.5") as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        proxy.start()
        assert proxy.get("/anything") == "monolith"
        assert proxy.health("/healthz") == (200, "ok\n")
        assert proxy.health("/readyz") == (200, "ready\n")
        assert proxy.metric("strangler_proxy_table_revision") == 0
        slow = pool.submit(proxy.get, "/slow")
        time.sleep(0.2)
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGTERM)
        until(lambda: proxy.health("/readyz") == (503, "draining\n"), 0.4)
        assert proxy.get("/") == "monolith", "it still listens until the load balancer has noticed"
        assert slow.result(5) == "monolith"
        assert proxy.process.wait(10) == 0
        assert not proxy.state_dir.exists()


def test_the_flag_table_is_followed_and_the_proxy_is_in_it_until_it_leaves(
    tmp_path: Path, control: str, monolith: NamedUpstream
) -> None:
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=control) as proxy:
        proxy.start()
        assert proxy.get("/api/catalog") == "monolith"
        to_extracted(control)
        until(lambda: proxy.get("/api/catalog") == "extracted", 2)
        assert proxy.get("/") == "monolith"
        assert list(live(control).values()) == [5]
        assert proxy.metric("strangler_proxy_table_revision") == 5
        assert proxy.metric("strangler_proxy_table_age_seconds") < 2
        assert proxy.stop() == 0
        assert live(control) == {}
        events = [json.loads(line)["message"] for line in proxy.log().splitlines()]
        assert {"proxy.started", "table.swapped", "proxy.draining", "proxy.stopped"} <= set(events)


def test_a_stopped_database_under_traffic_fails_no_request(
    tmp_path: Path, control: str, server: EmbeddedPostgres
) -> None:
    to_extracted(control)
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=control) as proxy:
        proxy.start()
        with Traffic(proxy.url, PATHS) as traffic:
            time.sleep(1)
            with stopped(server):
                time.sleep(3)
                assert proxy.metric("strangler_proxy_table_age_seconds") > 1.9
                assert proxy.health("/readyz")[0] == 200
            server.kill()
            time.sleep(1)
            server.start()
            until(lambda: proxy.metric("strangler_proxy_table_age_seconds") < 1, 5)
        assert traffic.failures == []
        assert len(traffic.seconds) > 100
        assert sorted(traffic.seconds)[int(len(traffic.seconds) * 0.99)] < 0.25
        assert proxy.stop() == 0


@pytest.mark.parametrize("away", ["refused", "stopped"])
def test_a_start_with_the_database_away_serves_the_table_on_disk(
    tmp_path: Path, control: str, server: EmbeddedPostgres, away: str
) -> None:
    to_extracted(control)
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=control) as proxy:
        usual_s = proxy.start()
        until(lambda: (proxy.state_dir / "table.json").exists(), 3)
        proxy.stop()
        if away == "refused":
            proxy.environment["STRANGLER_DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
            took_s = proxy.start()
            assert proxy.get("/api/catalog") == "extracted"
            assert proxy.stop() == 0
        else:
            with stopped(server):
                took_s = proxy.start()
                assert proxy.get("/api/catalog") == "extracted"
                assert proxy.metric("strangler_proxy_table_revision") == 5
                assert proxy.stop() == 0
        assert took_s < usual_s + 1.5, "a busy machine makes both longer"


def test_a_torn_table_file_leaves_the_one_before_and_none_at_all_the_default_upstream(
    tmp_path: Path, control: str, monolith: NamedUpstream
) -> None:
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    upstream = f"http://127.0.0.1:{monolith.port}"
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=control, STRANGLER_UPSTREAM=upstream) as proxy:
        proxy.start()
        until(lambda: (proxy.state_dir / "table.json").exists(), 3)
        to_extracted(control)
        until(lambda: (proxy.state_dir / "table.previous.json").exists(), 3)
        until(lambda: proxy.get("/api/catalog") == "extracted", 2)
        time.sleep(0.3)
        proxy.stop()
        proxy.environment["STRANGLER_DATABASE_URL"] = nowhere
        newest = proxy.state_dir / "table.json"
        newest.write_bytes(newest.read_bytes()[:200])
        proxy.start()
        assert 1 <= proxy.metric("strangler_proxy_table_revision") <= 4
        assert proxy.get("/") == "monolith"
        proxy.stop()
        for path in proxy.state_dir.glob("table*.json"):
            path.write_bytes(b"torn")
        proxy.start()
        assert proxy.metric("strangler_proxy_table_revision") == 0
        assert proxy.get("/api/catalog") == "monolith"
        assert "table.file_unusable" in proxy.log()
        proxy.stop()


def test_a_kill_file_works_with_the_database_down(tmp_path: Path, control: str, server: EmbeddedPostgres) -> None:
    to_extracted(control)
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=control) as proxy:
        proxy.start()
        assert proxy.get("/api/catalog") == "extracted"
        with stopped(server):
            (proxy.state_dir / "kill-catalog").touch()
            assert until(lambda: proxy.get("/api/catalog") == "monolith", 1.5) < 1
            (proxy.state_dir / "kill-all").touch()
            until(lambda: proxy.metric("strangler_proxy_kill_switches_count") == 2, 1.5)
            assert proxy.get("/api/ledger/1") == "monolith"
            refused = httpx.post(f"{proxy.url}/api/ledger/1", timeout=5, trust_env=False)
            assert refused.status_code == 503, "extracted owns the rows: the writer has to be moved back first"
            assert "Retry-After" in refused.headers
            for name in ("kill-catalog", "kill-all"):
                (proxy.state_dir / name).unlink()
            until(lambda: proxy.get("/api/catalog") == "extracted", 1.5)
        assert proxy.stop() == 0


def test_without_a_table_and_without_an_upstream_the_first_table_is_waited_for(
    tmp_path: Path, control: str, server: EmbeddedPostgres, monolith: NamedUpstream
) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("DROP SCHEMA strangler CASCADE")
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=control) as proxy, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(proxy.start)
        until(lambda: "table.awaited" in (proxy.log() if proxy.log_path.exists() else ""), 10)
        assert proxy.health("/readyz")[0] == 503
        assert proxy.health("/healthz")[0] == 200
        migrate(control)
        sample = at_upstreams(CATALOG, monolith=monolith.port, extracted=1)
        change(control, lambda store: applied(store, [sample]))
        begun.result(10)
        assert proxy.get("/") == "monolith"
        assert proxy.stop() == 0


def test_two_processes_share_the_port_and_a_killed_one_is_back(tmp_path: Path, control: str) -> None:
    with RunningProxy(tmp_path, workers=2, STRANGLER_DATABASE_URL=control) as proxy:
        proxy.start()
        until(lambda: len(live(control)) == 2, 10)
        assert [proxy.health("/readyz", number)[0] for number in (0, 1)] == [200, 200]
        children = proxy.family()[1:]
        assert len(children) == 2
        children[0].kill()
        until(lambda: len(proxy.family()) == 3 and children[0].pid not in [p.pid for p in proxy.family()], 5)

        def both_ready() -> bool:
            try:
                return [proxy.health("/readyz", number)[0] for number in (0, 1)] == [200, 200]
            except httpx.TransportError:
                return False

        until(both_ready, 10)
        to_extracted(control)
        until(lambda: all(proxy.get("/api/catalog") == "extracted" for _ in range(10)), 3)
        assert proxy.stop() == 0
        assert live(control).keys() <= {f"{os.uname().nodename}-{children[0].pid}"}, "those that drained have left"
        assert [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_processes_without_their_parent_end_by_themselves_and_a_second_signal_ends_all_at_once(
    tmp_path: Path, monolith: NamedUpstream
) -> None:
    with RunningProxy(tmp_path, workers=2, STRANGLER_UPSTREAM=f"http://127.0.0.1:{monolith.port}") as proxy:
        proxy.start()
        assert proxy.process is not None
        parent, *children = proxy.family()
        parent.send_signal(signal.SIGKILL)
        proxy.process.wait(5)
        assert psutil.wait_procs(children, timeout=10)[1] == []
        proxy.environment["STRANGLER_DRAIN_NOTICE_S"] = "60"
        proxy.start()
        proxy.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert proxy.process.poll() is None
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(10) == 0


def test_bad_settings_stop_the_start_with_all_problems(tmp_path: Path) -> None:
    bad = {"STRANGLER_UPSTREAM": "https://a/b", "STRANGLER_TRUSTED_PROXIES": "x", "STRANGLER_SIGNING_SECRET": "a"}
    with RunningProxy(tmp_path, **bad) as proxy:
        with pytest.raises(RuntimeError):
            proxy.start()
        assert proxy.process is not None
        assert proxy.process.wait(5) == 2
        assert [setting for setting in bad if setting not in proxy.log()] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_a_sentence(tmp_path: Path, monolith: NamedUpstream, workers: int) -> None:
    with RunningProxy(tmp_path, workers=workers, STRANGLER_UPSTREAM="http://127.0.0.1:9") as proxy:
        proxy.environment["STRANGLER_LISTEN"] = f"127.0.0.1:{monolith.port}"
        with pytest.raises(RuntimeError):
            proxy.start()
        assert proxy.process is not None
        assert proxy.process.wait(10) == 1
        assert f"cannot listen on 127.0.0.1:{monolith.port}" in proxy.log()
