"""What the first issue promises, shown: flips, cutovers, outages and kills under steady traffic."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from strangler_proxy.core.errors import GateRefused
from tests.acceptance.account import draw_up
from tests.acceptance.stack import Stack, VerbFailed, held_ms
from tests.acceptance.traffic import Sheet, Traffic, percentile, summary

pytestmark = pytest.mark.chaos

FLAGS = ("auth", "payments")
FIGURES = Path(os.environ.get("STRANGLER_FIGURES", "var/figures.txt"))


def keep_figure(line: str) -> None:
    """Print a measured figure and keep it for the docs."""
    print(line)
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    with FIGURES.open("a") as file:
        file.write(line + "\n")


async def under_traffic(stack: Stack, work: Callable[[Traffic], Awaitable[None]], *, shoppers: int = 5) -> Sheet:
    """Do `work` while people shop; the sheet when everybody has left."""
    traffic = Traffic(stack.proxy_url, shoppers=shoppers, seed=random.randrange(1 << 30))
    await traffic.start()
    try:
        await asyncio.sleep(1.0)
        await work(traffic)
    finally:
        sheet = await traffic.stop()
    return sheet


def check_account(stack: Stack, sheet: Sheet, *, exact: bool) -> None:
    """Clients, ledger and both databases have to agree."""
    for flag in FLAGS:
        stack.wait_until_equal(flag, timeout_s=60.0)
    url, token = stack.processor()
    owner = stack.stage("payments")["owner"]
    account = draw_up(sheet, stack.dsns, owner_of_payments=owner, processor_url=url, token=token, exact=False)
    assert not account.problems, "\n".join(account.problems) + "\n" + summary(sheet)
    if exact:
        assert not sheet.failures, summary(sheet)


def cutover(stack: Stack, flag: str, refused: list[str]) -> float:
    """Move the writer to the other side; how long requests were held in ms. A gate may refuse three times."""
    back = stack.stage(flag)["stage"] == "extracted"
    words = ("canary", "--weight", "50%", "--reason", "back") if back else ("extracted", "--reason", "forth")
    for _ in range(3):
        try:
            return held_ms(stack.flip(flag, *words))
        except VerbFailed as refusal:
            if GateRefused.__name__ not in str(refusal):
                raise
            refused.append(str(refusal))
            time.sleep(1.0)
    return held_ms(stack.flip(flag, *words))


@pytest.mark.timeout(500)
async def test_a_hundred_flips_and_ten_cutovers_under_traffic_lose_nothing(stack: Stack) -> None:
    acknowledged: list[float] = []
    holds: list[float] = []
    refused: list[str] = []
    rng = random.Random(7)

    def flips(count: int) -> None:
        for _ in range(count):
            flag = rng.choice([f for f in FLAGS if stack.stage(f)["stage"] == "canary"] or [None])  # type: ignore[list-item]
            if flag is None:
                return
            body = {"stage": "canary", "weight": rng.randint(0, 10_000), "reason": "again", "wait_s": 10.0}
            try:
                done = stack.call("POST", f"/v1/flags/{flag}/flip", body)
            except httpx.HTTPStatusError as refusal:  # a gate: the copy is too far behind at this moment
                if refusal.response.status_code != 409:
                    raise
                refused.append(refusal.response.json()["detail"])
                time.sleep(0.5)
                continue
            acknowledged.append(1000 * float(done["acknowledged"]["seconds"]))

    async def work(traffic: Traffic) -> None:
        started = time.monotonic()
        for turn in range(10):
            flag = FLAGS[turn % 2]
            await asyncio.to_thread(flips, 10)
            holds.append(await asyncio.to_thread(cutover, stack, flag, refused))
        while len(acknowledged) < 100:
            for flag in FLAGS:
                if stack.stage(flag)["stage"] == "extracted":
                    holds.append(await asyncio.to_thread(cutover, stack, flag, refused))
            await asyncio.to_thread(flips, 100 - len(acknowledged))
        await asyncio.sleep(max(0.0, 60.0 - (time.monotonic() - started)))

    sheet = await under_traffic(stack, work)
    check_account(stack, sheet, exact=True)
    print(f"refused by a gate meanwhile: {refused}")
    assert len(acknowledged) >= 100
    assert len(holds) >= 10
    keep_figure(
        f"flip acknowledged by all proxies: p50 {percentile(acknowledged, 0.5):.0f} ms, "
        f"p99 {percentile(acknowledged, 0.99):.0f} ms over {len(acknowledged)} flips under traffic"
    )
    keep_figure(
        f"cutover hold: p50 {percentile(holds, 0.5):.0f} ms, max {max(holds):.0f} ms over {len(holds)} cutovers; "
        f"{sheet.requests} requests meanwhile, {len(sheet.failures)} failed"
    )


class ControlDatabaseAway:
    """Refuses every connection to the control database while the others on that server go on."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.administrator_url
        self._name = stack.dsns["control"].rpartition("/")[2]

    def __enter__(self) -> None:
        self._allow("false")

    def __exit__(self, *_: object) -> None:
        self._allow("true")

    def _allow(self, yes: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS {yes}'.encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self._name,)
            )


@pytest.mark.timeout(300)
async def test_a_minute_without_the_control_database_after_a_cutover_that_a_proxy_missed(stack: Stack) -> None:
    async def work(traffic: Traffic) -> None:
        workers = await asyncio.to_thread(proxy_workers, stack)
        paused = workers[0]
        os.kill(paused, signal.SIGSTOP)
        try:
            await asyncio.sleep(4.0)  # it is not live any more, so the cutover does not wait for it
            await asyncio.to_thread(cutover, stack, "payments", [])
            with ControlDatabaseAway(stack):
                os.kill(paused, signal.SIGCONT)
                await asyncio.sleep(20.0)
                os.kill(workers[1], signal.SIGKILL)  # a proxy that starts meanwhile serves
                await asyncio.sleep(40.0)
                assert (await asyncio.to_thread(stack.served)).status_code == 200
                assert len(await asyncio.to_thread(proxy_workers, stack)) == 2
        finally:
            os.kill(paused, signal.SIGCONT)
        await asyncio.sleep(3.0)

    sheet = await under_traffic(stack, work, shoppers=4)
    killed_in_flight = [
        f for f in sheet.failures if "ReadError" in f or "RemoteProtocolError" in f or "ConnectError" in f
    ]
    assert len(killed_in_flight) <= 4, summary(sheet)  # what the killed process had in its hands
    assert len(sheet.failures) == len(killed_in_flight), summary(sheet)
    check_account(stack, sheet, exact=False)


def proxy_workers(stack: Stack) -> list[int]:
    """Process ids of the proxy's workers (children of its parent)."""
    import psutil

    parent = psutil.Process(stack.processes()["proxy"]["pid"])
    return [child.pid for child in parent.children() if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.mark.timeout(500)
async def test_kill_9_of_each_process_under_traffic_loses_nothing_acknowledged(stack: Stack) -> None:
    names = [name for name, row in stack.processes().items() if row["kind"] == "process" and name not in ("processor",)]
    recovered: dict[str, float] = {}

    def restarted(name: str, old: int) -> bool:
        row = stack.processes()[name]
        return row["pid"] != old and row["state"] == "ready"

    async def work(traffic: Traffic) -> None:
        for turn, name in enumerate(names):
            cut = asyncio.create_task(asyncio.to_thread(try_cutover, stack, FLAGS[turn % 2]))
            await asyncio.sleep(0.8)
            old = stack.processes()[name]["pid"]
            os.kill(old, signal.SIGKILL)
            started = time.monotonic()
            while not await asyncio.to_thread(restarted, name, old):
                assert time.monotonic() - started < 30, f"{name} is not back: {stack.processes()[name]}"
                await asyncio.sleep(0.2)
            recovered[name] = time.monotonic() - started
            await cut
            assert (await asyncio.to_thread(stack.served)).status_code == 200

    sheet = await under_traffic(stack, work, shoppers=3)
    assert set(recovered) == set(names)
    check_account(stack, sheet, exact=False)
    worst = max(recovered, key=lambda name: recovered[name])
    keep_figure(f"back after kill -9: slowest {worst} with {recovered[worst]:.1f} s, of {len(names)} processes")


def try_cutover(stack: Stack, flag: str) -> None:
    """A cutover that may be refused or aborted because something was killed; nothing half done."""
    stage = stack.stage(flag)["stage"] if stack.processes()["control"]["state"] == "ready" else None
    if stage is None:
        return
    target = ["canary", "--weight", "50%"] if stage == "extracted" else ["extracted"]
    stack.run("flip", flag, *target, expect=None, timeout_s=90.0)


@pytest.mark.timeout(120)
def test_health_and_metrics_answer_everywhere(stack: Stack) -> None:
    ports = stack.ports
    for name in ("monolith", "auth", "payments", "proxy_admin", "control", "worker"):
        for path in ("/healthz", "/readyz", "/metrics"):
            answer = httpx.get(f"http://127.0.0.1:{ports[name]}{path}", timeout=10.0)
            assert answer.status_code == 200, f"{name}{path}: {answer.status_code} {answer.text[:200]}"
