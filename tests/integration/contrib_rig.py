"""The contrib project, migrated and served by gunicorn or uvicorn as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.integration.contrib_project.world import World
from tests.servers import ROOT, EmbeddedPostgres, create_database, drop_database, free_port

PACKAGE = "tests.integration.contrib_project"
FENCED = "flag=parcels; epoch=4; owner=extracted; replay="
"""What the proxy is told once `World.close` was called."""


class Site:
    """The project, served by one process."""

    def __init__(self, world: World, port: int, log: Path) -> None:
        self.world, self.log = world, log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)

    def post(self, path: str, **params: str) -> httpx.Response:
        """One POST without a body."""
        return self.http.post(path, params=params)

    def lines(self, event: str) -> list[dict[str, object]]:
        """Log lines of one event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("message") == event]


def environment(url: str, settings: str = "settings") -> dict[str, str]:
    """Of a process of the project."""
    return {
        **os.environ,
        "CONTRIB_TEST_DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": f"{PACKAGE}.{settings}",
        "STRANGLER_LOG": "json",
        "PYTHONPATH": str(ROOT),
    }


@contextmanager
def migrated(postgres: EmbeddedPostgres, hint: str) -> Iterator[World]:
    """A database with the project's tables."""
    url = create_database(postgres, hint)
    done = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "-v0"],
        env=environment(url), cwd=ROOT, timeout=60, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield World(url).make()
    drop_database(postgres, url)


@contextmanager
def serving(world: World, kind: str, folder: Path, *, settings: str = "settings", url: str = "") -> Iterator[Site]:
    """The project under `wsgi` (gunicorn with threads) or `asgi` (uvicorn); `url`: its database as another role."""
    port, log = free_port(), folder / "log"
    gunicorn = ["gunicorn", f"{PACKAGE}.wsgi:application", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
    uvicorn = ["uvicorn", f"{PACKAGE}.asgi:application", "--port", str(port), "--no-access-log", "--lifespan", "off"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *(gunicorn if kind == "wsgi" else uvicorn)],
            env=environment(url or world.url, settings), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        site = Site(world, port, log)
        try:
            _wait_until_up(site, process)
            yield site
        finally:
            site.http.close()
            process.terminate()
            process.wait(10)


def _wait_until_up(site: Site, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends and process.poll() is None:
        try:
            site.http.get("/healthz")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(site.log.read_text())
