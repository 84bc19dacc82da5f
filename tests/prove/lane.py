"""One flag of a site: its two databases, its history, its cutovers. Several lanes cut over at once on one site."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.errors import StranglerError
from strangler_proxy.core.route import Cluster, Route
from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store
from tests.integration.sync_world import MANIFEST, World
from tests.prove.account import Account
from tests.prove.until import until

M, E = Origin.MONOLITH, Origin.EXTRACTED

_GRANTS_SQL = """
CREATE SCHEMA prove;
CREATE TABLE prove.grants (id bigserial, epoch bigint, open boolean, at float8);
CREATE FUNCTION prove.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF (NEW.epoch, NEW.open) IS DISTINCT FROM (OLD.epoch, OLD.open) THEN
        INSERT INTO prove.grants (epoch, open, at) VALUES (NEW.epoch, NEW.open, extract(epoch FROM clock_timestamp()));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER prove AFTER UPDATE ON strangler.ownership FOR EACH ROW EXECUTE FUNCTION prove.note();
INSERT INTO prove.grants (epoch, open, at) SELECT epoch, open, extract(epoch FROM clock_timestamp())
FROM strangler.ownership;
"""
"""Every grant that was ever committed, written down beside it by the database itself."""

_TALLIES = (
    "INSERT INTO tally SELECT place, day, 0 FROM unnest(ARRAY['till', 'bank']) AS place, generate_series(0, 4) AS day"
)


class Lane:
    """A flag with everything that is its own."""

    def __init__(self, number: int, world: World, folder: Path, *, patience_s: float) -> None:
        self.flag = world.manifest.flag
        self.number = number
        self.world = world
        self.history = folder / f"{self.flag}.jsonl"
        self.patience_s = patience_s
        self.paused = False
        self.idle = asyncio.Event()
        self.detail = ""
        self._prepare()

    def capability(self, clusters: dict[Origin, Cluster]) -> Capability:
        """With one route that both clusters serve."""
        names = {origin: cluster.name for origin, cluster in clusters.items()}
        return Capability(
            key=self.flag,
            file_name=f"{self.flag}.toml",
            file_text="",
            routes=(Route(name=self.flag, flag=self.flag, path=f"/{self.flag}/**", clusters=names),),
            clusters=tuple(clusters.values()) if self.number == 0 else (),
            manifest=self.world.manifest,
        )

    def note_grants(self) -> None:
        """Once the ownership records are there."""
        for url in self.world.urls.values():
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(_GRANTS_SQL.encode())

    def clients(self) -> dict[str, Any]:
        """What clients are told of it."""
        return {
            "flag": self.flag,
            "number": self.number,
            "history": str(self.history),
            "urls": {side.value: self.world.app_url(side) for side in Origin},
        }

    def value(self, side: Origin, query: str) -> Any:
        """One value; None while the server is down."""
        try:
            with psycopg.connect(self.world.urls[side], autocommit=True, connect_timeout=3) as connection:
                row = connection.execute(query.encode()).fetchone()
                return None if row is None else row[0]
        except psycopg.OperationalError:
            return None

    def owner(self) -> Origin | None:
        """The side that is open; None while both are closed or a server is down."""
        for side in Origin:
            if self.value(side, "SELECT open FROM strangler.ownership"):
                return side
        return None

    def _prepare(self) -> None:
        app = self.world.app(M)
        app.execute("INSERT INTO person (email) SELECT 'p' || g FROM generate_series(1, 20) AS g")
        app.execute(_TALLIES.encode())
        app.execute("INSERT INTO tally VALUES ('direct', 0, 0)")

    async def cut_over_for_ever(self, store: Store, account: Account, seed: int) -> None:
        """Cutovers to and fro, each as soon as the copy is in step again."""
        chance = random.Random(f"{seed} {self.flag}")
        self.idle.set()
        while True:
            if self.paused:
                self.idle.set()
                await asyncio.sleep(0.03)
                continue
            self.idle.clear()
            with contextlib.suppress(StranglerError):
                if await self.is_ready(store):
                    await self.cut_over(store, account, rehearse=chance.random() < 0.03)
                    await asyncio.sleep(chance.uniform(0.0, 0.3))
            await asyncio.sleep(0.15)

    async def cut_over(self, store: Store, account: Account, *, rehearse: bool = False) -> str:
        """One cutover to the other side, and how it ended. Raises StranglerError, NotSettled."""
        owner = await asyncio.to_thread(self.owner)
        if owner is None:
            return "none"
        given = {"to": owner.other.value} | ({"rehearse": "yes"} if rehearse else {})
        asked = await store.switches.request("cutover", self.flag, given, by="prove", reason="")
        began = time.monotonic()
        late = f"{self.flag}: operation {asked.id} is not over"
        ended = str(await until(lambda: self._ended(store, asked.id), self.patience_s + 60, late))
        ended = "rehearsed" if rehearse and ended == "done" else ended
        account.ended(began, ended, self.detail)
        return ended

    async def _ended(self, store: Store, number: int) -> str | None:
        found = await store.records.operations(self.flag, 1)
        mine = next((each for each in found if each.id == number), None)
        if mine is None or mine.status in ("queued", "running"):
            return None
        self.detail = mine.detail
        return str(mine.status)

    async def start(self, store: Store) -> None:
        """The stream wanted, and in step."""
        asked = await store.switches.request("sync_start", self.flag, {}, by="prove", reason="")
        ended = await until(
            lambda: self._ended(store, asked.id), self.patience_s, f"{self.flag}: the stream was not prepared"
        )
        if ended != "done":
            raise AssertionError(f"{self.flag}: sync_start ended {ended}")
        await self.ready(store)
        await asyncio.to_thread(self.note_grants)

    async def is_ready(self, store: Store) -> bool:
        """Live, verified, close behind."""
        found = await store.sync.status(self.flag)
        said = {} if found is None else dict(found[0])
        return bool(said.get("mode") == "live" and said.get("verified") and (said.get("lag_seconds") or 9) < 0.8)

    async def ready(self, store: Store) -> None:
        """Wait for it. Raises NotSettled."""
        await until(lambda: self.is_ready(store), self.patience_s, f"{self.flag}: the copy was not in step again")

    async def settled(self, store: Store) -> None:
        """Wait until one side is open, nothing under way, no hold left. Raises NotSettled."""

        async def is_settled() -> bool:
            opened, under_way = await asyncio.to_thread(self._records)
            flag, _ = await store.flags.flag(self.flag)
            return (
                sum(bool(each) for each in opened) == 1
                and under_way == [0, 0]
                and flag.hold is None
                and flag.owner is (M if opened[0] else E)
            )

        await until(is_settled, self.patience_s, f"{self.flag}: no single owner, an open record, or a hold that stays")

    def _records(self) -> tuple[list[Any], list[Any]]:
        query = "SELECT count(*) FROM strangler.cutover WHERE status IN ('holding', 'committed')"
        return (
            [self.value(side, "SELECT open FROM strangler.ownership") for side in Origin],
            [self.value(side, query) for side in Origin],
        )


def manifest_of(number: int) -> Any:
    """The manifest of a lane: names of its own, databases of its own."""
    return dataclasses.replace(
        MANIFEST, flag=f"people{number}", databases={M: f"monolith{number}", E: f"people{number}"}
    )


def create_database(url: str, name: str) -> None:
    """On a server, by the url of another database of it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
