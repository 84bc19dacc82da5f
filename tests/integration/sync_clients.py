"""Writers with idempotency keys that go wherever a write is taken, and the account of what was acknowledged."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Iterator

import psycopg

from strangler_proxy.core.stage import Origin
from tests.integration.sync_world import World

TABLES = {Origin.MONOLITH: ("note", "person_id"), Origin.EXTRACTED: ("remark", "member_id")}


class Clients:
    """Threads that insert one note per key and add one to a tally, in one transaction, until it is acknowledged.

    They bypass any proxy and guess the owner: routing that is as stale as can be. A third reads first, in a
    repeatable-read transaction, and lingers.
    """

    def __init__(self, world: World, number: int = 4, seed: int = 1) -> None:
        self.acknowledged: list[uuid.UUID] = []
        self.fenced = 0
        self.failures: list[str] = []
        self._world = world
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed * 100 + n,)) for n in range(number)]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write meanwhile."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        links: dict[Origin, psycopg.Connection[object]] = {}
        side = Origin.MONOLITH
        try:
            while not self._stop.is_set():
                key = uuid.UUID(int=chance.getrandbits(128))
                while not self._write(links, side, key, chance):
                    side = side.other
                    time.sleep(0.01)
                self.acknowledged.append(key)
                time.sleep(chance.uniform(0.005, 0.02))
        except Exception as error:  # noqa: BLE001 - told by the test
            self.failures.append(repr(error))
        finally:
            for link in links.values():
                link.close()

    def _write(
        self, links: dict[Origin, psycopg.Connection[object]], side: Origin, key: uuid.UUID, chance: random.Random
    ) -> bool:
        table, person = TABLES[side]
        content, at = ("body", "written_at") if side is Origin.MONOLITH else ("content", "at")
        try:
            if side not in links:
                links[side] = psycopg.connect(self._world.app_url(side), autocommit=True)
            link = links[side]
            with link.transaction():
                if chance.random() < 0.3:
                    link.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    link.execute("SELECT count(*) FROM tally")
                    time.sleep(chance.uniform(0, 0.05))
                new = link.execute(
                    f"INSERT INTO {table} (id, {person}, amount, currency, {content}, {at}) "
                    "VALUES (%s, %s, 1, 'EUR', '{}', clock_timestamp()) "
                    "ON CONFLICT (id) DO NOTHING RETURNING 1".encode(),
                    (key, chance.randint(1, 20)),
                ).fetchone()
                if new:
                    link.execute("UPDATE tally SET hits = hits + 1 WHERE place = 'sum' AND day = 0")
            return True
        except psycopg.Error as error:
            if error.sqlstate == "MF001":
                self.fenced += 1
            elif error.sqlstate in ("40001", "40P01"):
                return self._write(links, side, key, chance)
            elif error.sqlstate is None or error.sqlstate.startswith(("57", "08")):
                links.pop(side).close() if side in links else None
            else:
                raise
            return False


def prepare(world: World) -> None:
    """What the clients write about."""
    app = world.app(Origin.MONOLITH)
    app.execute("INSERT INTO person (email) SELECT 'p' || g FROM generate_series(1, 20) AS g")
    app.execute("INSERT INTO tally VALUES ('sum', 0, 0)")


def account(world: World, clients: Clients, owner: Origin) -> None:
    """Every acknowledged key exactly once in the owner, the sum right, and both sides equal."""
    assert not clients.failures
    rows = world.rows(owner)
    keys = [row[0] for row in rows["note"]]
    assert len(set(clients.acknowledged)) == len(clients.acknowledged) > 0
    assert set(clients.acknowledged) == set(keys)
    assert rows["tally"] == [("sum", 0, len(keys))]
    assert world.same()
