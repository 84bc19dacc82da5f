"""What a proof stands on: two PostgreSQL servers, lines with faults, two workers, flags, a heartbeat, clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.core.ports import Heartbeat
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.stage import Origin
from strangler_proxy.local.postgres import EmbeddedPostgres
from strangler_proxy.store import Store, migrate, open_store
from tests.integration.sync_world import build
from tests.prove.fault_line import Fault, Lines
from tests.prove.lane import Lane, create_database, manifest_of
from tests.prove.process import ProvedProcess
from tests.servers import free_port

M, E = Origin.MONOLITH, Origin.EXTRACTED
LINKS = ("monolith", "extracted", "control")
_SETTINGS = {"fsync": "on", "synchronous_commit": "on", "autovacuum_naptime": "1s", "max_connections": "300"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a site is made."""

    seed: int
    lanes: int = 6
    writers: int = 2
    short: bool = True
    bug: str = ""
    cast: bool = False

    @property
    def patience_s(self) -> float:
        """How long anything may take after healing; a seeded bug gets less."""
        return 40.0 if self.bug else 75.0


class Site:
    """Everything, started; `close` ends it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.heartbeat_paused = False
        self.servers = {
            M: EmbeddedPostgres(folder / "pg_monolith", settings=_SETTINGS).start(),
            E: EmbeddedPostgres(folder / "pg_extracted", settings=_SETTINGS).start(),
        }
        self.control_url = self.create(M, "control")
        migrate(self.control_url)
        self.lanes = [self._lane(number) for number in range(plan.lanes)]
        self.lines = Lines(
            {
                (worker, link): self.servers[E if link == "extracted" else M].port
                for worker in ("w1", "w2")
                for link in LINKS
            }
        )
        self.workers = [
            ProvedProcess(name, "tests.prove.faulty_worker", [], self._environment(name), folder)
            for name in ("w1", "w2")
        ]
        self.cast: list[ProvedProcess] = []
        self.also_heal: Callable[[], None] = lambda: None
        self.shop_ports = {M: free_port(), E: free_port()}
        self._clients: ProvedProcess | None = None
        self._begun = 0
        self.clients_also: dict[str, object] = {}

    def begin(self) -> None:
        """Workers."""
        for worker in self.workers:
            worker.start()

    def write(self) -> None:
        """Clients from now on, in a process of their own."""
        self._begun += 1
        config = self._config()
        config.write_text(
            json.dumps(
                {
                    "seed": self.plan.seed,
                    "begun": self._begun,
                    "writers": self.plan.writers,
                    "lanes": [lane.clients() for lane in self.lanes],
                    **self.clients_also,
                }
            )
        )
        self._clients = ProvedProcess(f"clients{self._begun}", "tests.prove.clients", [str(config)], {}, self.folder)
        self._clients.start()

    def rest(self, seconds: float = 75.0) -> list[str]:
        """Let clients end what they do; who did not end in time."""
        if self._clients is None:
            return []
        said = self._config().with_suffix(".late")
        self._config().with_suffix(".stop").touch()
        until = time.monotonic() + seconds
        while not said.exists() and time.monotonic() < until and not self._clients.ended():
            time.sleep(0.05)
        self._clients.close()
        self._clients = None
        return list(json.loads(said.read_text())) if said.exists() else ["all of them"]

    def crash(self, side: Origin) -> None:
        """`kill -9` of a server with all its backends, and start it again."""
        self.servers[side].kill()
        self.servers[side].start()

    def put(self, fault: Fault, *, worker: str = "", link: str = "") -> None:
        """A fault on lines: those of one worker, those to one database, or one."""
        for of, to in self.lines.faults:
            if worker in ("", of) and link in ("", to):
                self.lines.put((of, to), fault)

    def heal(self) -> None:
        """All lines as they should be, all processes running."""
        for armed in self.folder.glob("*.armed"):
            armed.unlink(missing_ok=True)
        self.heartbeat_paused = False
        self.put(Fault.NONE)
        self.also_heal()
        for process in (*self.workers, *self.cast):
            process.heal()

    def close(self) -> None:
        """End all of it."""
        for process in (*self.workers, *self.cast, *filter(None, [self._clients])):
            process.close()
        for lane in self.lanes:
            lane.world.close()
        self.lines.close()
        for server in self.servers.values():
            server.kill()

    def _config(self) -> Path:
        return self.folder / f"clients{self._begun}.json"

    def _lane(self, number: int) -> Lane:
        made = iter((M, E))
        world = build(lambda hint: self.create(next(made), f"{hint}_{number}"), manifest_of(number))
        return Lane(number, world, self.folder, patience_s=self.plan.patience_s)

    def create(self, side: Origin, name: str) -> str:
        """A database on that side's server; its url as superuser."""
        create_database(self.servers[side].url(), f"prove_{name}")
        return self.servers[side].url(f"prove_{name}")

    def _environment(self, worker: str) -> dict[str, str]:
        databases = {
            f"STRANGLER_DATA_URL__{lane.world.manifest.databases[side].upper()}": _through(
                url, self.lines.ports[worker, side.value]
            )
            for lane in self.lanes
            for side, url in lane.world.sync_urls().items()
        }
        more = {"PROVE_SHORT": "1", "STRANGLER_CUTOVER_DEADLINE_S": "4"} if self.plan.short else {}
        if self.plan.bug:
            more["PROVE_BUG"] = self.plan.bug
        return {
            "STRANGLER_DATABASE_URL": _through(self.control_url, self.lines.ports[worker, "control"]),
            "STRANGLER_WORKER_ID": worker,
            "PROVE_ARMED": str(self.folder),
            **databases,
            **more,
        }


@asynccontextmanager
async def proving(site: Site) -> AsyncGenerator[Store]:
    """A store past the lines, the flags declared, their streams wanted and in step, clients writing."""
    store = open_store(site.control_url, size=8)
    clusters = site_clusters(site)
    try:
        await store.switches.apply(
            [lane.capability(clusters) for lane in site.lanes],
            default_cluster="old",
            by="prove",
            reason="",
            expected_revision=None,
        )
        site.begin()
        await asyncio.gather(*(lane.start(store) for lane in site.lanes))
        async with _heartbeat(site, store):
            yield store
    finally:
        await store.close()


def site_clusters(site: Site) -> dict[Origin, Cluster]:
    """Where proxies send to; nobody listens there without a cast."""
    names = {M: "old", E: "new"}
    return {
        origin: Cluster(name=names[origin], endpoints=(Endpoint(host="127.0.0.1", port=port),))
        for origin, port in site.shop_ports.items()
    }


@asynccontextmanager
async def _heartbeat(site: Site, store: Store) -> AsyncGenerator[None]:
    """A proxy as the control database sees one: it serves each revision soon, and outlives that database."""

    async def beat() -> None:
        revision = 0
        while True:
            try:
                if not site.heartbeat_paused:
                    revision = await store.tables.revision()
                await store.tables.beat(Heartbeat(proxy_id="p0", revision=revision))
            except StoreUnavailable:
                pass  # it serves the table that it has
            await asyncio.sleep(0.05)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _through(url: str, port: int) -> str:
    return make_conninfo(url, host="127.0.0.1", port=str(port))


def ended_by(folder: Path) -> str:
    """The last words of processes, for a failure."""
    logs = sorted(folder.glob("*.log"), key=os.path.getmtime)
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-300:]}" for log in logs[-3:])
