"""What a proof stands on: two PostgreSQL servers, lines with faults, two workers, a proxy's heartbeat, writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from strangler_proxy.core.stage import Origin
from strangler_proxy.local.postgres import EmbeddedPostgres
from strangler_proxy.store import migrate
from tests.integration.sync_world import World, build
from tests.prove.fault_line import Fault, FaultLine
from tests.prove.history import History
from tests.prove.writers import DirectWriter, Writer
from tests.servers import ROOT

M, E = Origin.MONOLITH, Origin.EXTRACTED
CLIENTS = 3
_FAST = {"fsync": "on", "synchronous_commit": "on", "autovacuum_naptime": "1s", "max_connections": "100"}


class WorkerProcess:
    """One `strangler worker`, through the lines; restarted, stopped and killed by name."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._environment = {**os.environ, **environment, "STRANGLER_WORKER_ID": name}
        self._log = (folder / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **extra: str) -> None:
        """Start it, with a failpoint or a bug in the environment."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.faulty_worker"],
            env={**self._environment, **extra}, cwd=ROOT, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """A signal, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def ended(self) -> bool:
        """Has it died by itself?"""
        return self.process is None or self.process.poll() is not None

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._log.close()


class Site:
    """Everything, started; `close` ends it."""

    def __init__(self, folder: Path, *, seed: int, bug: str = "") -> None:
        self.folder = folder
        self.bug = {"PROVE_BUG": bug} if bug else {}
        self.history = History(folder / "history.jsonl")
        self.servers = {
            M: EmbeddedPostgres(folder / "pg_monolith", settings=_FAST).start(),
            E: EmbeddedPostgres(folder / "pg_extracted", settings=_FAST).start(),
        }
        made = iter((M, E))
        self.world: World = build(lambda hint: self._create(next(made), hint))
        self.control_url = self._create(M, "control")
        migrate(self.control_url)
        self.lines = {
            "monolith": FaultLine("127.0.0.1", self.servers[M].port),
            "extracted": FaultLine("127.0.0.1", self.servers[E].port),
            "control": FaultLine("127.0.0.1", self.servers[M].port),
        }
        self.workers = [WorkerProcess(name, self._environment(), folder) for name in ("w1", "w2")]
        self._prepare()
        self._seed = seed
        self.writers: list[Writer] = []
        self._watching = threading.Event()
        self._watchers = [threading.Thread(target=self._watch, args=(side,), daemon=True) for side in Origin]

    def begin(self) -> None:
        """Workers, writers and the observer of grants."""
        for worker in self.workers:
            worker.start(**self.bug)
        for watcher in self._watchers:
            watcher.start()

    def write(self) -> None:
        """Clients from now on."""
        self.writers = [Writer(self.world, self.history, number, self._seed) for number in range(CLIENTS)]
        self.writers.append(DirectWriter(self.world, self.history, CLIENTS, self._seed))

    def rest(self, seconds: float = 60.0) -> list[str]:
        """Let clients end what they do; who did not end in time."""
        for writer in self.writers:
            writer.stop()
        until = time.monotonic() + seconds
        return [writer.name for writer in self.writers if not writer.join(max(0.1, until - time.monotonic()))]

    def urls(self) -> dict[str, str]:
        """As superuser, past the lines."""
        return {side.value: self.world.urls[side] for side in Origin}

    def value(self, side: Origin, query: str) -> Any:
        """One value; None while the server is down."""
        try:
            with psycopg.connect(self.world.urls[side], autocommit=True, connect_timeout=3) as connection:
                row = connection.execute(query.encode()).fetchone()
                return None if row is None else row[0]
        except psycopg.OperationalError:
            return None

    def crash(self, side: Origin) -> None:
        """`kill -9` of a server with all its backends, and start it again."""
        self.servers[side].kill()
        self.servers[side].start()

    def heal(self) -> None:
        """All lines as they should be, all workers running."""
        for line in self.lines.values():
            if line.fault is not Fault.NONE:
                line.put(Fault.NONE)
        for worker in self.workers:
            worker.send(signal.SIGCONT)
            if worker.ended():
                worker.start(**self.bug)

    def close(self) -> None:
        """End all of it."""
        self._watching.set()
        for worker in self.workers:
            worker.send(signal.SIGCONT)
            worker.close()
        for watcher in self._watchers:
            if watcher.is_alive():
                watcher.join(10)
        self.world.close()
        for line in self.lines.values():
            line.close()
        for server in self.servers.values():
            server.stop()
        self.history.close()

    def _create(self, side: Origin, hint: str) -> str:
        name = f"{hint}_prove"
        with psycopg.connect(self.servers[side].url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.servers[side].url(name)

    def _environment(self) -> dict[str, str]:
        databases = {
            f"STRANGLER_DATA_URL__{self.world.manifest.databases[side].upper()}": _through(url, self.lines[side.value])
            for side, url in self.world.sync_urls().items()
        }
        return {"STRANGLER_DATABASE_URL": _through(self.control_url, self.lines["control"]), **databases}

    def _prepare(self) -> None:
        app = self.world.app(M)
        app.execute("INSERT INTO person (email) SELECT 'p' || g FROM generate_series(1, 20) AS g")
        app.execute("INSERT INTO tally VALUES ('sum', 0, 0), ('direct', 0, 0)")

    def _watch(self, side: Origin) -> None:
        last: tuple[int, bool] | None = None
        while not self._watching.wait(0.03):
            try:
                with psycopg.connect(self.world.urls[side], autocommit=True, connect_timeout=3) as connection:
                    while not self._watching.wait(0.03):
                        row = connection.execute("SELECT epoch, open FROM strangler.ownership").fetchone()
                        if row is not None and row != last:
                            last = row
                            self.history.say("observer", "grant", "info", side=side.value, epoch=row[0], open=row[1])
            except psycopg.Error:
                continue


def _through(url: str, line: FaultLine) -> str:
    return make_conninfo(url, host="127.0.0.1", port=str(line.port))
