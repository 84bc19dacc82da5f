"""Writes payments to whichever side takes them, so many a second, and keeps what was acknowledged.

python -m tests.million.writer CONFIG    (JSON: urls by side, people, rate, out)

Line by line on standard input: `probe`, `blind` (look for probes on the other side, or not), `pause`, `go`, `end`. Each
is answered by itself when it is so. A write counts when its COMMIT was answered; one that the fence refused is done on
the other side. Nothing here knows the toolkit but SQLSTATE MF001.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.million.rows import CURRENCIES

SIDES = ("monolith", "payments")
THREADS = 4
FENCED = "MF001"
PROBE_S = 0.05
PROBE_WITHIN_S = 60.0

Link = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What one side calls things."""

    intent: str
    user: str
    refund: str
    key: str


NAMES = {
    "monolith": Names(
        intent="payments_intent", user="user_id", refund="payments_refund", key="payments_idempotencykey"
    ),
    "payments": Names(intent="intent", user="customer_id", refund="refund", key="idempotency_key"),
}


@dataclass(slots=True)
class Acknowledged:
    """What one thread was told. Amounts in cents; a payment's state as it was last acknowledged."""

    intents: dict[str, list[Any]] = field(default_factory=dict)  # currency, amount, status, captured, refunded
    refunds: dict[str, list[Any]] = field(default_factory=dict)  # payment, amount
    keys: list[list[Any]] = field(default_factory=list)  # user, key
    writes: int = 0
    lag_ms: list[float] = field(default_factory=list)
    fenced: int = 0


class Writing:
    """What all threads share."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.urls: dict[str, str] = config["urls"]
        self.people: list[int] = config["people"]
        self.pace_s = THREADS / config["rate"]
        self.failures: list[str] = []
        self.ended, self.going, self.looking = threading.Event(), threading.Event(), threading.Event()
        self.idle = [threading.Event() for _ in range(THREADS + 1)]
        self.going.set()

    def rests(self, number: int) -> None:
        """Wait while writing is paused."""
        if not self.going.is_set():
            self.idle[number].set()
            self.going.wait()
            self.idle[number].clear()


class Thread:
    """One client: creates, captures, refunds."""

    def __init__(self, writing: Writing, number: int) -> None:
        self.told = Acknowledged()
        self._writing, self._number = writing, number
        self._chance = random.Random(number)
        self._links: dict[str, Link] = {}
        self._side = SIDES[0]
        self._created: list[str] = []
        self._captured: list[str] = []

    def guarded(self, work: Callable[[], None]) -> None:
        """Do it; a client that fails is told of at the end."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it was, the account must not add up
            self._writing.failures.append(f"client {self._number}: {type(error).__name__}: {error}")
        finally:
            self._writing.idle[self._number].set()

    def run(self) -> None:
        """Until the end is said, at its pace; what a hold cost is made up for slowly."""
        began, done = time.monotonic(), 0
        while not self._writing.ended.is_set():
            self._writing.rests(self._number)
            self._write()
            done += 1
            wait = began + done * self._writing.pace_s - time.monotonic()
            if wait < -1.0:
                began -= wait + 1.0
            time.sleep(max(0.0, wait))

    def probe(self) -> None:
        """Until the end is said: one payment after the other, and how long until the other side shows it."""
        while not self._writing.ended.is_set():
            self._writing.rests(self._number)
            key = self._create()
            if self._writing.looking.is_set():
                self._look_for(key, SIDES[1 - SIDES.index(self._side)])
            time.sleep(PROBE_S)

    def _look_for(self, key: str, side: str) -> None:
        began = time.monotonic()
        query = f"SELECT FROM {NAMES[side].intent} WHERE id = %s".encode()
        while self._link(side).execute(query, (key,)).fetchone() is None:
            if time.monotonic() > began + PROBE_WITHIN_S:
                raise TimeoutError(f"payment {key} did not reach {side} within {PROBE_WITHIN_S:g} s")
            time.sleep(0.003)
        self.told.lag_ms.append(round((time.monotonic() - began) * 1000, 1))

    def _write(self) -> None:
        kind = self._chance.random()
        if kind < 0.25 and self._created:
            self._capture(self._created.pop(self._chance.randrange(len(self._created))))
        elif kind < 0.40 and self._captured:
            self._refund(self._captured.pop(self._chance.randrange(len(self._captured))))
        else:
            self._create()

    def _create(self) -> str:
        key, idempotency = self._uuid(), f"million-{self._uuid()}"
        user, currency = self._chance.choice(self._writing.people), self._chance.choice(CURRENCIES)
        cents = self._chance.randrange(1, 100_000)

        def statement(names: Names) -> str:
            return (
                f"WITH i AS (INSERT INTO {names.intent} (id, {names.user}, amount, currency, status, captured_amount, "
                "refunded_amount, card_token, description) VALUES (%(key)s, %(user)s, %(cents)s::numeric / 100, "
                "%(currency)s, 'created', 0, 0, 'tok_million', '')) "
                f"INSERT INTO {names.key} ({names.user}, key, fingerprint) VALUES (%(user)s, %(once)s, repeat('0', 64))"
            )

        given = {"key": key, "user": user, "cents": cents, "currency": currency, "once": idempotency}
        self._until_done(statement, given)
        self.told.intents[key] = [currency, cents, "created", 0, 0]
        self.told.keys.append([user, idempotency])
        self._created.append(key)
        return key

    def _capture(self, key: str) -> None:
        def statement(names: Names) -> str:
            return (
                f"UPDATE {names.intent} SET status = 'captured', captured_amount = amount, "
                "processor_charge_id = 'ch_' || id, updated_at = now() WHERE id = %(key)s"
            )

        self._until_done(statement, {"key": key})
        state = self.told.intents[key]
        state[2:4] = ["captured", state[1]]
        self._captured.append(key)

    def _refund(self, key: str) -> None:
        refund = self._uuid()

        def statement(names: Names) -> str:
            return (
                f"WITH i AS (UPDATE {names.intent} SET status = 'refunded', refunded_amount = amount, "
                "updated_at = now() WHERE id = %(key)s RETURNING id, amount) "
                f"INSERT INTO {names.refund} (id, intent_id, amount, status, "
                "reason, processor_refund_id) SELECT %(refund)s, id, amount, 'succeeded', '', 're_' || id FROM i"
            )

        self._until_done(statement, {"key": key, "refund": refund})
        state = self.told.intents[key]
        state[2], state[4] = "refunded", state[1]
        self.told.refunds[refund] = [key, state[1]]

    def _until_done(self, statement: Callable[[Names], str], given: Mapping[str, object]) -> None:
        """One statement, which is one transaction, on the side that takes it."""
        while True:
            try:
                self._link(self._side).execute(statement(NAMES[self._side]).encode(), given)
            except psycopg.Error as error:
                if error.sqlstate != FENCED:
                    raise
                self.told.fenced += 1
                self._side = SIDES[1 - SIDES.index(self._side)]
                time.sleep(0.01)
            else:
                self.told.writes += 1
                return

    def _link(self, side: str) -> Link:
        if side not in self._links:
            self._links[side] = psycopg.connect(self._writing.urls[side], autocommit=True)
        return self._links[side]

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))


def _obey(writing: Writing) -> None:
    for line in sys.stdin:
        match line.strip():
            case "probe":
                writing.looking.set()
            case "blind":
                writing.looking.clear()
            case "go":
                writing.going.set()
            case "pause":
                writing.going.clear()
                for idle in writing.idle:
                    idle.wait()
            case "end":
                break
        print(line.strip(), flush=True)
    writing.ended.set()
    writing.going.set()


def main() -> None:
    """Write until the end is said; then what was acknowledged goes into a file."""
    config = json.loads(Path(sys.argv[1]).read_text())
    writing = Writing(config)
    clients = [Thread(writing, number) for number in range(THREADS + 1)]
    work = [client.run for client in clients[:-1]] + [clients[-1].probe]
    threads = [
        threading.Thread(target=client.guarded, args=(each,), daemon=True)
        for client, each in zip(clients, work, strict=True)
    ]
    for thread in threads:
        thread.start()
    _obey(writing)
    for thread in threads:
        thread.join(PROBE_WITHIN_S)
    told = [client.told for client in clients]
    document = {
        "intents": {key: state for each in told for key, state in each.intents.items()},
        "refunds": {key: state for each in told for key, state in each.refunds.items()},
        "keys": [key for each in told for key in each.keys],
        "writes": sum(each.writes for each in told),
        "fenced": sum(each.fenced for each in told),
        "lag_ms": told[-1].lag_ms,
        "failures": writing.failures,
    }
    Path(config["out"]).write_text(json.dumps(document))


if __name__ == "__main__":
    main()
