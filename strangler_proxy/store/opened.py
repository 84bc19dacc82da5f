"""The store as one value: every port on one database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from strangler_proxy.core.ports import (
    FlagBoard,
    Manifests,
    OperationQueue,
    Pauses,
    Records,
    Switchboard,
    SyncBoard,
    TableSource,
)
from strangler_proxy.store.database import Database
from strangler_proxy.store.evidence_opened import Evidence
from strangler_proxy.store.evidence_postgres import PostgresEvidence
from strangler_proxy.store.flags import PostgresFlags, PostgresManifests
from strangler_proxy.store.pauses import PostgresPauses
from strangler_proxy.store.records import PostgresRecords
from strangler_proxy.store.switchboard import PostgresSwitches
from strangler_proxy.store.switching import LEASE_S
from strangler_proxy.store.tables import PostgresTables
from strangler_proxy.store.work import PostgresOperations, PostgresSync


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """All ports. Use it from one event loop, and close it there."""

    tables: TableSource
    flags: FlagBoard
    operations: OperationQueue
    sync: SyncBoard
    pauses: Pauses
    manifests: Manifests
    switches: Switchboard
    records: Records
    evidence: Evidence
    shut: Callable[[], Awaitable[None]]

    async def close(self) -> None:
        """Close what it holds open."""
        await self.shut()


def open_store(
    dsn: str,
    *,
    timeout_s: float = 2.0,
    size: int = 4,
    application: str = "strangler",
    lease_s: float = LEASE_S,
) -> Store:
    """The store on a control database. Connects when it is first used, so the database may be away.

    `timeout_s` bounds each call, `size` the connections (LISTEN takes one more).
    """
    database = Database(dsn, size=size, timeout_s=timeout_s, application=application)
    evidence = PostgresEvidence(database)
    return Store(
        tables=PostgresTables(database),
        flags=PostgresFlags(database),
        operations=PostgresOperations(database, lease_s=lease_s),
        sync=PostgresSync(database),
        pauses=PostgresPauses(database),
        manifests=PostgresManifests(database),
        switches=PostgresSwitches(database),
        records=PostgresRecords(database),
        evidence=evidence,
        shut=database.close,
    )
