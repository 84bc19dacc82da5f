"""Everything that the parity cases do, done at the real services and then mirrored to them as to a side that does not
own the rows: same answer, same effects, and nothing left in any table or in the card processor's ledger."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.sync.statements import statement
from tests.integration.shadow_rig import SECRET, Told, marks, sums, told
from tests.parity import cases_auth, cases_card_processor, cases_payments
from tests.parity.cases_card_processor import switched
from tests.parity.fencing import AUTH_TABLES, PAYMENTS_TABLES
from tests.parity.servers import Keys, Side, services
from tests.parity.shop import HEADERS_THAT_MATTER, Case, Shop, expect, expect_problem
from tests.servers import EmbeddedPostgres, create_database, drop_database

pytestmark = pytest.mark.long

FLAGS = {"auth": AUTH_TABLES, "payments": PAYMENTS_TABLES}
TABLES = {"auth": (*AUTH_TABLES, "sign_in_failure"), "payments": PAYMENTS_TABLES}

_PLAIN = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "<token>"),
    (re.compile(r"pbkdf2_sha256\$[^\"]+"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r'"refresh_token":\s*"[^"]+"'), "<refresh>"),
    (re.compile(r'("(?:id|user_id|account_id)":\s*)\d+'), r"\1<n>"),
)
"""What is made anew by each run: a rule of the flag says so in production (an alias, a tolerance)."""


def plain(text: str) -> str:
    for pattern, instead in _PLAIN:
        text = pattern.sub(instead, text)
    return text


class Prepared:
    """The two services, prepared for moving, and their fences."""

    def __init__(self, side: Side, databases: dict[str, str]) -> None:
        self.side = side
        self.databases = databases
        for flag, url in databases.items():
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(statement("schema", "schema"))
                connection.execute(shadow_rows.schema_sql().encode())
                for table in TABLES[flag]:
                    _report(connection, table)
                for table in FLAGS[flag]:
                    connection.execute(
                        sql.SQL(
                            "CREATE TRIGGER strangler_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
                            " FOR EACH STATEMENT EXECUTE FUNCTION strangler.fence({})"
                        ).format(sql.Identifier(table), sql.Literal(flag))
                    )
                connection.execute(
                    "INSERT INTO strangler.ownership VALUES (%s, 'extracted', 'extracted', 5, true)", [flag]
                )
        self.fence(up=False)

    def fence(self, *, up: bool) -> None:
        """Whether the monolith owns the rows."""
        for flag, url in self.databases.items():
            with psycopg.connect(url) as connection:
                for table in FLAGS[flag]:
                    state = sql.SQL("ENABLE ALWAYS" if up else "DISABLE")
                    connection.execute(
                        sql.SQL("ALTER TABLE {} {} TRIGGER strangler_fence").format(sql.Identifier(table), state)
                    )
                owner = "monolith" if up else "extracted"
                connection.execute("UPDATE strangler.ownership SET owner = %s, open = %s", [owner, not up])

    def state(self) -> Any:
        """All that must not change."""
        ledger = self.side.processor.ledger()
        return {flag: sums(url) for flag, url in self.databases.items()}, ledger


def _report(connection: psycopg.Connection[Any], table: str) -> None:
    columns = [
        row[0]
        for row in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [table],
        )
    ]
    key = [
        row[0]
        for row in connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
            " WHERE indrelid = %s::regclass AND indisprimary", [table]
        )
    ]  # fmt: skip
    names = json.dumps({name: name for name in columns})
    connection.execute("SELECT strangler.report_rows(%s::regclass, %s, %s, %s)", [table, table, names, key])


class MirroredShop(Shop):
    """Each request is done in the role `record`, and then mirrored with what was recorded."""

    prepared: Prepared
    mirrored = 0
    compares = True

    def send(self, *args: Any, **more: Any) -> httpx.Response:
        """See Shop."""
        said: dict[str, Any] = {}
        record = self._marked("record", [], said, *args, **more)
        answer = record.answer
        if record.status == 500 or "x-strangler-fence" in answer.headers:
            return answer
        assert record.effects is not None, (args, answer.text)
        self.prepared.fence(up=True)
        try:
            before = self.prepared.state()
            mirror = self._marked("mirror", record.values, said, *args, **{**more, "keep": False})
            assert self.prepared.state() == before, args
        finally:
            self.prepared.fence(up=False)
        self.mirrored += 1
        assert mirror.effects is not None, (args, mirror.status, mirror.answer.text)
        assert mirror.status == record.status, (args, record.answer.text, mirror.answer.text)
        assert plain(mirror.answer.text) == plain(record.answer.text), args
        assert _headers(mirror) == _headers(record), args
        assert plain(json.dumps(mirror.effects, indent=1)) == plain(json.dumps(record.effects, indent=1)), args
        return answer

    def _marked(self, role: str, recorded: list[str], said: dict[str, Any], *args: Any, **more: Any) -> Told:
        content, document = more.get("content"), more.get("document", args[2] if len(args) > 2 else None)
        body = json.dumps(document).encode() if document is not None else content or b""
        fields = marks(role, body, recorded=recorded)
        request = self.client.build_request("GET", "http://x", headers=fields)
        own = dict(more.get("headers") or {})
        joined = {name: ", ".join(request.headers.get_list(name)) for name, _ in fields}
        headers = {**own, **{name: joined[name] for name, _ in fields}}
        answer = super().send(*args, **{**more, "headers": headers})
        return told(answer, fields)


def _headers(result: Told) -> dict[str, str]:
    return {
        name: plain(result.answer.headers[name])
        for name in HEADERS_THAT_MATTER
        if name in result.answer.headers and name != "retry-after"
    }


@pytest.fixture(scope="module")
def prepared(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    databases = {flag: create_database(postgres, f"capture_{flag}") for flag in FLAGS}
    side = services(
        tmp_path_factory.mktemp("capture"),
        auth_database=databases["auth"],
        payments_database=databases["payments"],
        keys=Keys(tmp_path_factory.mktemp("keys")),
        webhooks=False,
        STRANGLER_SIGNING_SECRET=SECRET,
        SHOP_PROCESSOR_TIMEOUT_S="1.5",
    )
    yield Prepared(side, databases)
    side.stop()
    for database in databases.values():
        drop_database(postgres, database)


@pytest.fixture
def shop(prepared: Prepared, request: pytest.FixtureRequest) -> Iterator[MirroredShop]:
    shop = MirroredShop(prepared.side, f"c{abs(hash(request.node.name)) % 10**8}")
    shop.prepared = prepared
    yield shop
    shop.close()


CASES = (
    *(case for case in cases_auth.CASES if case is not cases_auth.access_tokens),
    *cases_payments.CASES,
    cases_card_processor.captures,
    cases_card_processor.capture_bodies,
    cases_card_processor.declines,
    cases_card_processor.refunds,
    cases_card_processor.refund_errors,
    cases_card_processor.card_processor_is_down,
    cases_card_processor.request_that_died_is_gone_on_with,
    cases_card_processor.webhooks,
    cases_card_processor.webhook_records_a_capture_once,
    cases_card_processor.webhook_errors,
)
"""All but those that ask several things at once (what each has done is looked at by itself) or need to be quick."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_people_do_can_be_mirrored_and_leaves_nothing(shop: MirroredShop, case: Case) -> None:
    case(shop)
    assert shop.mirrored


def test_a_call_that_failed_on_the_other_side_fails_here_too(shop: MirroredShop, prepared: Prepared) -> None:
    user = shop.user()
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, timeout_after_charge_rate=1.0):
        expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
        expect_problem(shop.refund(user, captured, "6.00", "r"), "processor_unavailable")
    assert expect(shop.capture(user, intent_id, "k"), 200)["status"] == "captured"
    assert len(shop.charges(intent_id)) == 1


def test_a_call_that_the_other_side_did_not_make_is_not_made_and_told(shop: MirroredShop, prepared: Prepared) -> None:
    user = shop.user()
    intent_id = Shop.intent(shop, user)
    before = prepared.state()
    path = f"/api/payments/intents/{intent_id}/capture"
    mirror = shop._marked("mirror", [], {}, "POST", path, token=user.token, key="k", keep=False)
    assert mirror.answer.json()["code"] == "processor_unavailable"
    (call,) = mirror.of("call")
    assert (call["status"], call["answer"], call["method"]) == (599, "effect not recorded", "POST")
    assert call["body"]["reference"] == intent_id
    assert prepared.state() == before


def waiting(database: str) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(database) as connection:
        row = connection.execute(query).fetchone()
    return bool(row and row[0])


def test_a_kill_in_the_middle_leaves_nothing(prepared: Prepared, shop: MirroredShop) -> None:
    side, database = prepared.side, prepared.databases["payments"]
    user = shop.user()
    intent_id = Shop.intent(shop, user)
    before = prepared.state()
    prepared.fence(up=True)
    try:
        with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as other:
            holder.execute("SELECT FROM intent WHERE id = %s FOR UPDATE", [intent_id])
            fields = dict(marks("mirror", b""))
            lost = other.submit(
                Shop.send,
                shop,
                "POST",
                f"/api/payments/intents/{intent_id}/capture",
                token=user.token,
                key="killed",
                headers=fields,
            )
            until = time.monotonic() + 10
            while not waiting(database):
                assert time.monotonic() < until
                time.sleep(0.02)
            side.payments.kill()
            with pytest.raises(httpx.TransportError):
                lost.result(20)
    finally:
        prepared.fence(up=False)
        side.payments.start()
    assert prepared.state() == before
    assert Shop.capture(shop, user, intent_id, "killed").status_code == 200


@pytest.mark.timeout(1800)
def test_many_mirrored_payments_charge_nobody(prepared: Prepared, shop: MirroredShop) -> None:
    """STRANGLER_MIRRORED_PAYMENTS: how many; 10000 takes some minutes."""
    count = int(os.environ.get("STRANGLER_MIRRORED_PAYMENTS", "60"))
    user = shop.user()
    intent_id = Shop.intent(shop, user, "50.00")
    kept: list[tuple[str, Any, str, list[str]]] = []
    for path, document in (
        ("/api/payments/intents", {"amount": "7.00", "currency": "EUR", "card_token": "tok_visa"}),
        (f"/api/payments/intents/{intent_id}/capture", None),
        (f"/api/payments/intents/{intent_id}/refunds", {"amount": "1.50"}),
    ):
        key = f"many-{len(kept)}"
        record = shop._marked("record", [], {}, "POST", path, document, token=user.token, key=key)
        assert record.status in (200, 201), record.answer.text
        kept.append((path, document, key, record.values))
    prepared.fence(up=True)
    try:
        before = prepared.state()
        failures = []

        def mirror(number: int) -> None:
            path, document, key, recorded = kept[number % len(kept)]
            result = shop._marked("mirror", recorded, {}, "POST", path, document, token=user.token, key=key, keep=False)
            if result.status not in (200, 201) or not result.effects:
                failures.append((path, result.status, result.answer.text))

        with ThreadPoolExecutor(4) as crowd:
            list(crowd.map(mirror, range(count)))
        assert failures == []
        assert prepared.state() == before
    finally:
        prepared.fence(up=False)
