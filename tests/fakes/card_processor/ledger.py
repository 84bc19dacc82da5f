"""The durable ledger: SQLite, one connection, one thread.

Every operation is one transaction with the row of its idempotency key and its webhook, committed with an fsync
(`synchronous=FULL`) before it is answered: what was acknowledged survives `kill -9`. Concurrent duplicates are
harmless because a single thread decides.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .money import from_cents
from .switches import Switches

_SCHEMA = Path(__file__).with_name("schema.sql")
GIVE_UP_AFTER_S = 24 * 3600.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


class KeyReused(Exception):
    """The idempotency key was used with other parameters."""


class UnknownCharge(Exception):
    """A refund names a charge that is not in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A recorded operation: its JSON object and whether this call recorded it (or found it)."""

    body: dict[str, Any]
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A webhook to send. `body` is the exact text that is signed; `attempts` made so far."""

    id: str
    body: str
    attempts: int


class Ledger:
    """All methods block: call them on one and the same thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(_SCHEMA.read_text())

    def close(self) -> None:
        """Close the file; nothing is pending, every operation has committed."""
        self._db.close()

    def charge(
        self, key: str, amount_cents: int, currency: str, source: str, reference: str, decline: bool = False
    ) -> Operation:
        """Charge once per key. `decline` is this call's luck; a found operation keeps its own outcome."""
        fingerprint = _fingerprint("charge", amount_cents, currency, source, reference)

        def record() -> tuple[dict[str, Any], str | None]:
            status = "declined" if decline or source == "tok_declined" else "succeeded"
            body = {
                "id": "ch_" + secrets.token_hex(12),
                "status": status,
                "amount": from_cents(amount_cents),
                "currency": currency,
                "reference": reference,
            }
            row = (body["id"], status, amount_cents, currency, source, reference, self._clock())
            self._db.execute("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return body, f"charge.{status}"

        return self._once(key, "charge", fingerprint, record)

    def refund(self, key: str, charge_id: str, amount_cents: int, reference: str) -> Operation:
        """Refund once per key; `failed` when the charge was declined or less than that is left of it."""
        fingerprint = _fingerprint("refund", charge_id, amount_cents, reference)

        def record() -> tuple[dict[str, Any], str | None]:
            left = self._left(charge_id)
            status = "succeeded" if amount_cents <= left else "failed"
            body = {
                "id": "re_" + secrets.token_hex(12),
                "charge_id": charge_id,
                "status": status,
                "amount": from_cents(amount_cents),
                "reference": reference,
            }
            row = (body["id"], charge_id, status, amount_cents, reference, self._clock())
            self._db.execute("INSERT INTO refund VALUES (?, ?, ?, ?, ?, ?)", row)
            return body, "refund.succeeded" if status == "succeeded" else None

        return self._once(key, "refund", fingerprint, record)

    def operation(self, key: str) -> dict[str, Any] | None:
        """What was recorded under a key, with its `kind`."""
        row = self._db.execute("SELECT kind, body FROM operation WHERE idempotency_key = ?", (key,)).fetchone()
        return None if row is None else {"kind": row["kind"], **json.loads(row["body"])}

    def summary(self) -> dict[str, Any]:
        """The whole ledger and its totals; `duplicate_references` lists references charged more than once."""
        charges = [_money(row) for row in self._db.execute("SELECT * FROM charge ORDER BY created_at, id")]
        refunds = [_money(row) for row in self._db.execute("SELECT * FROM refund ORDER BY created_at, id")]
        charged = "SELECT currency, sum(amount_cents) FROM charge WHERE status = 'succeeded' GROUP BY 1"
        refunded = (
            "SELECT c.currency, sum(r.amount_cents) FROM refund r JOIN charge c ON c.id = r.charge_id"
            " WHERE r.status = 'succeeded' GROUP BY 1"
        )
        twice = "SELECT reference FROM charge WHERE status = 'succeeded' GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
        return {
            "charges": charges,
            "refunds": refunds,
            "succeeded_charges": sum(charge["status"] == "succeeded" for charge in charges),
            "charged_total": {row[0]: from_cents(row[1]) for row in self._db.execute(charged)},
            "refunded_total": {row[0]: from_cents(row[1]) for row in self._db.execute(refunded)},
            "duplicate_references": [row[0] for row in self._db.execute(twice)],
        }

    def due_events(self, limit: int) -> list[Event]:
        """Webhooks to send now, oldest first; those older than 24 h are given up."""
        now = self._clock()
        query = (
            "SELECT id, body, attempts FROM event WHERE delivered_at IS NULL AND next_attempt_at <= ?"
            " AND created_at > ? ORDER BY next_attempt_at, created_at LIMIT ?"
        )
        rows = self._db.execute(query, (now, now - GIVE_UP_AFTER_S, limit))
        return [Event(id=row["id"], body=row["body"], attempts=row["attempts"]) for row in rows]

    def next_attempt_in(self) -> float | None:
        """Seconds until the next webhook is due (0 when one is overdue), None when there is none."""
        now = self._clock()
        query = "SELECT min(next_attempt_at) FROM event WHERE delivered_at IS NULL AND created_at > ?"
        (due,) = self._db.execute(query, (now - GIVE_UP_AFTER_S,)).fetchone()
        return None if due is None else max(0.0, due - now)

    def delivered(self, event_id: str) -> None:
        """The receiver acknowledged it."""
        self._db.execute("UPDATE event SET delivered_at = ? WHERE id = ?", (self._clock(), event_id))

    def undelivered(self, event: Event) -> None:
        """It was not acknowledged: 1 s, doubling to 60 s, until the next attempt."""
        update = "UPDATE event SET attempts = ?, next_attempt_at = ? WHERE id = ?"
        self._db.execute(update, (event.attempts + 1, self._clock() + backoff_s(event.attempts), event.id))

    def switches(self) -> Switches:
        """As last set; they survive a restart."""
        rows = self._db.execute("SELECT name, value FROM switch")
        return Switches(**{row["name"]: json.loads(row["value"]) for row in rows})

    def set_switches(self, switches: Switches) -> None:
        """Keep all of them."""
        rows = [(name, json.dumps(value)) for name, value in switches.as_json().items()]
        self._db.executemany("INSERT OR REPLACE INTO switch VALUES (?, ?)", rows)

    def _left(self, charge_id: str) -> int:
        row = self._db.execute("SELECT status, amount_cents FROM charge WHERE id = ?", (charge_id,)).fetchone()
        if row is None:
            raise UnknownCharge(charge_id)
        if row["status"] == "declined":
            return 0
        query = "SELECT coalesce(sum(amount_cents), 0) FROM refund WHERE charge_id = ? AND status = 'succeeded'"
        (taken,) = self._db.execute(query, (charge_id,)).fetchone()
        return row["amount_cents"] - taken

    def _once(
        self, key: str, kind: str, fingerprint: str, record: Callable[[], tuple[dict[str, Any], str | None]]
    ) -> Operation:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            found = self._db.execute("SELECT * FROM operation WHERE idempotency_key = ?", (key,)).fetchone()
            if found is None:
                body, event_kind = record()
                row = (key, kind, fingerprint, json.dumps(body))
                self._db.execute("INSERT INTO operation VALUES (?, ?, ?, ?)", row)
                if event_kind is not None:
                    self._add_event(event_kind, body)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        if found is None:
            return Operation(body=body, new=True)
        if found["fingerprint"] != fingerprint:
            raise KeyReused(key)
        return Operation(body=json.loads(found["body"]), new=False)

    def _add_event(self, kind: str, data: dict[str, Any]) -> None:
        now = self._clock()
        event_id = "evt_" + secrets.token_hex(12)
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = json.dumps({"id": event_id, "kind": kind, "created_at": at, "data": data}, separators=(",", ":"))
        insert = "INSERT INTO event (id, kind, body, created_at, next_attempt_at) VALUES (?, ?, ?, ?, ?)"
        self._db.execute(insert, (event_id, kind, body, now, now))


def backoff_s(attempts: int) -> float:
    """Seconds to wait after the failed attempt number `attempts` (from 0)."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempts, 16))


def _fingerprint(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _money(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    values["amount"] = from_cents(values.pop("amount_cents"))
    values["created_at"] = datetime.fromtimestamp(values["created_at"], UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return values
