"""One stack for the whole tier: starting it costs most of a minute on two cores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both stacks with both flags copied and at `canary`."""
    with Stack(tmp_path_factory.mktemp("stack") / "var") as running:
        for flag in ("auth", "payments"):
            running.run("sync", "start", flag, "--wait", timeout_s=120.0)
            running.run("flip", flag, "shadow")
            running.run("flip", flag, "canary", "--weight", "50%")
        yield running


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A folder for a stack of a test's own."""
    return tmp_path / "var"
