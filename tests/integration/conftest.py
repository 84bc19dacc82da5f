"""Databases in step: what most tests of `sync` begin with; who needs other tables has a `world` of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.sync_clients import prepare
from tests.integration.sync_world import World, build


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    """Both databases, with rows for clients to write about."""
    made = build(make_database)
    prepare(made)
    yield made
    made.close()
