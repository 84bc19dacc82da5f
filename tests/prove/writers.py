"""Clients of the two databases: they guess the owner, go on with the same key, and write down what they were told.

Each has two people of its own. `note` inserts one row per key, moves its amount from the bank to the till in the same
transaction, and counts this person's notes; `erase` takes one back, `name` sets a register, `join` makes a person (by
a sequence), `again` asks once more for a key that was answered: the answer has to be the same. A stale client tries
one side once and gives up. `direct` is a script that knows of no migration: it writes to the monolith only.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Mapping

import psycopg

from tests.prove.history import History

MONOLITH, EXTRACTED = "monolith", "extracted"
OTHER = {MONOLITH: EXTRACTED, EXTRACTED: MONOLITH}
NAMES = {
    MONOLITH: {
        "note": "note",
        "note_person": "person_id",
        "body": "body",
        "at": "written_at",
        "person": "person",
        "id": "id",
        "name": "name",
        "email": "email",
    },
    EXTRACTED: {
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
KINDS = (("note", 55), ("again", 8), ("stale", 7), ("name", 16), ("erase", 8), ("join", 6))
BUSY = ("40001", "40P01", "55P03")


class Unknown(Exception):
    """The answer to a commit was lost: it may have happened."""


class Fenced(Exception):
    """Refused by the fence: nothing happened."""


def cents_of(key: str) -> int:
    """The amount of a note, from its key: the checker knows it without asking a database."""
    return 1 + int(key[:6], 16) % 9_999


class Writer:
    """One thread; `run` until `stop`."""

    def __init__(self, urls: Mapping[str, str], history: History, number: int, seed: int, begun: int) -> None:
        self.name = f"c{number}"
        self.number = number
        self._urls = urls
        self._history = history
        self._chance = random.Random(f"{seed} {number} {begun}")
        self._links: dict[str, psycopg.Connection[tuple[object, ...]]] = {}
        self._side = MONOLITH
        self._notes: list[tuple[str, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        """Begin."""
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
            self._history.say(self.name, "crash", "info", error=f"{type(error).__name__}: {error}")
        finally:
            for link in self._links.values():
                link.close()

    def run(self) -> None:
        """Operations one after the other, each to a known end."""
        names, weights = [name for name, _ in KINDS], [weight for _, weight in KINDS]
        while not self._stop.is_set():
            self._operate(self._chance.choices(names, weights)[0])
            self._stop.wait(self._chance.uniform(0.05, 0.45))

    def _operate(self, kind: str) -> None:
        match kind:
            case "name":
                self._until_known("name", person=self._person(), value=f"v{self._chance.getrandbits(40)}")
            case "join":
                self._until_known("join", email=f"{self._chance.getrandbits(60):x}@{self.name}")
            case "erase" if self._notes:
                key, person = self._notes.pop(self._chance.randrange(len(self._notes)))
                self._until_known("erase", key=key, person=person)
            case "again" if self._notes:
                key, person = self._chance.choice(self._notes[-40:])
                self._until_known("note", key=key, person=person)
            case "stale":
                self._once_only("note", key=self._key(), person=self._person())
            case _:
                key, person = self._key(), self._person()
                self._until_known("note", key=key, person=person)
                self._notes.append((key, person))

    def _key(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128)))

    def _person(self) -> int:
        return self.number * 2 + 1 + self._chance.randrange(2)

    def _once_only(self, operation: str, **facts: object) -> None:
        """By stale routing to any side, and never again: refused means that nothing happened."""
        self._history.say(self.name, operation, "invoke", **facts)
        side = self._chance.choice((MONOLITH, EXTRACTED))
        try:
            seen = self._once(side, operation, facts)
        except Fenced:
            self._history.say(self.name, operation, "fail", **facts)
        except Unknown:
            self._history.say(self.name, operation, "info", **facts)
        else:
            self._history.say(self.name, operation, "ok", side=side, **facts, **seen)

    def _until_known(self, operation: str, **facts: object) -> None:
        self._history.say(self.name, operation, "invoke", **facts)
        while True:
            try:
                seen = self._once(self._side, operation, facts)
            except Fenced:
                self._side = OTHER[self._side]
            except Unknown:
                self._history.say(self.name, operation, "info", **facts)
                self._side = self._chance.choice((MONOLITH, EXTRACTED))
            else:
                self._history.say(self.name, operation, "ok", side=self._side, **facts, **seen)
                return
            time.sleep(self._chance.uniform(0.005, 0.05))

    def _once(self, side: str, operation: str, facts: Mapping[str, object]) -> dict[str, object]:
        while True:
            try:
                link = self._link(side)
                with link.transaction():
                    if self._chance.random() < 0.3:
                        link.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                        link.execute("SELECT count(*) FROM tally")
                        time.sleep(self._chance.choice((0.0, 0.05, 0.3)))
                    return getattr(self, f"_{operation}")(link, NAMES[side], facts)  # type: ignore[no-any-return]
            except psycopg.Error as error:
                self._known(side, error)

    def _known(self, side: str, error: psycopg.Error) -> None:
        """Raises what it means, or returns: try again."""
        if error.sqlstate == "MF001":
            raise Fenced from error
        if error.sqlstate in BUSY:
            return
        if error.sqlstate is None or error.sqlstate[:2] in ("57", "08", "25"):
            broken = self._links.pop(side, None)
            if broken is not None:
                broken.close()
            raise Unknown from error
        raise error

    def _name(
        self, link: psycopg.Connection[tuple[object, ...]], names: dict[str, str], facts: Mapping[str, object]
    ) -> dict[str, object]:
        link.execute(
            f"UPDATE {names['person']} SET {names['name']} = %s WHERE {names['id']} = %s".encode(),
            (facts["value"], facts["person"]),
        )
        return {}

    def _join(
        self, link: psycopg.Connection[tuple[object, ...]], names: dict[str, str], facts: Mapping[str, object]
    ) -> dict[str, object]:
        link.execute(
            f"INSERT INTO {names['person']} ({names['email']}, {names['name']}) SELECT %(email)s::text, 'joined' "
            f"WHERE NOT EXISTS (SELECT FROM {names['person']} WHERE {names['email']} = %(email)s::text)".encode(),
            facts,
        )
        return {}

    def _erase(
        self, link: psycopg.Connection[tuple[object, ...]], names: dict[str, str], facts: Mapping[str, object]
    ) -> dict[str, object]:
        gone = link.execute(f"DELETE FROM {names['note']} WHERE id = %s".encode(), (facts["key"],))
        if gone.rowcount:
            self._move(link, -cents_of(str(facts["key"])))
        return {}

    def _note(
        self, link: psycopg.Connection[tuple[object, ...]], names: dict[str, str], facts: Mapping[str, object]
    ) -> dict[str, object]:
        cents = cents_of(str(facts["key"]))
        new = link.execute(
            f"INSERT INTO {names['note']} (id, {names['note_person']}, amount, currency, {names['body']}, "
            f"{names['at']}) VALUES (%s, %s, %s::numeric / 100, 'EUR', %s, clock_timestamp()) "
            "ON CONFLICT (id) DO NOTHING RETURNING 1".encode(),
            (facts["key"], facts["person"], cents, '{"by": "prove"}'),
        ).fetchone()
        if new:
            self._move(link, cents)
        answer = link.execute(
            f"SELECT extract(epoch FROM {names['at']})::text FROM {names['note']} WHERE id = %s".encode(),
            (facts["key"],),
        ).fetchone()
        counted = link.execute(
            f"SELECT count(*) FROM {names['note']} WHERE {names['note_person']} = %s".encode(), (facts["person"],)
        ).fetchone()
        return {"answer": answer and answer[0], "counted": counted and counted[0]}

    def _move(self, link: psycopg.Connection[tuple[object, ...]], cents: int) -> None:
        link.execute(
            "UPDATE tally SET hits = hits + CASE place WHEN 'till' THEN %(c)s ELSE -%(c)s END "
            "WHERE place IN ('till', 'bank') AND day = %(n)s",
            {"c": cents, "n": self.number},
        )

    def _link(self, side: str) -> psycopg.Connection[tuple[object, ...]]:
        if side not in self._links:
            self._links[side] = psycopg.connect(
                self._urls[side], autocommit=True, connect_timeout=3, options="-c statement_timeout=15000"
            )
        return self._links[side]


class DirectWriter(Writer):
    """A cron job on the monolith's database; where the fence refuses it, it gives up."""

    def run(self) -> None:
        """Add one, again and again."""
        self.name = "direct"
        while not self._stop.is_set():
            number = self._key()
            self._history.say(self.name, "direct", "invoke", number=number)
            try:
                self._add()
            except Fenced:
                self._history.say(self.name, "direct", "fail", number=number)
            except Unknown:
                self._history.say(self.name, "direct", "info", number=number)
            else:
                self._history.say(self.name, "direct", "ok", number=number)
            self._stop.wait(self._chance.uniform(0.2, 0.8))

    def _add(self) -> None:
        try:
            link = self._link(MONOLITH)
            with link.transaction():
                link.execute("UPDATE tally SET hits = hits + 1 WHERE place = 'direct' AND day = 0")
        except psycopg.Error as error:
            if error.sqlstate in BUSY:
                raise Fenced from error
            self._known(MONOLITH, error)
