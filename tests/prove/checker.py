"""Judges a run by its history and the databases alone. Shares no code with the toolkit: psycopg and the standard
library only.

`judge` is a function of values, so that each check can be shown to see what it is there for.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

SIDES: dict[str, dict[str, str]] = {
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
Line = Mapping[str, Any]
Rows = Mapping[str, Sequence[tuple[Any, ...]]]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What an ownership record was set to, by the clock of its server (one machine: clocks agree)."""

    epoch: int
    open: bool
    at: float


@dataclass(kw_only=True)
class Books:
    """What both databases of a flag hold at the end, and what the provider charged."""

    rows: dict[str, Rows]
    grants: dict[str, list[Grant]]
    left: dict[str, int] = field(default_factory=dict)
    charges: Mapping[str, Sequence[tuple[str, str]]] | None = None  # of the provider, by key: id and status
    effects: Mapping[str, int] | None = None  # of events, by key


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What may not be, and the keys it is about."""

    what: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.what


@dataclass
class Verdict:
    """What the checker found; empty `violations` is a pass."""

    operations: int = 0
    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    payments: int = 0
    violations: list[Violation] = field(default_factory=list)

    def blame(self, what: str, *keys: object) -> None:
        """One violation."""
        self.violations.append(Violation(what=what, keys=tuple(map(str, keys))))

    def add(self, other: Verdict, name: str) -> None:
        """Another flag's verdict to this one."""
        for count in ("operations", "acknowledged", "unknown", "refused", "payments"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.violations += [Violation(what=f"{name}: {each.what}", keys=each.keys) for each in other.violations]


def cents_of(key: str) -> int:
    """The amount that a client gives this key."""
    return 1 + int(key[:6], 16) % 9_999


def check(
    history: Path,
    urls: Mapping[str, str],
    charges: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    effects: Mapping[str, int] | None = None,
) -> Verdict:
    """Read everything and judge. `urls` by `monolith` and `extracted`, as superuser."""
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    books = read_books(urls)
    books.charges, books.effects = charges, effects
    return judge(lines, books)


def read_books(urls: Mapping[str, str]) -> Books:
    """What the databases hold."""
    books = Books(rows={}, grants={})
    for side, url in urls.items():
        with psycopg.connect(url, autocommit=True) as connection:
            books.rows[side] = {n: connection.execute(q.encode()).fetchall() for n, q in SIDES[side].items()}
            found = connection.execute("SELECT epoch, open, at FROM prove.grants ORDER BY id").fetchall()
            books.grants[side] = [Grant(epoch=row[0], open=row[1], at=row[2]) for row in found]
            row = connection.execute(
                "SELECT count(*) FROM strangler.cutover WHERE status IN ('holding', 'committed')"
            ).fetchone()
            books.left[side] = row[0] if row else 0
    return books


def judge(lines: Sequence[Line], books: Books) -> Verdict:
    """Everything that may not be."""
    phases = Counter(line["phase"] for line in lines)
    verdict = Verdict(
        operations=phases["invoke"], acknowledged=phases["ok"], unknown=phases["info"], refused=phases["fail"]
    )
    for side, left in books.left.items():
        if left:
            verdict.blame(f"{left} cutovers at {side} never ended")
    _one_owner(books.grants, verdict)
    _equal(books.rows, verdict)
    owners = [side for side, grants in books.grants.items() if grants and grants[-1].open]
    if len(owners) != 1:
        verdict.blame(f"open sides at the end: {owners or 'none'}")
    else:
        rows = books.rows[owners[0]]
        for one in (_notes, _money, _answers, _registers, _direct, _joined):
            one(lines, rows, verdict)
        if books.charges is not None:
            _charged(lines, books, rows, verdict)
    _reads(lines, verdict)
    for line in lines:
        if line["op"] == "crash":
            verdict.blame(f"client {line['client']} met an error nobody may see: {line['error']}")
    return verdict


def _one_owner(grants: Mapping[str, Sequence[Grant]], verdict: Verdict) -> None:
    """Each epoch opens one side, a side's epoch never goes back, and never were both open at one time."""
    opened: dict[int, set[str]] = defaultdict(set)
    spans: list[tuple[float, float, str]] = []
    for side, some in grants.items():
        last, since = 0, None
        for grant in some:
            if grant.epoch < last:
                verdict.blame(f"the epoch at {side} went back from {last} to {grant.epoch}")
            last = grant.epoch
            if grant.open:
                opened[grant.epoch].add(side)
                since = grant.at if since is None else since
            elif since is not None:
                spans.append((since, grant.at, side))
                since = None
        if since is not None:
            spans.append((since, float("inf"), side))
    for epoch, sides in opened.items():
        if len(sides) > 1:
            verdict.blame(f"epoch {epoch} opened both sides")
    spans.sort()
    for (_, ended, one), (began, _, other) in pairwise(spans):
        if one != other and began < ended:
            verdict.blame(f"{one} and {other} were open at one time, at {began:.3f}")


def _equal(rows: Mapping[str, Rows], verdict: Verdict) -> None:
    for table in SIDES["monolith"]:
        here, there = rows["monolith"][table], rows["extracted"][table]
        if here != there:
            apart = sorted(set(map(repr, here)) ^ set(map(repr, there)))
            keys = {str(row[0]) for row in set(here) ^ set(there)}
            verdict.blame(
                f"table {table}: {len(here)} and {len(there)} rows, {len(apart)} differ: {apart[:2]}", *sorted(keys)[:5]
            )


def _of(lines: Sequence[Line], operation: str, *phases: str) -> list[Line]:
    return [line for line in lines if line["op"] == operation and (not phases or line["phase"] in phases)]


def _notes(lines: Sequence[Line], rows: Rows, verdict: Verdict) -> None:
    """Every acknowledged key exactly once, no phantom, what failed is absent."""
    there = Counter(row[0] for row in rows["note"])
    acknowledged = {line["key"] for line in (*_of(lines, "note", "ok"), *_of(lines, "pay", "ok"))}
    erased = {line["key"] for line in _of(lines, "erase", "ok")}
    begun = {line["key"] for line in _of(lines, "erase")}
    tried = {line["key"] for line in (*_of(lines, "note"), *_of(lines, "pay"))}
    failed = {line["key"] for line in _of(lines, "note", "fail")} - {
        line["key"] for line in _of(lines, "note", "ok", "info")
    }
    for key in sorted(erased & set(there)):
        verdict.blame(f"key {key} is back after its deletion was acknowledged", key)
    for key in sorted(acknowledged - begun - set(there)):
        verdict.blame(f"acknowledged key {key} is lost", key)
    for key in sorted(set(there) - tried):
        verdict.blame(f"key {key} is there, and nobody wrote it", key)
    for key in sorted(failed & set(there)):
        verdict.blame(f"key {key} is there, and its client was told that nothing happened", key)
    for key in sorted(key for key, count in there.items() if count > 1):
        verdict.blame(f"key {key} is there {there[key]} times", key)


def _money(lines: Sequence[Line], rows: Rows, verdict: Verdict) -> None:
    """Amounts are what clients gave; till and bank together are nothing, and the till holds the notes' sum."""
    total = 0
    for row in rows["note"]:
        total += cents_of(row[0])
        if round(float(row[2]) * 100) != cents_of(row[0]) or row[3] != "EUR":
            verdict.blame(f"key {row[0]}: its amount was {cents_of(row[0])} cents, it is {row[2]} {row[3]}", row[0])
    till = sum(row[2] for row in rows["tally"] if row[0] == "till")
    bank = sum(row[2] for row in rows["tally"] if row[0] == "bank")
    if till + bank:
        verdict.blame(f"money is not constant: till {till} and bank {bank} together are {till + bank}")
    if till != total:
        verdict.blame(f"the till says {till} cents, the notes add up to {total}")


def _answers(lines: Sequence[Line], rows: Rows, verdict: Verdict) -> None:
    """The same key gets the same answer, whichever side gives it, and it is what the owner holds."""
    stored = {row[0]: row[5] for row in rows["note"]}
    told: dict[str, str] = {}
    for line in lines:
        if line["phase"] != "ok" or "answer" not in line:
            continue
        key, answer = line["key"], line["answer"]
        if told.setdefault(key, answer) != answer:
            verdict.blame(f"key {key} was answered {told[key]} and then {answer}", key)
        if line["op"] == "note" and key in stored and stored[key] != answer:
            verdict.blame(f"key {key} was answered {answer}, the owner holds {stored[key]}", key)


def _registers(lines: Sequence[Line], rows: Rows, verdict: Verdict) -> None:
    """A person's name is the last acknowledged one, or one whose fate was unknown after it."""
    possible: dict[int, set[str]] = defaultdict(set)
    acknowledged: set[int] = set()
    for line in _of(lines, "name", "ok", "info"):
        if line["phase"] == "ok":
            possible[line["person"]] = {line["value"]}
            acknowledged.add(line["person"])
        else:
            possible[line["person"]].add(line["value"])
    names = {row[0]: row[2] for row in rows["person"]}
    for person in sorted(acknowledged):
        if names.get(person) not in possible[person]:
            verdict.blame(
                f"person {person} is called {names.get(person)!r}: an acknowledged name is lost", *possible[person]
            )


def _direct(lines: Sequence[Line], rows: Rows, verdict: Verdict) -> None:
    ok, unknown = len(_of(lines, "direct", "ok")), len(_of(lines, "direct", "info"))
    total = next((row[2] for row in rows["tally"] if row[0] == "direct"), None)
    if total is None or not ok <= total <= ok + unknown:
        verdict.blame(f"the direct writer was told of {ok} writes ({unknown} unknown), {total} are there")


def _joined(lines: Sequence[Line], rows: Rows, verdict: Verdict) -> None:
    emails = Counter(row[1] for row in rows["person"])
    for line in _of(lines, "join", "ok"):
        if emails[line["email"]] != 1:
            verdict.blame(f"person {line['email']} is there {emails[line['email']]} times", line["email"])


def _reads(lines: Sequence[Line], verdict: Verdict) -> None:
    """In the transaction that adds a note, all notes of this person that were acknowledged before are seen.

    A person is one client's, which does one thing at a time; a deletion that was begun may count or not.
    """
    known: dict[int, set[str]] = defaultdict(set)
    for line in lines:
        if line["op"] == "erase" and line["phase"] == "invoke":
            known[line["person"]].discard(line["key"])
        if line["op"] != "note" or line["phase"] != "ok":
            continue
        mine = known[line["person"]]
        mine.add(line["key"])
        if line.get("counted") is not None and line["counted"] < len(mine):
            verdict.blame(
                f"{line['client']} saw {line['counted']} notes of person {line['person']} at {line['side']}, "
                f"{len(mine)} were acknowledged",
                line["key"],
            )


def _charged(lines: Sequence[Line], books: Books, rows: Rows, verdict: Verdict) -> None:
    """No key is charged twice, each acknowledged payment once and as it was told, nothing that nobody asked for."""
    asked = {line["key"] for line in _of(lines, "pay")}
    paid = {line["key"]: line["charge"] for line in _of(lines, "pay", "ok")}
    verdict.payments = len(paid)
    good = {key: [id_ for id_, status in some if status == "succeeded"] for key, some in (books.charges or {}).items()}
    for key, ids in good.items():
        if key not in asked:
            verdict.blame(f"charge of {key}, which nobody asked for", key)
        if len(ids) > 1:
            verdict.blame(f"key {key} was charged {len(ids)} times", key)
    bodies = {row[0]: json.loads(row[4]) for row in rows["note"]}
    for key, told in sorted(paid.items()):
        if not good.get(key):
            verdict.blame(f"payment {key} was acknowledged and not charged", key)
        elif told not in good[key]:
            verdict.blame(f"payment {key} was answered {told}, the provider has {good[key][0]}", key)
        if key in bodies and bodies[key].get("charge") != told:
            verdict.blame(f"payment {key} was answered {told}, the owner holds {bodies[key]}", key)
    if books.effects is not None:
        _effects(paid, asked, books.effects, verdict)


def _effects(paid: Mapping[str, str], asked: set[str], effects: Mapping[str, int], verdict: Verdict) -> None:
    """The event of each acknowledged payment had its effect once; no other one more than once, none for nothing."""
    for key in sorted(set(paid) | set(effects)):
        times = effects.get(key, 0)
        if times > 1 or (key in paid and times != 1):
            verdict.blame(f"the event of payment {key} had its effect {times} times", key)
        if key not in asked:
            verdict.blame(f"an effect of payment {key}, which nobody asked for", key)
