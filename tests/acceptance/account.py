"""The account at the end: what clients were told, what the card processor charged, what both databases hold.

Shares no code with the toolkit: it reads the databases and the ledger with its own SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import httpx
import psycopg

from tests.acceptance.traffic import Sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same rows on both sides, as two queries that must give the same text rows in the same order."""

    name: str
    monolith: str
    service: str
    database: str


def _rows(table: str, key: str, columns: str) -> str:
    return f"SELECT concat_ws('|', {columns}) FROM (SELECT * FROM {table} ORDER BY {key}) AS t"


def _text(*columns: str) -> str:
    return ", ".join(f"coalesce({column}::text, '-')" for column in columns)


_INTENT = ("id", "amount", "currency", "status", "captured_amount", "refunded_amount", "card_token", "description")
_INTENT_REST = ("processor_charge_id", "created_at", "updated_at")
_REFUND = ("id", "intent_id", "amount", "status", "reason", "processor_refund_id", "created_at", "updated_at")
_KEY = ("key", "fingerprint", "response_status", "response_body", "locked_at", "created_at")

PAIRS = (
    Pair(
        name="users",
        monolith=_rows("accounts_user", "id", _text("id", "email", "password", "name", "is_active", "created_at")),
        service=_rows("account", "id", _text("id", "email", "password_hash", "name", "is_active", "created_at")),
        database="auth",
    ),
    Pair(
        name="refresh tokens",
        monolith=_rows(
            "accounts_refreshtoken",
            "id",
            _text("id", "user_id", "token_hash", "created_at", "expires_at", "revoked_at"),
        ),
        service=_rows(
            "refresh_token", "id", _text("id", "account_id", "token_hash", "created_at", "expires_at", "revoked_at")
        ),
        database="auth",
    ),
    Pair(
        name="payments",
        monolith=_rows("payments_intent", "id", _text("user_id", "order_id", *_INTENT, *_INTENT_REST)),
        service=_rows("intent", "id", _text("customer_id", "order_ref", *_INTENT, *_INTENT_REST)),
        database="payments",
    ),
    Pair(
        name="refunds",
        monolith=_rows("payments_refund", "id", _text(*_REFUND)),
        service=_rows("refund", "id", _text(*_REFUND)),
        database="payments",
    ),
    Pair(
        name="idempotency keys",
        monolith=_rows("payments_idempotencykey", 'user_id, key COLLATE "C"', _text("user_id", *_KEY)),
        service=_rows("idempotency_key", 'customer_id, key COLLATE "C"', _text("customer_id", *_KEY)),
        database="payments",
    ),
    Pair(
        name="webhook events",
        monolith=_rows("payments_webhookevent", 'id COLLATE "C"', _text("id", "kind", "payload", "received_at")),
        service=_rows("webhook_event", 'id COLLATE "C"', _text("id", "kind", "payload", "received_at")),
        database="payments",
    ),
    Pair(
        name="settlements",
        monolith=_rows(
            "payments_settlement", "id", _text("id", "date", "currency", "captured_total", "refunded_total", "payments")
        ),
        service=_rows(
            "settlement", "id", _text("id", "date", "currency", "captured_total", "refunded_total", "payments")
        ),
        database="payments",
    ),
)


@dataclass(slots=True)
class Account:
    """What was found. `problems` is empty when everything adds up."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def rows_on_both_sides(dsns: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Compare every moved table; (a line each, the differences). `dsns`: monolith, auth, payments."""
    lines, problems = [], []
    for pair in PAIRS:
        with psycopg.connect(dsns["monolith"]) as one, psycopg.connect(dsns[pair.database]) as two:
            for connection in (one, two):
                connection.execute("SET timezone TO 'UTC'")
            mine = [row[0] for row in one.execute(pair.monolith)]
            theirs = [row[0] for row in two.execute(pair.service)]
        lines.append(f"{pair.name}: {len(mine)} in the monolith, {len(theirs)} in {pair.database}")
        if mine != theirs:
            only_mine, only_theirs = set(mine) - set(theirs), set(theirs) - set(mine)
            example = next(iter(only_mine or only_theirs), "order of rows")
            problems.append(
                f"{pair.name}: {len(only_mine)} rows only in the monolith, {len(only_theirs)} only in {pair.database}, "
                f"for example {example[:300]}"
            )
    return lines, problems


def draw_up(
    sheet: Sheet, dsns: Mapping[str, str], *, owner_of_payments: str, processor_url: str, token: str, exact: bool = True
) -> Account:
    """Hold what clients were told against the ledger and both databases. Call it when nothing is in flight.

    `exact`: no request failed, so there must be as many charges as acknowledged payments; where processes were killed
    a client may not have heard of a charge (it would ask again with its key).
    """
    account = Account()
    account.lines, account.problems = rows_on_both_sides(dsns)
    ledger = (
        httpx.get(f"{processor_url}/v1/ledger", headers={"Authorization": f"Bearer {token}"}, timeout=30.0)
        .raise_for_status()
        .json()
    )
    charges = {c["reference"]: c for c in ledger["charges"] if c["status"] == "succeeded"}
    twice = ledger["duplicate_references"]
    if twice:
        account.problems.append(f"charged more than once: {twice[:5]}")
    in_monolith = owner_of_payments == "monolith"
    table, order, database = (
        ("payments_intent", "order_id", "monolith") if in_monolith else ("intent", "order_ref", "payments")
    )
    refund_table = "payments_refund" if in_monolith else "refund"
    with psycopg.connect(dsns[database]) as connection:
        known = {
            str(row[0]): row[1:]
            for row in connection.execute(
                f"SELECT id, amount, captured_amount, refunded_amount, status, {order} FROM {table}"
            )
        }
        refunds = {str(row[0]): row[1] for row in connection.execute(f"SELECT id, status FROM {refund_table}")}
        over = connection.execute(
            f"SELECT count(*) FROM {table} WHERE refunded_amount > captured_amount OR captured_amount > amount"
        ).fetchone()
    lost = [pid for pid in sheet.captured if pid not in known or known[pid][1] != Decimal(sheet.captured[pid])]
    uncharged = [pid for pid in sheet.captured if not any(pid in reference for reference in charges)]
    lost_refunds = [rid for rid in sheet.refunded if refunds.get(rid) != "succeeded"]
    if lost:
        account.problems.append(f"acknowledged payments that the owner does not hold: {lost[:5]}")
    if uncharged:
        account.problems.append(f"acknowledged payments without a charge: {uncharged[:5]}")
    if lost_refunds:
        account.problems.append(f"acknowledged refunds that the owner does not hold: {lost_refunds[:5]}")
    if over and over[0]:
        account.problems.append(f"{over[0]} payments with more refunded than captured, or captured than asked")
    unpaid = sheet.paid_orders - {row[4] for row in known.values() if row[1] > 0}
    if unpaid:
        account.problems.append(f"orders acknowledged as paid without a captured payment: {sorted(unpaid)[:5]}")
    acknowledged = set(sheet.captured) | {pid for pid, row in known.items() if row[4] in sheet.paid_orders}
    if len(charges) < len(acknowledged) or (exact and len(charges) != len(acknowledged)):
        account.problems.append(f"{len(acknowledged)} payments acknowledged, {len(charges)} charges in the ledger")
    account.lines += [
        f"requests: {sheet.requests}, failed: {len(sheet.failures)}",
        f"payments acknowledged: {len(acknowledged)}, refunds acknowledged: {len(sheet.refunded)}",
        f"charges in the processor's ledger: {len(charges)}, charged twice: {len(twice)}",
    ]
    return account
