"""The store ports, on memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from strangler_proxy.store import Store, migrate, open_store
from strangler_proxy.store.memory import memory_store


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of either kind; operations are leased for 0.4 s, so that a test can wait for the end of one."""
    if request.param == "memory":
        made = memory_store(lease_s=0.4)
    else:
        url = request.getfixturevalue("database")
        migrate(url)
        made = open_store(url, lease_s=0.4)
    yield made
    await made.close()
