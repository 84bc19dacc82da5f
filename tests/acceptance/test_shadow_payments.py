"""Payments and refunds by the thousand, done at the monolith and mirrored to the service: nothing is left there.

The monolith is the control, the payments service the candidate, one card processor behind both. Requests come in three
waves (intents, captures, refunds); between two of them the rows that the monolith has made are carried to the service,
as the stream would, so that within a wave nothing but a mirrored request could change the service's database.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import tomllib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from tests.acceptance.shadow_ends import cli, differences, report_of, settled, shadowing, told
from tests.integration.engine_rig import Answer, Client
from tests.integration.monolith_rig import PASSWORD, Shopper
from tests.integration.shadow_rig import sums
from tests.integration.test_capture_shop import SECRET, World
from tests.running_proxy import RunningProxy
from tests.servers import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3_600)]

PAYMENTS = int(os.environ.get("PAYMENTS", "1000"))
"""Writes that are mirrored, at least."""
CLIENTS = 3
RULES_READ_S = 6.0
RULES = (
    *(("--path", path, "--alias", "made") for path in ("id", "effect.row[].key.id", "effect.row[].values.id")),
    ("--path", "effect.row[].values.response_body", "--ignore", "--kind", "value"),
    ("--path", "header.location", "--ignore", "--kind", "value", "--route", "/api/payments/intents"),
    *(
        ("--path", f"header.{name}", "--ignore", "--kind", "missing")
        for name in ("cross-origin-opener-policy", "referrer-policy", "x-content-type-options", "x-frame-options")
    ),
)
"""What a team says here: ids that each side makes are one to one, or within other text; fields of Django that an API
does without."""

Write = tuple[str, dict[str, Any], frozenset[int]]
"""Path, body, and the statuses that are right."""


class Tokens:
    """Access tokens of one customer, a new one in good time."""

    def __init__(self, customer: Shopper) -> None:
        self._customer = customer
        self._made_at, self._token = 0.0, ""
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            if time.monotonic() > self._made_at + 300.0 or not self._token:
                said = {"email": self._customer.email, "password": PASSWORD}
                self._token = self._customer.http.post("/api/auth/token", json=said).json()["access_token"]
                self._made_at = time.monotonic()
            return self._token


class Shop:
    """A signed-in customer of the monolith, by the proxy."""

    def __init__(self, proxy: RunningProxy, token: Callable[[], str]) -> None:
        self._proxy, self._token = proxy, token

    def wave(self, writes: Sequence[Write]) -> list[tuple[int, Any]]:
        """Send them all; status and document of each answer, in their order."""
        answers: list[tuple[int, Any]] = [(0, None)] * len(writes)
        places = iter(range(len(writes)))
        lock = threading.Lock()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                with Client(self._proxy.port, 60) as client:
                    while True:
                        with lock:
                            place = next(places, None)
                        if place is None or failures:
                            return
                        answers[place] = self._send(client, *writes[place])
            except BaseException as error:  # noqa: BLE001 -- raised again below
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        if failures:
            raise failures[0]
        return answers

    def read(self) -> None:
        """A safe request: in its answer the candidate proves that it captures."""
        with Client(self._proxy.port, 60) as client:
            assert self._ask(client, "GET", "/api/payments/intents").status == 200

    def _ask(self, client: Client, method: str, path: str, fields: str = "", body: bytes = b"") -> Answer:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token()}\r\n{fields}\r\n"
        client.send(head.encode() + body)
        return client.answer()

    def _send(self, client: Client, path: str, body: dict[str, Any], right: frozenset[int]) -> tuple[int, Any]:
        content = json.dumps(body).encode()
        fields = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        answer = self._ask(client, "POST", path, f"{fields}Idempotency-Key: {uuid.uuid4().hex}\r\n", content)
        assert answer.status in right, (path, answer.head, answer.body)
        return answer.status, json.loads(answer.body)


def carry(world: World) -> None:
    """What the stream would bring from the monolith to the service."""
    fence = world.fences["payments"]
    fence.up(monolith=False, service=False)
    tables = tomllib.loads((ROOT / "migrations_plan" / "payments.toml").read_text())["data"]["tables"]
    with psycopg.connect(world.monolith.database) as one, psycopg.connect(world.databases["payments"]) as two:
        for table in tables:
            given = table["columns"]
            names = given if isinstance(given, dict) else {name: name for name in given}
            if table["monolith"] == "payments_webhookevent":
                continue
            key = [names[name] for name in table["key"]]
            sets = ", ".join(f"{name} = excluded.{name}" for name in names.values())
            query = (
                f"INSERT INTO {table['extracted']} ({', '.join(names.values())})"
                f" VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sets}"
            )
            rows = one.execute(f"SELECT {', '.join(names)} FROM {table['monolith']}".encode()).fetchall()
            two.cursor().executemany(query.encode(), rows)
    fence.up(monolith=False, service=True)


def mirrored(proxy: RunningProxy, count: int) -> None:
    """Wait until so many requests were mirrored, or dropped."""
    until = time.monotonic() + 90.0
    while (found := fates(proxy)) < count:
        assert time.monotonic() < until, f"{found} of {count} copies were sent"
        time.sleep(0.2)


def fates(proxy: RunningProxy) -> float:
    """Copies that were answered or dropped."""
    names = ("strangler_mirror_requests_total{", "strangler_mirror_dropped_total{")
    lines = proxy.health("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))


@pytest.fixture
def world(make_database: Callable[[str], str], tmp_path: Path) -> Iterator[World]:
    (tmp_path / "shop").mkdir()
    made = World(tmp_path / "shop", [make_database(name) for name in ("paid", "paid_auth", "paid_payments")])
    try:
        made.start()
        yield made
    finally:
        made.http.close()
        made.monolith.stop()


def intents(number: int) -> list[Write]:
    """Payments of different amounts and currencies; one in twenty has a card that is declined later."""
    chance = random.Random(number)
    made: list[Write] = []
    for _ in range(number):
        card = "tok_declined" if chance.random() < 0.05 else "tok_visa"
        amount = f"{chance.randrange(5, 90)}.{chance.randrange(100):02d}"
        body = {"amount": amount, "currency": chance.choice(["EUR", "USD"]), "card_token": card, "description": "tea"}
        made.append(("/api/payments/intents", body, frozenset({201})))
    return made


def capture(intent: Any) -> Write:
    """Take the money."""
    return f"/api/payments/intents/{intent['id']}/capture", {}, frozenset({200, 402})


def refund(intent: Any, number: int) -> Write:
    """Give some of it back; one in ten asks for too much."""
    amount = "999.00" if number % 10 == 0 else "1.50"
    return f"/api/payments/intents/{intent['id']}/refunds", {"amount": amount}, frozenset({201, 422})


def of_wave(wave: str, open_intents: list[Any], number: int) -> list[Write]:
    """What is sent in a wave."""
    if wave == "intents":
        return intents(number)
    if wave == "captures":
        return [capture(each) for each in open_intents]
    return [refund(each, place) for place, each in enumerate(open_intents)]


class Books:
    """What the service's side holds: every row of its databases, the processor's ledger is counted apart."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.before = self.now()

    def now(self) -> Any:
        return {flag: sums(url) for flag, url in self._world.databases.items()}

    def check(self, wave: str) -> None:
        """Byte for byte as before."""
        now = self.now()
        changed = [
            f"{flag}: {table}" for flag, tables in now.items() for table in tables
            if tables[table] != self.before[flag].get(table)
        ]  # fmt: skip
        assert not changed, (wave, changed)


def give_rules(folder: Path) -> None:
    """What a team has to say of ids that each side makes for itself."""
    said = ["--evidence", str(folder / "evidence.sqlite"), "--owner", "shop", "--expires", "2036-01-01"]
    for words in RULES:
        cli("shadow", "rule", "add", *said, "--reason", "see RULES", *words)
    time.sleep(RULES_READ_S)


def test_mirrored_payments_and_refunds_leave_nothing(world: World, tmp_path: Path) -> None:
    sides = (Origin.MONOLITH, Origin.EXTRACTED)
    monolith, service = (int(world.urls[side]["payments"].rpartition(":")[2]) for side in sides)
    secret = {"STRANGLER_SIGNING_SECRET": SECRET, "STRANGLER_MIRROR_QUEUE_LIMIT": "5000"}
    with (
        Shopper(world.urls[Origin.MONOLITH]["auth"]) as customer,
        shadowing(tmp_path, monolith, service, **secret) as proxy,
    ):
        customer.register()
        proxy.start()
        give_rules(tmp_path)
        began = time.monotonic()
        shop = Shop(proxy, Tokens(customer))
        answers = waves(world, proxy, shop)
        settled()
        assert proxy.stop() == 0
    check_ledger(world, answers)
    check_report(report_of(tmp_path), len(answers), time.monotonic() - began)


def waves(world: World, proxy: RunningProxy, shop: Shop) -> list[tuple[str, int]]:
    """Intents, captures, refunds; what was answered, by wave."""
    answers: list[tuple[str, int]] = []
    sent = fates(proxy)
    open_intents: list[Any] = []
    number = -(-PAYMENTS // 3) + PAYMENTS // 40
    for wave in ("intents", "captures", "refunds"):
        shop.read()
        mirrored(proxy, int(sent) + 1)
        writes = of_wave(wave, open_intents, number)
        books = Books(world)
        done = shop.wave(writes)
        mirrored(proxy, int(sent) + 1 + len(writes))
        books.check(wave)
        sent += 1 + len(writes)
        answers += [(wave, status) for status, _ in done]
        if wave != "refunds":
            open_intents = [document for status, document in done if status in (200, 201)]
        carry(world)
    return answers


def check_ledger(world: World, answers: list[tuple[str, int]]) -> None:
    """As many charges and refunds as clients were told, none twice; nothing that the service would have sent."""
    ledger = world.monolith.processor.ledger()
    counted = Counter(answers)
    assert not ledger["duplicate_references"]
    charges = Counter(each["status"] for each in ledger["charges"])
    assert charges == +Counter(succeeded=counted["captures", 200], declined=counted["captures", 402])
    assert len(ledger["refunds"]) == counted["refunds", 201]
    assert not list(world.monolith.mail.glob("*"))


def check_report(report: dict[str, Any], writes: int, seconds: float) -> None:
    """All were compared, effects too, and found equal."""
    strata = [each for each in report["strata"] if each["method"] == "POST"]
    compared = sum(each["compared"] for each in strata)
    wrong = [
        (stratum["path_template"], each)
        for stratum, each in differences(report)
        if stratum["method"] == "POST" and each["count"] > each["covered"]
    ]
    told(
        f"payments: {writes} writes in {seconds:.0f} s, {compared} compared with their effects, {len(wrong)} paths"
        f" differ, drops {report['drops']}; every table of the service and the processor's ledger unchanged by them"
    )
    assert not wrong, wrong
    assert compared >= 0.99 * writes >= 0.99 * PAYMENTS, (compared, writes, report["drops"])
    assert not [note for note in report["notes"] if "effects" in note], report["notes"]
