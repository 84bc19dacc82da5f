"""`strangler serve --candidate`: mirrors, compares, and leaves a report; and shadow mode by a flag table."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import migrate, open_store
from strangler_proxy.store.evidence_opened import open_evidence
from tests.integration.engine_rig import Upstream, asleep, ok, wait_until
from tests.ports.store_samples import CATALOG, applied
from tests.running_proxy import RunningProxy

JSON = b"Content-Type: application/json\r\n"


@pytest.fixture
def control() -> Iterator[Upstream]:
    made = Upstream("monolith")
    made.default = ok(b'{"price": "1.10"}', JSON)
    yield made
    made.stop()


@pytest.fixture
def candidate() -> Iterator[Upstream]:
    made = Upstream("extracted")
    made.default = ok(b'{"price": "1.10"}', JSON)
    made.scripts[b"/odd"] = ok(b'{"price": "1.1"}', JSON)
    yield made
    made.stop()


def shadowing(folder: Path, control: Upstream, candidate: Upstream, *, workers: int = 1) -> RunningProxy:
    proxy = RunningProxy(folder, workers=workers, STRANGLER_EVIDENCE=str(folder / "evidence.sqlite"))
    proxy.arguments = [
        "--upstream", f"http://127.0.0.1:{control.port}", "--candidate", f"http://127.0.0.1:{candidate.port}",
        "--shadow", "100%", "--report", str(folder / "report.json"),
    ]  # fmt: skip
    return proxy


@pytest.mark.parametrize("workers", [1, 2])
def test_one_line_mirrors_compares_and_reports(
    tmp_path: Path, control: Upstream, candidate: Upstream, workers: int
) -> None:
    with shadowing(tmp_path, control, candidate, workers=workers) as proxy:
        proxy.start()
        for _ in range(40):
            proxy.get("/even")
            proxy.get("/odd?a=1")
        assert proxy.stop() == 0
        total = len(control.seen)
        log = proxy.log()
    report = json.loads((tmp_path / "report.json").read_text())
    asked_again = sum(seen.target == b"/even" or seen.target.startswith(b"/odd") for seen in control.seen) - 80
    # One that was asked again has the same id, and is not another request.
    sent = 80 + len({seen.head for seen in control.seen if seen.target == b"/"})
    assert sent >= 81
    assert report["coverage"]["eligible"] == sent, "every request is counted once: those that waited for the start too"
    assert report["coverage"]["eligible"] <= total
    assert asked_again >= 0
    assert report["verdict"] == "mismatched"
    (odd,) = [stratum for stratum in report["strata"] if stratum["path_template"] == "/odd"]
    assert odd["differences"][0]["path"] == "price"
    assert report["coverage"]["compared"] + sum(report["drops"].values()) == sent
    assert (tmp_path / "evidence.sqlite").exists()
    assert "report: " in log
    assert "evidence: " in log


def test_shadow_off_mirrors_nothing(tmp_path: Path, control: Upstream, candidate: Upstream) -> None:
    with shadowing(tmp_path, control, candidate) as proxy:
        proxy.arguments[proxy.arguments.index("100%")] = "0"
        proxy.start()
        proxy.get("/even")
        assert proxy.stop() == 0
    assert not candidate.seen


def test_a_sick_candidate_never_keeps_the_proxy_from_serving_or_leaving(
    tmp_path: Path, control: Upstream, candidate: Upstream
) -> None:
    candidate.default = asleep(30.0)
    with shadowing(tmp_path, control, candidate) as proxy:
        proxy.start()
        for _ in range(20):
            assert proxy.get("/even") == '{"price": "1.10"}'
        began = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - began < 15.0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["coverage"]["eligible"] == 21
    assert report["verdict"] != "matched"


def test_ctrl_c_on_a_terminal_breaks_no_request_that_is_under_way(
    tmp_path: Path, control: Upstream, candidate: Upstream
) -> None:
    control.scripts[b"/slow"] = asleep(1.0)
    with shadowing(tmp_path, control, candidate, workers=2) as proxy:
        proxy.start()
        asking = subprocess.Popen(
            [sys.executable, "-c", f"import httpx; print(httpx.get('{proxy.url}/slow', trust_env=False).text)"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert wait_until(lambda: b"/slow" in control.targets, 10.0)
        assert proxy.process is not None
        parent = proxy.process.pid
        group = [each.pid for each in proxy.family() if os.getpgid(each.pid) == os.getpgid(parent)]
        for pid in group:  # what a terminal does
            os.kill(pid, signal.SIGINT)
        assert asking.communicate(timeout=20)[0].strip() == "ok"
        assert proxy.process.wait(20) == 0


def test_a_flag_at_shadow_is_mirrored_and_its_evidence_is_in_the_control_database(
    tmp_path: Path, control: Upstream, candidate: Upstream, database: str
) -> None:
    async def declare() -> None:
        store = open_store(database)
        clusters = tuple(
            Cluster(name=name, endpoints=(Endpoint(host="127.0.0.1", port=upstream.port),))
            for name, upstream in (("monolith", control), ("catalog", candidate))
        )
        capability = dataclasses.replace(CATALOG, clusters=clusters, mirror_sample=10_000)
        revision = await applied(store, [capability])
        await store.switches.set_stage(
            "catalog", stage=Stage.SHADOW, weight=0, by="ada", reason="look", expected_revision=revision
        )
        await store.close()

    migrate(database)
    asyncio.run(declare())
    with RunningProxy(tmp_path, STRANGLER_DATABASE_URL=database) as proxy:
        proxy.start()
        proxy.get("/elsewhere")
        assert wait_until(lambda: bool(proxy.get("/api/catalog")) and len(candidate.seen) > 3, 20.0)
        assert {seen.target for seen in candidate.seen} == {b"/api/catalog"}
        text = proxy.health("/metrics")[1]
        assert 'strangler_mirror_eligible_total{flag="catalog"}' in text
        assert proxy.stop() == 0

    async def eligible() -> int:
        async with open_evidence(database) as book:
            return sum(tally.eligible for tally in await book.tallies("catalog"))

    assert asyncio.run(eligible()) > 0
