"""A real control process on a real database, the real CLI as a process, and proxies as far as their heartbeats go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.ports import Heartbeat
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store, migrate, open_store
from tests.integration.cli_process import Done, run_command
from tests.servers import ROOT, free_port

TOKEN = "operator-token-for-tests"
VIEWER = "viewer-token-for-tests"
PLANS = ROOT / "migrations_plan"


@dataclass(kw_only=True)
class Rig:
    """One control plane and everything that a test wants of it."""

    database_url: str
    folder: Path
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(default=Path())

    @property
    def url(self) -> str:
        """Address of the control plane."""
        return f"http://127.0.0.1:{self.port}"

    def run(self, *words: str, timeout_s: float = 30.0, **environment: str) -> Done:
        """The CLI as a process."""
        return run_command(words, self.environment | environment, self.folder, timeout_s=timeout_s)

    def start(self) -> None:
        """Start the control plane and wait until it answers."""
        self.log = self.folder / "control.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "strangler_proxy.cli.main", "control"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def client(self, token: str | None = TOKEN, **headers: str) -> httpx.Client:
        """A client of the API."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    def with_store(self, work: Callable[[Store], Any]) -> Any:
        """Run a coroutine function on the store."""

        async def run() -> Any:
            store = open_store(self.database_url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def set_stage(self, key: str, stage: Stage, weight: int = 0) -> int:
        """Set a stage past all gates; the new revision."""

        async def work(store: Store) -> int:
            return await store.switches.set_stage(
                key, stage=stage, weight=weight, by="test", reason="", expected_revision=None
            )

        return int(self.with_store(work))

    def stage_of(self, key: str) -> tuple[str, int]:
        """Stage and weight as the table has them."""

        async def work(store: Store) -> tuple[str, int]:
            flag, _ = await store.flags.flag(key)
            return flag.stage.value, flag.weight

        found: tuple[str, int] = self.with_store(work)
        return found

    def back_to_monolith(self) -> None:
        """End what was left open, publish streams that are fit, and set all flags back."""

        async def work(store: Store) -> None:
            while (operation := await store.operations.claim("tidy")) is not None:
                await store.operations.finish(operation.id, "tidy", "aborted", "")
            table = await store.records.table()
            for key, flag in table.flags.items():
                await store.sync.want(key, True)
                await store.sync.publish(key, live_stream(flag=key, source=flag.owner.value))
                if flag.stage is not Stage.MONOLITH and flag.owner is Origin.MONOLITH:
                    await store.switches.set_stage(
                        key, stage=Stage.MONOLITH, weight=0, by="test", reason="", expected_revision=None
                    )

        self.with_store(work)


@contextlib.contextmanager
def control_rig(database_url: str, folder: Path, *, start: bool = True) -> Iterator[Rig]:
    """A migrated database and a running control plane."""
    migrate(database_url)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STRANGLER_", "SHOP_"))}
    environment |= {
        "STRANGLER_DATABASE_URL": database_url,
        "STRANGLER_CONTROL_LISTEN": f"127.0.0.1:{port}",
        "STRANGLER_CONTROL_URL": f"http://127.0.0.1:{port}",
        "STRANGLER_CONTROL_TOKEN": TOKEN,
        "STRANGLER_VIEWER_TOKEN": VIEWER,
        "STRANGLER_PLANS_DIR": str(PLANS),
        "STRANGLER_ACKNOWLEDGE_TIMEOUT_S": "3",
        "STRANGLER_STATE_DIR": str(folder / "proxy"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    rig = Rig(database_url=database_url, folder=folder, port=port, environment=environment)
    if start:
        rig.start()
    try:
        yield rig
    finally:
        rig.stop()


class Proxy:
    """The heartbeats of a proxy: it takes every table (`follows`), or stays at revision 0 and says why."""

    def __init__(
        self,
        database_url: str,
        proxy_id: str,
        *,
        follows: bool = True,
        refused: str = "",
        upstreams: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._url = database_url
        self._id = proxy_id
        self._follows = follows
        self._refused = refused
        self._upstreams = upstreams or {}
        self._stop = threading.Event()
        self._beating = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._beating.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    async def _run(self) -> None:
        store = open_store(self._url, size=1)
        try:
            while not self._stop.is_set():
                revision = await store.tables.revision() if self._follows else 0
                await store.tables.beat(
                    Heartbeat(
                        proxy_id=self._id,
                        revision=revision,
                        refused_table=self._refused,
                        upstreams=self._upstreams,
                        address="here:1",
                    )
                )
                self._beating.set()
                await asyncio.sleep(0.05)
            await store.tables.leave(self._id)
        finally:
            await store.close()


def live_stream(**changes: object) -> dict[str, object]:
    """What a worker publishes of a stream that is fit to serve from."""
    return {
        "schema_version": 1,
        "flag": "auth",
        "source": "monolith",
        "target": "extracted",
        "mode": "live",
        "lag_seconds": 0.12,
        "dirty_keys": 0,
        "oldest_key_seconds": 0.0,
        "rows_done": 500,
        "rows_estimated": 500,
        "stuck": 0,
        "verified": True,
        "verified_at": "2026-11-22T12:00:00.000000Z",
        "error": "",
        "worker": "w1",
        "tables": [{"table": "accounts_user", "rows_done": 500, "rows_estimated": 500, "done": True}],
    } | changes


class Worker:
    """A worker as far as its operations go: claims the next one and ends it as it was told to."""

    def __init__(
        self, database_url: str, status: str, detail: str = "", steps: tuple[str, ...] = (), *, stage: str | None = None
    ) -> None:
        self._url = database_url
        self._status, self._detail, self._steps, self._stage = status, detail, steps, stage
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        store = open_store(self._url, size=1)
        try:
            while (operation := await store.operations.claim("stand-in")) is None:  # noqa: ASYNC110 -- it is polled
                await asyncio.sleep(0.05)
            for step in self._steps:
                await store.operations.step(operation.id, "stand-in", step, f"detail of {step}")
            if operation.kind == "sync_start":
                await store.sync.want(operation.flag, True)
            if self._stage is not None:
                flag, _ = await store.flags.flag(operation.flag)
                grant = Ownership(owner=Origin(operation.args["to"]), epoch=flag.owner_epoch + 1)
                await store.flags.release(
                    flag.key, grant, stage=self._stage, weight=int(operation.args["weight"]), by=operation.by, reason=""
                )
                await store.sync.publish(flag.key, live_stream(flag=flag.key, source=operation.args["to"]))
            await store.operations.finish(operation.id, "stand-in", self._status, self._detail)
        finally:
            await store.close()
