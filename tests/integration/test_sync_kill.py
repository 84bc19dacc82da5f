"""A real worker process, killed at random points of cutovers in both directions, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store, migrate, open_store
from tests.integration.sync_clients import Clients, account
from tests.integration.sync_rig import declared, ready, start
from tests.integration.sync_world import World, until
from tests.servers import ROOT, free_port

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED
DELAYS_S = (0.0, 0.03, 0.08, 0.15, 0.3)
"""From the record to the kill: before the fence, in the catch-up, around the decision, after it."""


class Process:
    """`strangler worker`, started, killed and started again."""

    def __init__(self, world: World, control: str, log: Path) -> None:
        self.port = free_port()
        names = {world.manifest.databases[origin]: url for origin, url in world.sync_urls().items()}
        self._environment = {
            **os.environ,
            "STRANGLER_DATABASE_URL": control,
            "STRANGLER_WORKER_ID": "w1",  # its leases are its own again after a restart
            "STRANGLER_WORKER_LISTEN": f"127.0.0.1:{self.port}",
            **{f"STRANGLER_DATA_URL__{name.upper()}": url for name, url in names.items()},
        }
        self._log = log.open("ab")
        self.start()

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "strangler"), "worker"]
        self.process = subprocess.Popen(
            command, env=self._environment, cwd=ROOT, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def leave(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


async def owner_of(world: World) -> Origin | None:
    """The side that is open."""
    for origin in Origin:
        if world.value(origin, "SELECT open FROM strangler.ownership"):
            return origin
    return None


async def test_a_worker_killed_anywhere_in_a_cutover_loses_nothing(
    world: World, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    control = make_database("control")
    await asyncio.to_thread(migrate, control)
    store = await declared(open_store(control), world)
    clients = Clients(world, 3, seed=5)
    process = Process(world, control, tmp_path / "worker.log")
    try:
        await start(store, world)
        with clients.writing():
            for delay_s in DELAYS_S:
                await one(world, control, store, process, delay_s)
        owner = await owner_of(world)
        assert owner is not None
        await until(world.same, 15)
        account(world, clients, owner)
        flag, _ = await store.flags.flag("people")
        assert (flag.owner, flag.hold) == (owner, None)
        ends = await store.records.operations("people", 20)
        print({operation.id: (operation.status, operation.detail) for operation in ends})
        assert any("gone" in operation.detail for operation in ends), "no kill hit a cutover: nothing was tried"
        assert "strangler_sync_live" in await asyncio.to_thread(fetch, process.port, "/metrics")
        assert await asyncio.to_thread(fetch, process.port, "/readyz") == "ready\n"
        assert await asyncio.to_thread(process.leave) == 0
    finally:
        process.close()
        await store.close()


async def one(world: World, control: str, store: Store, process: Process, delay_s: float) -> None:
    """Ask for a cutover, kill the worker at some point of it, start it; wait until one side is open and in step."""
    owner = await owner_of(world)
    assert owner is not None
    await ready(store, "people", seconds=30)
    await store.switches.request("cutover", "people", {"to": owner.other.value}, by="test", reason="")
    record = "SELECT count(*) FROM strangler.cutover WHERE status = 'holding'"
    with contextlib.suppress(AssertionError):  # quicker than the look, or refused: killed between cutovers then
        await until(lambda: world.value(owner, record), 2)
    await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))
    await asyncio.to_thread(process.kill)
    with psycopg.connect(control, autocommit=True) as admin:  # its leases run out
        admin.execute("UPDATE strangler.operation SET lease_until = now() WHERE status = 'running'")
    process.start()

    async def settled() -> bool:
        under_way = "SELECT count(*) FROM strangler.cutover WHERE status IN ('holding', 'committed')"
        if any(world.value(origin, under_way) for origin in Origin) or await owner_of(world) is None:
            return False
        newest = (await store.records.operations("people", 1))[0]
        return newest.status not in ("queued", "running")

    await until(settled, 30)
