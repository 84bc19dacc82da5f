"""The contrib project as a role of its own, and what the census has of it in the database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import psycopg

from strangler_proxy.core.census import Counting, Mode, Place
from strangler_proxy.core.manifest import Column, Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.census import seen_since
from strangler_proxy.sync.census_mode import set_mode
from strangler_proxy.sync.link import Link, close, connect
from tests.integration.contrib_project.world import World
from tests.integration.contrib_rig import environment, migrated
from tests.servers import ROOT, EmbeddedPostgres

T = TypeVar("T")

REPORTED_S = 40.0
ROLE = "census_app"
MANIFEST = Manifest(
    flag="parcels",
    databases={Origin.MONOLITH: "monolith", Origin.EXTRACTED: "parcels"},
    tables=(
        Table(monolith="parcel", extracted="parcel", key=("id",), columns=(Column(monolith="id", extracted="id"),)),
    ),
)


class Project:
    """The project's database as its owner sees it, and its processes as an application's role."""

    def __init__(self, world: World) -> None:
        self.world = world
        parts = urlsplit(world.url)
        self.url = urlunsplit(parts._replace(netloc=f"{ROLE}@{parts.hostname}:{parts.port}"))
        self.environment = environment(self.url, "census_settings")

    def set_mode(self, mode: Mode, *, triggers: bool = False, allow: tuple[str, ...] = ()) -> None:
        """As the worker does it."""
        wanted = Counting(mode=mode, triggers=triggers, allow=allow)
        self._linked(lambda link: set_mode(link, MANIFEST, Origin.MONOLITH, wanted))

    def places(self) -> list[Place]:
        """What was reported by now."""
        return self._linked(lambda link: seen_since(link, "parcels", None))

    def place(self, kind: str, access: str = "read", *, named: str = "") -> Place | None:
        """One of them; None while it was not reported."""
        found = [each for each in self.places() if (each.kind.value, each.access.value) == (kind, access)]
        return next((each for each in found if named in each.name), None)

    def reported(self, kind: str, access: str = "read", *, named: str = "", count: int = 0, refused: int = 0) -> Place:
        """Such a place, once it was reported with these counts."""

        def look() -> Place | None:
            found = self.place(kind, access, named=named)
            return found if found is not None and found.count >= count and found.refused >= refused else None

        return self.eventually(look)

    def eventually(self, look: Callable[[], T | None]) -> T:
        """What is there, once it is."""
        ends = time.monotonic() + REPORTED_S
        while time.monotonic() < ends:
            if found := look():
                return found
            time.sleep(0.1)
        raise AssertionError(f"not within {REPORTED_S} s; there are {self.places()}")

    def forget(self) -> None:
        """Nothing was ever counted."""
        self.world.run("DELETE FROM strangler.census")
        self.world.run("DELETE FROM strangler.census_process")

    def python(self, *words: str, timeout_s: float = 60.0) -> str:
        """One process of the project, to its end; all that it wrote."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    def _linked(self, work: Callable[[Link], Awaitable[T]]) -> T:
        async def run() -> T:
            link = await connect(self.world.url, application="strangler test")
            try:
                return await work(link)
            finally:
                await close(link)

        return asyncio.run(run())


@contextmanager
def census_project(postgres: EmbeddedPostgres, hint: str) -> Iterator[Project]:
    """The project, migrated; its role may use its tables, and owns nothing."""
    with migrated(postgres, hint) as world:
        with psycopg.connect(world.url, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None:
                connection.execute(f"CREATE ROLE {ROLE} LOGIN".encode())
            connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}".encode())
            connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}".encode())
            connection.execute(b"GRANT USAGE ON SCHEMA strangler TO PUBLIC")
            connection.execute(b"GRANT SELECT ON strangler.ownership TO PUBLIC")
        yield Project(world)
        with psycopg.connect(world.url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {ROLE}".encode())
