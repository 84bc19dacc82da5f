"""Both sides, started once for all cases; what each case heard there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parity.servers import Keys, monolith, services
from tests.parity.shop import Heard
from tests.servers import EmbeddedPostgres, create_database, drop_database


@pytest.fixture(scope="session")
def parity_databases(postgres: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Make databases that live as long as the sides do."""
    made: list[str] = []

    def make(hint: str) -> str:
        made.append(create_database(postgres, hint))
        return made[-1]

    yield make
    for url in made:
        drop_database(postgres, url)


@pytest.fixture(scope="session")
def parity_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Signing keys that both sides know."""
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def services_side(
    parity_databases: Callable[[str], str], parity_keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Heard]:
    """The extracted services."""
    folder: Path = tmp_path_factory.mktemp("services")
    side = services(
        folder,
        auth_database=parity_databases("parity_auth"),
        payments_database=parity_databases("parity_payments"),
        keys=parity_keys,
    )
    yield Heard(side)
    side.stop()


@pytest.fixture(scope="session")
def monolith_side(
    parity_databases: Callable[[str], str], parity_keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Heard]:
    """The monolith."""
    side = monolith(tmp_path_factory.mktemp("monolith"), database=parity_databases("parity_monolith"), keys=parity_keys)
    yield Heard(side)
    side.stop()
