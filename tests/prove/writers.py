"""Clients of the two databases: they guess the owner, go on with the same key, and write down what they were told.

Each has two people of its own. `note` inserts one row per key and counts this person's notes, `erase` deletes one,
`name` sets a register, `join` makes a person (by a sequence). `direct` is a script that knows of no migration: it
writes to the monolith only.
"""

from __future__ import annotations

import random
import threading
import time
import uuid

import psycopg

from strangler_proxy.core.stage import Origin
from tests.integration.sync_world import World
from tests.prove.history import History

NAMES = {
    Origin.MONOLITH: {
        "note": "note",
        "note_person": "person_id",
        "body": "body",
        "at": "written_at",
        "person": "person",
        "id": "id",
        "name": "name",
        "email": "email",
    },
    Origin.EXTRACTED: {
        "note": "remark",
        "note_person": "member_id",
        "body": "content",
        "at": "at",
        "person": "member",
        "id": "member_id",
        "name": "display_name",
        "email": "address",
    },
}


class Unknown(Exception):
    """The answer to a commit was lost: it may have happened."""


class Fenced(Exception):
    """Refused by the fence: nothing happened."""


class Writer:
    """One thread; `run` until `stop`."""

    def __init__(self, world: World, history: History, number: int, seed: int) -> None:
        self.name = f"c{number}"
        self.people = (number * 2 + 1, number * 2 + 2)
        self.problem = ""
        self._world = world
        self._history = history
        self._chance = random.Random(seed * 1_000 + number)
        self._links: dict[Origin, psycopg.Connection[object]] = {}
        self._side = Origin.MONOLITH
        self._notes: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """After the operation under way, which is tried until it is known."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Did it end in time?"""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _guarded(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - a violation in itself, told by the checker
            self.problem = f"{type(error).__name__}: {error}"
            self._history.say(self.name, "crash", "info", error=self.problem)
        finally:
            for link in self._links.values():
                link.close()

    def run(self) -> None:
        """Operations one after the other, each to a known end."""
        while not self._stop.is_set():
            kind = self._chance.random()
            if kind < 0.65:
                key = str(uuid.UUID(int=self._chance.getrandbits(128)))
                self._until_known("note", key=key, person=self._person())
                self._notes.append(key)
            elif kind < 0.85:
                self._until_known("name", person=self._person(), value=f"v{self._chance.getrandbits(40)}")
            elif kind < 0.93 and self._notes:
                self._until_known("erase", key=self._notes.pop(self._chance.randrange(len(self._notes))))
            else:
                self._until_known("join", email=f"{self._chance.getrandbits(60):x}@{self.name}")
            time.sleep(self._chance.uniform(0.002, 0.02))

    def _person(self) -> int:
        return self._chance.choice(self.people)

    def _until_known(self, operation: str, **facts: object) -> None:
        self._history.say(self.name, operation, "invoke", **facts)
        while True:
            try:
                seen = self._once(operation, facts)
            except Fenced:
                self._side = self._side.other
            except Unknown:
                self._history.say(self.name, operation, "info", **facts)
                self._side = self._chance.choice(list(Origin))
            else:
                self._history.say(self.name, operation, "ok", side=self._side.value, **facts, **seen)
                return
            time.sleep(self._chance.uniform(0.005, 0.03))

    def _once(self, operation: str, facts: dict[str, object]) -> dict[str, object]:
        names = NAMES[self._side]
        try:
            link = self._link(self._side)
            with link.transaction():
                if self._chance.random() < 0.3:
                    link.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    link.execute("SELECT count(*) FROM tally")
                    time.sleep(self._chance.uniform(0, 0.1))
                return self._write(link, names, operation, facts)
        except psycopg.Error as error:
            if error.sqlstate == "MF001":
                raise Fenced from error
            if error.sqlstate in ("40001", "40P01"):
                return self._once(operation, facts)
            if error.sqlstate is None or error.sqlstate[:2] in ("57", "08", "25"):
                broken = self._links.pop(self._side, None)
                if broken is not None:
                    broken.close()
                raise Unknown from error
            raise

    def _write(
        self, link: psycopg.Connection[object], names: dict[str, str], operation: str, facts: dict[str, object]
    ) -> dict[str, object]:
        if operation == "name":
            link.execute(
                f"UPDATE {names['person']} SET {names['name']} = %s WHERE {names['id']} = %s".encode(),
                (facts["value"], facts["person"]),
            )
            return {}
        if operation == "join":
            link.execute(
                f"INSERT INTO {names['person']} ({names['email']}, {names['name']}) SELECT %(email)s::text, 'joined' "
                f"WHERE NOT EXISTS (SELECT FROM {names['person']} WHERE {names['email']} = %(email)s::text)".encode(),
                facts,
            )
            return {}
        if operation == "erase":
            gone = link.execute(f"DELETE FROM {names['note']} WHERE id = %s".encode(), (facts["key"],))
            link.execute("UPDATE tally SET hits = hits - %s WHERE place = 'sum' AND day = 0", (gone.rowcount,))
            return {}
        new = link.execute(
            f"INSERT INTO {names['note']} (id, {names['note_person']}, amount, currency, {names['body']}, "
            f"{names['at']}) "
            "VALUES (%s, %s, 1.25, 'EUR', %s, clock_timestamp()) ON CONFLICT (id) DO NOTHING RETURNING 1".encode(),
            (facts["key"], facts["person"], '{"by": "prove"}'),
        ).fetchone()
        if new:
            link.execute("UPDATE tally SET hits = hits + 1 WHERE place = 'sum' AND day = 0")
        counted = link.execute(
            f"SELECT count(*) FROM {names['note']} WHERE {names['note_person']} = %s".encode(), (facts["person"],)
        ).fetchone()
        return {"counted": counted[0] if counted else None}  # type: ignore[index]

    def _link(self, side: Origin) -> psycopg.Connection[object]:
        if side not in self._links:
            self._links[side] = psycopg.connect(
                self._world.app_url(side), autocommit=True, connect_timeout=3, options="-c statement_timeout=15000"
            )
        return self._links[side]


class DirectWriter(Writer):
    """A cron job on the monolith's database; where the fence refuses it, it gives up."""

    def run(self) -> None:
        """Add one, again and again."""
        self.name = "direct"
        while not self._stop.is_set():
            number = str(uuid.UUID(int=self._chance.getrandbits(128)))
            self._history.say(self.name, "direct", "invoke", number=number)
            try:
                self._side = Origin.MONOLITH
                self._add()
            except Fenced:
                self._history.say(self.name, "direct", "fail", number=number)
            except Unknown:
                self._history.say(self.name, "direct", "info", number=number)
            else:
                self._history.say(self.name, "direct", "ok", number=number)
            time.sleep(self._chance.uniform(0.01, 0.05))

    def _add(self) -> None:
        try:
            link = self._link(Origin.MONOLITH)
            with link.transaction():
                link.execute("UPDATE tally SET hits = hits + 1 WHERE place = 'direct' AND day = 0")
        except psycopg.Error as error:
            if error.sqlstate == "MF001":
                raise Fenced from error
            if error.sqlstate in ("40001", "40P01"):
                raise Fenced from error
            broken = self._links.pop(Origin.MONOLITH, None)
            if broken is not None:
                broken.close()
            raise Unknown from error
