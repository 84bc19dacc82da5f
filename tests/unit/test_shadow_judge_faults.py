"""Faults among noise: all of them are found, where they are, and nothing else is. Chance is the same each time."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
from collections import Counter
from typing import Any

from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import Answer, Pair, RawFields, Side
from strangler_proxy.core.reckoning import report_of
from strangler_proxy.core.shadow_wire import encode_effects
from strangler_proxy.core.verdict import Demands, Verdict
from strangler_proxy.shadow.judge import Judge
from strangler_proxy.shadow.options import JudgeSettings
from tests.pairs import SECRET, answer, pair

START = 1_780_000_000.0
REQUESTS = 5_000
JSON = (b"Content-Type", b"application/json")
HTML = (b"Content-Type", b"text/html; charset=utf-8")

FAULTS = {
    ("price", "total"),  # rounded in another way, in one currency
    ("me", "permissions"),  # missing for staff
    ("order", "ordered_at"),  # in another zone
    ("list", "items"),  # items of the same price in another order
    ("stock", "stock"),  # a stale cache
    ("account", "owner"),  # another user's row, now and then
    ("refund", "status"),  # 200 for 201
    ("report", "header.cache-control"),
    ("search", "status"),  # an error now and then
    ("login", "cookie.seen.httponly"),
    ("pay", "effect.row"),  # done twice
    ("gone", "note"),  # null is not absent
    ("page", "html:main > ul"),
    ("down", "status"),  # no answer, for good
}


class World:
    """Both sides at a moment. What is noise differs each time that anybody asks."""

    def __init__(self) -> None:
        self.chance = random.Random(20260501)
        self.now = START
        self.views = 0

    def noise(self) -> dict[str, Any]:
        self.views += 1
        return {
            "request_id": f"{self.chance.getrandbits(64):016x}",
            "generated_at": dt.datetime.fromtimestamp(self.now + self.chance.random(), dt.UTC).isoformat(),
            "views": self.views,
            "recommended": self.chance.choice(["shirt", "shoes", "socks"]),
        }

    def answer(self, one: Pair, side: Side) -> Answer:
        candidate = side is Side.CANDIDATE
        number = int(one.target.rpartition(b"/")[2].partition(b"?")[0] or 0)
        fields: list[tuple[bytes, bytes]] = [JSON, (b"ETag", b'W/"%x"' % self.chance.getrandbits(40))]
        fields.append((b"Date", str(self.now).encode()))
        body: Any = self.noise()
        status, effects = 200, b""
        match one.route:
            case "quiet" | "price" | "me" | "order" | "stock" | "account" | "gone":
                body |= self._row(one.route, number, candidate)
            case "list":
                items = [{"id": each, "price": each // 3} for each in range(12)]
                body["items"] = sorted(
                    items, key=lambda each: (each["price"], -each["id"] if candidate else each["id"])
                )
            case "report":
                fields += [] if candidate else [(b"Cache-Control", b"private")]
            case "search" if candidate and number % 40 == 0 and self.chance.random() < 0.7:
                status = 500
            case "refund" | "login" | "pay":
                body = {"made_at": body["generated_at"], "amount": number}
                status = 201 if one.route == "refund" and not candidate else 200
                row = {"kind": "row", "detail": {"table": "payment", "values": body}}
                effects = ", ".join(encode_effects([row] * (2 if candidate and one.route == "pay" else 1))).encode()
                if one.route == "login":
                    fields.append((b"Set-Cookie", b"seen=1" if candidate else b"seen=1; HttpOnly"))
            case "down" if candidate:
                return answer(failure=Failure.TIMEOUT)
            case "page":
                return self._page(number, candidate, one)
        return self._sent(body, status, tuple(fields), candidate, effects)

    def _row(self, route: str, number: int, candidate: bool) -> dict[str, Any]:
        match route:
            case "price":
                yen = number % 50 == 0
                return {"currency": "JPY" if yen else "EUR", "total": 101 if candidate and yen else 100}
            case "me":
                staff = number % 60 == 0
                return {} if candidate and staff else {"permissions": ["a"] if staff else []}
            case "order":
                return {"ordered_at": f"2026-01-{number % 28 + 1:02}T{'09' if candidate else '10'}:00:00Z"}
            case "stock":
                return {"stock": int((self.now - (600 if candidate else 0)) // 300)}
            case "account":
                return {"owner": number + 1 if candidate and number % 70 == 0 else number}
            case "gone":
                return {} if candidate else {"note": None}
        return {"rate": 1.50}

    def _page(self, number: int, candidate: bool, one: Pair) -> Answer:
        rows = [f"<li>{each}</li>" for each in range(5)]
        if candidate and number % 30 == 0:
            rows.pop()
        gap = "\n   " if candidate else ""
        nonce = f"{self.chance.getrandbits(64):016x}"
        words = f"<html><main><ul>{gap.join(rows)}</ul>{gap}</main><script nonce='{nonce}'>a()</script></html>"
        return answer(words.encode(), fields=(HTML,))

    def _sent(self, body: Any, status: int, fields: RawFields, candidate: bool, effects: bytes) -> Answer:
        if candidate:
            body = dict(sorted(body.items(), reverse=True))
        words = json.dumps(body, indent=1 if candidate else None).encode().replace(b"1.5}", b"1.50}")
        if candidate and self.chance.random() < 0.3:
            words, fields = gzip.compress(words), (*fields, (b"Content-Encoding", b"gzip"))
        return answer(words, status=status, fields=fields, effects=effects, duration_ms=5 + self.chance.random())


ROUTES = ["quiet", "price", "me", "order", "list", "stock", "account", "refund", "report", "search", "login", "pay",
          "gone", "page", "down"]  # fmt: skip


def test_every_fault_is_found_where_it_is_and_no_noise_is_taken_for_one() -> None:
    world, chance = World(), random.Random(3)
    judge = Judge(JudgeSettings(evidence="memory:", secret=SECRET), "w", undo={}, chance=random.Random(5))
    judge.take_rules("shop", [], dt.date(2026, 5, 1))
    asks: Counter[str] = Counter()
    empty = answer({})
    for turn in range(REQUESTS):
        world.now += 0.2
        route = ROUTES[turn % len(ROUTES)]
        asked = pair(
            empty,
            empty,
            route=route,
            target=f"/{route}/{chance.randrange(1, 1_000)}?q=1".encode(),
            method="POST" if route in ("refund", "login", "pay") else "GET",
            at=world.now,
        )
        control, candidate = world.answer(asked, Side.CONTROL), world.answer(asked, Side.CANDIDATE)
        one = pair(control, candidate, route=route, target=asked.target, method=asked.method, at=world.now)
        judge.pair(one, chance.random() < 0.05, world.now)
        for token, sides, due in judge.due(world.now):
            said = {side: world.answer(due, side) for side in sides}
            asks.update(side.value for side in sides)
            judge.asked(token, said.get(Side.CONTROL), said.get(Side.CANDIDATE))
    judge.settle_all()
    (ledger,) = judge.flags["shop"].ledgers
    now = dt.datetime.fromtimestamp(world.now, dt.UTC)
    report = report_of([ledger.snapshot()], title="shop", now=now, demands=Demands(limit=0.05, min_seconds=600))
    found = {(each.route, one.path) for each in report.strata for one in each.differences if one.confirmed}
    assert found == FAULTS
    verdicts = {each.route: each.judgement.verdict for each in report.strata}
    assert verdicts == {**dict.fromkeys(ROUTES, Verdict.MISMATCHED), "quiet": Verdict.MATCHED}
    assert judge.facts["failed"] == 0
    assert asks["control"] < REQUESTS / 5
