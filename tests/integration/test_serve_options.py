"""Options of `strangler serve` reach the engine, with and without a database, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from strangler_proxy.store import migrate
from tests.integration.engine_rig import Client, Upstream, asleep
from tests.integration.engine_rig import request as ask
from tests.running_proxy import RunningProxy

OPTIONS = {
    "--max-body": "1000",
    "--max-target": "200",
    "--max-header": "2000",
    "--header-timeout": "0.5",
    "--first-byte-timeout": "0.5",
    "--keep-alive": "0.7",
    "--websocket-idle": "1",
    "--max-connections": "40",
    "--pool-limit": "20",
    "--trust": "127.0.0.0/8",
}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream("monolith")
    yield made
    made.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("with_database", [False, True])
def test_each_limit_is_what_the_command_says(
    tmp_path: Path, upstream: Upstream, request: pytest.FixtureRequest, with_database: bool, workers: str
) -> None:
    settings = {"STRANGLER_UPSTREAM": f"http://127.0.0.1:{upstream.port}", "STRANGLER_MAX_BODY_BYTES": "5"}
    if with_database:
        url: str = request.getfixturevalue("database")
        migrate(url)
        settings["STRANGLER_DATABASE_URL"] = url
    with RunningProxy(tmp_path, **settings) as proxy:
        proxy.arguments = [part for pair in OPTIONS.items() for part in pair] + ["--workers", workers]
        proxy.start()
        check_limits(proxy.port, upstream)
        assert proxy.stop() == 0


def check_limits(port: int, upstream: Upstream) -> None:
    for raw, status in (
        (ask("/x", method="POST", body=b"a" * 1000), 200),
        (ask("/x", method="POST", body=b"a" * 1001), 413),
        (ask("/" + "a" * 190), 200),
        (ask("/" + "a" * 210), 414),
        (ask("/x", f"X-A: {'a' * 1500}\r\n"), 200),
        (ask("/x", f"X-A: {'a' * 2500}\r\n"), 431),
        (ask("/x")[:-2], 408),
    ):
        with Client(port) as client:
            with suppress(ConnectionError):
                client.send(raw)
            assert client.answer().status == status, raw[:80]
    upstream.scripts[b"/slow"] = asleep(1.5)
    with Client(port) as client:
        assert client.get("/slow").status == 504
    with Client(port) as client:
        client.get("/x", "X-Forwarded-For: 203.0.113.7\r\n")
        assert upstream.seen[-1].values("x-forwarded-for") == [b"203.0.113.7, 127.0.0.1"]
        began = time.monotonic()
        assert client.is_closed()
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--header-timeout", "0"),
        ("--max-connections", "0"),
        ("--max-target", "1"),
        ("--trust", "x"),
        ("--workers", "0"),
    ],
)
def test_a_bad_value_is_a_usage_error_that_names_the_setting(option: str, value: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "strangler"), "serve", "--upstream", "http://127.0.0.1:9", option, value],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "STRANGLER_" in done.stderr
