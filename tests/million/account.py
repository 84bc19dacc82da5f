"""The account at the end: both sides, and what clients were told, by SQL of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from tests.acceptance.account import PAIRS
from tests.million.writer import NAMES

Row = tuple[Any, ...]

_SUMS = "SELECT count(*), coalesce(sum(hashtextextended(t.concat_ws, 0)), 0) FROM ({}) AS t"
_MONEY = (
    "SELECT trim(currency), status, count(*), sum(amount), sum(captured_amount), sum(refunded_amount) "
    "FROM {} GROUP BY 1, 2 ORDER BY 1, 2"
)
_TOLD = """
CREATE TEMPORARY TABLE told_intent (
    id uuid, currency text, amount bigint, status text, captured bigint, refunded bigint);
CREATE TEMPORARY TABLE told_refund (id uuid, intent_id uuid, amount bigint);
CREATE TEMPORARY TABLE told_key (customer_id bigint, key text)
"""
_MISSING = {
    "payments": """
SELECT count(*) FROM told_intent AS a LEFT JOIN intent AS b USING (id)
WHERE (trim(b.currency), b.amount * 100, b.status, b.captured_amount * 100, b.refunded_amount * 100)
    IS DISTINCT FROM (a.currency, a.amount::numeric, a.status, a.captured::numeric, a.refunded::numeric)""",
    "refunds": """
SELECT count(*) FROM told_refund AS a LEFT JOIN refund AS b USING (id)
WHERE (b.intent_id, b.amount * 100, b.status) IS DISTINCT FROM (a.intent_id, a.amount::numeric, 'succeeded')""",
    "keys": """
SELECT count(*) FROM told_key AS a LEFT JOIN idempotency_key AS b USING (customer_id, key) WHERE b.key IS NULL""",
}


def both_sides(urls: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows, a sum over all their values and the money, on both sides; (lines, differences)."""
    lines, problems = [], []
    for pair in PAIRS:
        if pair.database != "payments":
            continue
        (mine,), (theirs,) = (
            _read(urls[side], _SUMS.format(query))
            for side, query in (("monolith", pair.monolith), ("payments", pair.service))
        )
        lines.append(
            (f"{pair.name} on both sides", f"{mine[0]:,} and {theirs[0]:,}, sums over all values {_same(mine, theirs)}")
        )
        if mine != theirs:
            problems.append(f"{pair.name}: {mine} in the monolith, {theirs} in payments")
    mine, theirs = (_read(urls[side], _MONEY.format(NAMES[side].intent)) for side in ("monolith", "payments"))
    for currency, status, rows, amount, captured, refunded in theirs:
        lines.append(
            (f"{currency}, {status}", f"{rows:,} payments of {amount:,}, captured {captured:,}, refunded {refunded:,}")
        )
    lines.append(("money by currency and status", f"{_same(mine, theirs)} on both sides"))
    if mine != theirs:
        problems.append(f"money by currency and status: {mine} in the monolith, {theirs} in payments")
    return lines, problems


def acknowledged(
    owner: str, told: Mapping[str, Any], filled: Mapping[str, int]
) -> tuple[list[tuple[str, str]], list[str]]:
    """What clients were told, against the rows of the side that owns them now; (lines, differences)."""
    problems = list(told["failures"])
    with psycopg.connect(owner, autocommit=True) as link:
        link.execute(_TOLD.encode())
        _copy(link, "told_intent", [(key, *state) for key, state in told["intents"].items()])
        _copy(link, "told_refund", [(key, *state) for key, state in told["refunds"].items()])
        _copy(link, "told_key", told["keys"])
        wrong = {name: _first(link, query) for name, query in _MISSING.items()}
        found = {
            "payments": _first(link, "SELECT count(*) FROM intent") - filled["intents"],
            "refunds": _first(link, "SELECT count(*) FROM refund") - filled["refunds"],
            "keys": _first(link, "SELECT count(*) FROM idempotency_key") - filled["keys"],
        }
    wanted = {"payments": len(told["intents"]), "refunds": len(told["refunds"]), "keys": len(told["keys"])}
    lines = []
    for name, number in wanted.items():
        lines.append(
            (f"{name} acknowledged", f"{number:,}; found {found[name]:,}, lost or other than told {wrong[name]}")
        )
        if found[name] != number or wrong[name]:
            problems.append(f"{name}: {number} were acknowledged, {found[name]} are there, {wrong[name]} lost or other")
    return lines, problems


def _read(url: str, query: str) -> list[Row]:
    with psycopg.connect(url) as link:
        link.execute("SET timezone TO 'UTC'")
        return link.execute(query.encode()).fetchall()


def _copy(link: psycopg.Connection[Row], table: str, rows: list[Any]) -> None:
    with link.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _first(link: psycopg.Connection[Row], query: str) -> int:
    row = link.execute(query.encode()).fetchone()
    return 0 if row is None else int(row[0])


def _same(one: object, other: object) -> str:
    return "equal" if one == other else "NOT equal"
