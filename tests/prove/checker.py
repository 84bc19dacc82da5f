"""Judges a run by its history and the two databases alone. Shares no code with the toolkit: psycopg and the standard
library only."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

_SIDES: dict[str, dict[str, str]] = {
    "monolith": {
        "person": "SELECT id, email, name FROM person ORDER BY 1",
        "note": "SELECT id::text, person_id, trim_scale(amount)::text, trim(currency), body::jsonb::text, "
        "extract(epoch FROM written_at)::text FROM note ORDER BY 1",
        "tally": 'SELECT place, day, hits FROM tally ORDER BY place COLLATE "C", day',
    },
    "extracted": {
        "person": "SELECT member_id, address, display_name FROM member ORDER BY 1",
        "note": "SELECT id::text, member_id, trim_scale(amount)::text, currency, content::jsonb::text, "
        "extract(epoch FROM at)::text FROM remark ORDER BY 1",
        "tally": 'SELECT place, day::int, hits::int FROM tally ORDER BY place COLLATE "C", day',
    },
}


@dataclass
class Verdict:
    """What the checker found; empty `violations` is a pass."""

    operations: int = 0
    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    violations: list[str] = field(default_factory=list)


def check(history: Path, urls: dict[str, str]) -> Verdict:
    """Read everything and judge. `urls` by `monolith` and `extracted`."""
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    rows = {side: _rows(urls[side], side) for side in _SIDES}
    verdict = Verdict(operations=sum(line["phase"] == "invoke" for line in lines))
    verdict.acknowledged = sum(line["phase"] == "ok" for line in lines)
    verdict.unknown = sum(line["phase"] == "info" for line in lines)
    verdict.refused = sum(line["phase"] == "fail" for line in lines)
    owner = _owner(urls, verdict)
    _equal(rows, verdict)
    if owner is not None:
        _notes(lines, rows[owner], verdict)
        _registers(lines, rows[owner], verdict)
        _direct(lines, rows[owner], verdict)
        _joined(lines, rows[owner], verdict)
    _reads(lines, verdict)
    _epochs(lines, verdict)
    for line in lines:
        if line["op"] == "crash":
            verdict.violations.append(f"client {line['client']} met an error nobody may see: {line['error']}")
    return verdict


def _rows(url: str, side: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return {name: connection.execute(query.encode()).fetchall() for name, query in _SIDES[side].items()}


def _owner(urls: dict[str, str], verdict: Verdict) -> str | None:
    """One side is open, no cutover is under way, and the closed side refuses a write."""
    opened = []
    for side, url in urls.items():
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute("SELECT open, epoch FROM strangler.ownership").fetchone()
            left = connection.execute(
                "SELECT count(*) FROM strangler.cutover WHERE status IN ('holding', 'committed')"
            ).fetchone()
        if row and row[0]:
            opened.append(side)
        if left and left[0]:
            verdict.violations.append(f"{left[0]} cutovers at {side} never ended")
    if len(opened) != 1:
        verdict.violations.append(f"open sides at the end: {opened or 'none'}")
        return None
    return opened[0]


def _equal(rows: dict[str, dict[str, list[tuple[Any, ...]]]], verdict: Verdict) -> None:
    for table in ("person", "note", "tally"):
        here, there = rows["monolith"][table], rows["extracted"][table]
        if here != there:
            apart = set(map(repr, here)) ^ set(map(repr, there))
            verdict.violations.append(f"table {table}: {len(here)} and {len(there)} rows, {len(apart)} differ")


def _notes(lines: list[dict[str, Any]], rows: dict[str, list[tuple[Any, ...]]], verdict: Verdict) -> None:
    tried = {line["key"] for line in lines if line["op"] == "note"}
    acknowledged = {line["key"] for line in lines if line["op"] == "note" and line["phase"] == "ok"}
    there = [row[0] for row in rows["note"]]
    erased = {line["key"] for line in lines if line["op"] == "erase" and line["phase"] == "ok"}
    begun = {line["key"] for line in lines if line["op"] == "erase"}
    for key in erased & set(there):
        verdict.violations.append(f"key {key} is back after its deletion was acknowledged")
    for key in acknowledged - begun - set(there):
        verdict.violations.append(f"acknowledged key {key} is lost")
    for key in set(there) - tried:
        verdict.violations.append(f"key {key} is there, and nobody wrote it")
    if len(set(there)) != len(there):
        verdict.violations.append("a key is there twice")
    if any(row[2] != "1.25" for row in rows["note"]):
        verdict.violations.append("an amount changed on the way")
    total = next((row[2] for row in rows["tally"] if row[0] == "sum"), None)
    if total != len(there):
        verdict.violations.append(f"the sum says {total}, there are {len(there)} notes")


def _registers(lines: list[dict[str, Any]], rows: dict[str, list[tuple[Any, ...]]], verdict: Verdict) -> None:
    """A person's name is the last acknowledged one, or one whose fate was unknown after it."""
    possible: dict[int, set[str]] = defaultdict(set)
    for line in lines:
        if line["op"] != "name":
            continue
        if line["phase"] == "ok":
            possible[line["person"]] = {line["value"]}
        elif line["phase"] == "info":
            possible[line["person"]].add(line["value"])
    names = {row[0]: row[2] for row in rows["person"]}
    for person, values in possible.items():
        if names.get(person) not in values and any(
            line["op"] == "name" and line["phase"] == "ok" and line["person"] == person for line in lines
        ):
            verdict.violations.append(f"person {person} is called {names.get(person)!r}: an acknowledged name is lost")


def _direct(lines: list[dict[str, Any]], rows: dict[str, list[tuple[Any, ...]]], verdict: Verdict) -> None:
    ok = sum(line["op"] == "direct" and line["phase"] == "ok" for line in lines)
    unknown = sum(line["op"] == "direct" and line["phase"] == "info" for line in lines)
    total = next((row[2] for row in rows["tally"] if row[0] == "direct"), None)
    if total is None or not ok <= total <= ok + unknown:
        verdict.violations.append(f"the direct writer was told of {ok} writes ({unknown} unknown), {total} are there")


def _joined(lines: list[dict[str, Any]], rows: dict[str, list[tuple[Any, ...]]], verdict: Verdict) -> None:
    emails = [row[1] for row in rows["person"]]
    for line in lines:
        if line["op"] == "join" and line["phase"] == "ok" and emails.count(line["email"]) != 1:
            verdict.violations.append(f"person {line['email']} is there {emails.count(line['email'])} times")


def _reads(lines: list[dict[str, Any]], verdict: Verdict) -> None:
    """In the transaction that adds a note, all notes of this person that were acknowledged before are seen.

    A person is one client's, which does one thing at a time; a deletion that was begun may count or not.
    """
    person_of: dict[str, int] = {}
    known: dict[int, int] = defaultdict(int)
    for line in lines:
        if line["op"] == "note" and line["phase"] == "ok":
            person_of[line["key"]] = line["person"]
            known[line["person"]] += 1
            if line["counted"] is not None and line["counted"] < known[line["person"]]:
                verdict.violations.append(
                    f"{line['client']} saw {line['counted']} notes of person {line['person']} at {line['side']}, "
                    f"{known[line['person']]} were acknowledged"
                )
        elif line["op"] == "erase" and line["phase"] == "invoke" and line["key"] in person_of:
            known[person_of[line["key"]]] -= 1


def _epochs(lines: list[dict[str, Any]], verdict: Verdict) -> None:
    """Each epoch opens one side, and a side's epoch never goes back."""
    opened: dict[int, set[str]] = defaultdict(set)
    last: dict[str, int] = {}
    for line in lines:
        if line["op"] != "grant":
            continue
        side, epoch = line["side"], line["epoch"]
        if line["open"]:
            opened[epoch].add(side)
        if epoch < last.get(side, 0):
            verdict.violations.append(f"the epoch at {side} went back from {last[side]} to {epoch}")
        last[side] = epoch
    for epoch, sides in opened.items():
        if len(sides) > 1:
            verdict.violations.append(f"epoch {epoch} opened both sides")
