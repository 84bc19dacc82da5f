"""Fixtures of every tier, and the last line of a run: what was not run because a part is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack
from tests.servers import RABBITMQ_URL, ROOT, EmbeddedPostgres, EmbeddedValkey, create_database, drop_database

_FRONTS = {"nginx": "NGINX", "caddy": "Caddy", "envoy": "Envoy"}
_MAY_BE_MISSING = ("(Caddy)", "(Envoy)")
_NOT_RUN = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One server for the session, tuned for tests: nothing in them survives a crash of the machine."""
    settings = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off", "max_connections": "300"}
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", settings=settings).start()
    yield server
    server.stop()


@pytest.fixture
def make_database(postgres: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Make fresh empty databases; all are dropped afterwards."""
    made: list[str] = []

    def make(hint: str = "test") -> str:
        made.append(create_database(postgres, hint))
        return made[-1]

    yield make
    for url in made:
        drop_database(postgres, url)


@pytest.fixture
def database(make_database: Callable[[str], str]) -> str:
    """URL of a fresh empty database, as superuser."""
    return make_database("test")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """One server for the session."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture(params=["valkey", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Both kinds of broker, one after the other."""
    if request.param == "rabbitmq":
        return os.environ[RABBITMQ_URL]
    server: EmbeddedValkey = request.getfixturevalue("valkey")
    return server.url()


STACK_PORT_OFFSET = 17_000
"""Ports of the stack that tests share: a demo that runs on this machine is not met."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both stacks, with the rows of both flags in step and half of the reads at extracted.

    Starting it costs most of a minute on two cores, so that all tiers share one; a test leaves both flags at `canary`
    or `extracted`.
    """
    var = tmp_path_factory.mktemp("stack") / "var"
    with Stack(var, port_offset=STACK_PORT_OFFSET) as running:
        for flag in ("auth", "payments"):
            running.run("sync", "start", flag, "--wait", timeout_s=120.0)
            running.flip(flag, "shadow")
            running.flip(flag, "canary", "--weight", "50%")
        yield running


def chromium() -> str | None:
    """Path of a Chromium, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def front_program(name: str) -> str | None:
    """Path of nginx, caddy or envoy: installed, or among the benchmark's; None where there is none."""
    return shutil.which(name) or shutil.which(name, path=str(ROOT / ".venv-bench" / "bin"))


def _missing(item: pytest.Item) -> str | None:
    if item.get_closest_marker("rabbitmq") and not os.environ.get(RABBITMQ_URL):
        return "RabbitMQ"
    if item.get_closest_marker("chromium") and chromium() is None:
        return "Chromium"
    for name, title in _FRONTS.items():
        if item.get_closest_marker(name) and front_program(name) is None:
            return title
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what cannot run here, and order the tiers from quick to slow."""
    tiers = ["unit", "model", "architecture", "ports", "integration", "parity", "browser", "acceptance"]
    left_out = {id(item): part for item in items if (part := _missing(item))}
    config.stash[_NOT_RUN] = sorted(
        {f"{item.nodeid.split('[')[0]} ({left_out[id(item)]})" for item in items if id(item) in left_out}
    )
    items[:] = [item for item in items if id(item) not in left_out]

    def tier(item: pytest.Item) -> int:
        folder = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        return tiers.index(folder) if folder in tiers else len(tiers)

    items.sort(key=tier)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI everything has to run, but for what only the benchmark's wheels bring."""
    not_run = session.config.stash.get(_NOT_RUN, [])
    if any(not line.endswith(_MAY_BE_MISSING) for line in not_run) and os.environ.get("STRANGLER_REQUIRE_ALL") == "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line."""
    not_run = config.stash.get(_NOT_RUN, None)
    if not_run is None or hasattr(config, "workerinput"):
        return
    if not_run:
        parts = sorted({line.rpartition("(")[2].rstrip(")") for line in not_run})
        print(
            f"not run: {len(not_run)} tests need {' and '.join(parts)}: "
            + ", ".join(line.partition(" (")[0] for line in not_run)
        )
    else:
        print("not run: nothing")
