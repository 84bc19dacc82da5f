"""The shop in shadow mode, the monolith on either side: it reports what it does, or leaves nothing."""

from __future__ import annotations

import secrets
import sys
import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from strangler_proxy.core.shadow_wire import (
    EFFECTS_HEADER,
    PROOF_HEADER,
    RECORDED_HEADER,
    SHADOW_HEADER,
    ShadowKeys,
    ShadowRole,
    decode_effects,
    digest_of,
    proven,
    request_value,
)
from strangler_proxy.core.stage import Origin
from tests.fakes.card_processor.running import TOKEN, WEBHOOK_SECRET
from tests.integration.monolith_rig import PASSWORD, Fence, Monolith, Shopper
from tests.parity.servers import run
from tests.servers import ROOT, EmbeddedPostgres, create_database, drop_database, free_port

pytestmark = pytest.mark.long

SECRET = "of-the-shop-in-shadow-mode-0123456789"
KEYS = ShadowKeys(SECRET.encode())


class Told:
    """An answer, and the effects that its side proved."""

    def __init__(self, response: httpx.Response, id_: str, role: ShadowRole) -> None:
        self.response, self.status, self.fields = response, response.status_code, []
        if EFFECTS_HEADER in response.headers:
            self.fields = response.headers.get_list(EFFECTS_HEADER)
        self.proven = proven(
            KEYS, id=id_, role=role, effects_values=self.fields, proof=response.headers.get(PROOF_HEADER)
        )

    @property
    def effects(self) -> list[dict[str, Any]]:
        return decode_effects(self.fields)

    def same(self, words: Mapping[str, str]) -> list[dict[str, Any]]:
        """The effects, in any order, with what each side makes for itself replaced by `words`, and no times."""
        return sorted((_plain(effect, words) for effect in self.effects), key=repr)


def _plain(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each, words) for name, each in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [_plain(each, words) for each in value]
    for own, word in words.items():
        value = value.replace(own, word) if isinstance(value, str) else value
    return value


VOLATILE = {
    "created_at", "updated_at", "locked_at", "expires_at", "token_hash", "password_hash", "response_body", "answer_type"
}  # fmt: skip


class World:
    """The monolith, both services and the card processor, in one secret."""

    def __init__(self, folder: Path, databases: Sequence[str]) -> None:
        self.monolith = Monolith(folder, databases[0])
        self.monolith.environment["STRANGLER_SIGNING_SECRET"] = SECRET
        self.databases = dict(zip(("auth", "payments"), databases[1:], strict=True))
        self.fences = {flag: Fence(flag, databases[0], url) for flag, url in self.databases.items()}
        self.urls: dict[Origin, dict[str, str]] = {Origin.EXTRACTED: {}, Origin.MONOLITH: {}}
        self.http = httpx.Client(timeout=30, trust_env=False)

    def start(self) -> None:
        monolith = self.monolith
        monolith.migrate()
        monolith.manage("seed")
        monolith.processor.start()
        for flag, database in self.databases.items():
            environment = {**monolith.environment, "SHOP_DATABASE_URL": database}
            environment["SHOP_SIGNING_KEY_FILE"] = str(monolith.keys / "auth-1.pem")
            environment |= {"SHOP_PROCESSOR_TOKEN": TOKEN, "SHOP_PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET}
            run(f"extracted.{flag}", "migrate", env=environment)
            self.fences[flag].install()
            port = free_port()
            command = [sys.executable, "-m", f"extracted.{flag}", "serve", "--port", str(port)]
            self.urls[Origin.EXTRACTED][flag] = monolith.service(flag, command, port=port, env=environment).url
        url = monolith.serve()
        self.urls[Origin.MONOLITH] = dict.fromkeys(self.databases, url)
        monolith.wait()

    def ask(
        self, origin: Origin, flag: str, role: str, method: str, path: str, *, recorded: Sequence[str] = (), **sent: Any
    ) -> Told:
        """A marked request, as the proxy sends it."""
        request = self.http.build_request(method, self.urls[origin][flag] + path, **sent)
        id_ = secrets.token_hex(16)
        mark = request_value(
            KEYS, role=role, id=id_, at=time.time(), flag=flag, body_sha256=digest_of(request.read()), recorded=recorded
        )
        request.headers[SHADOW_HEADER] = mark
        if recorded:
            request.headers[RECORDED_HEADER] = ", ".join(recorded)
        return Told(self.http.send(request), id_, ShadowRole(role))

    def carry(self, flag: str) -> None:
        """What the stream of rows would bring from the service to the monolith."""
        self.fences[flag].up(monolith=False, service=False)
        tables = tomllib.loads((ROOT / "migrations_plan" / f"{flag}.toml").read_text())["data"]["tables"]
        for table in tables:
            given = table["columns"]
            columns = given if isinstance(given, dict) else {name: name for name in given}
            if table["monolith"] == "payments_webhookevent":
                continue
            rows = self.monolith.rows(
                f"SELECT {', '.join(columns.values())} FROM {table['extracted']}", database=self.databases[flag]
            )
            sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
            for row in rows:
                self.monolith.write(
                    f"INSERT INTO {table['monolith']} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(row))})"
                    f" ON CONFLICT ({', '.join(table['key'])}) DO UPDATE SET {sets}",
                    *row,
                )
        self.fences[flag].up(monolith=True, service=False)

    def sums(self) -> dict[str, Any]:
        """Checksums of the monolith's tables; the processor's ledger; mail."""
        found: dict[str, Any] = {"ledger": self.monolith.processor.ledger()}
        tables = (
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'strangler')"
        )
        with psycopg.connect(self.monolith.database, autocommit=True) as connection:
            for (table,) in connection.execute(tables.encode()).fetchall():
                query = f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} AS t"
                found[table] = connection.execute(query.encode()).fetchone()
        found["mail"] = sorted(path.name for path in self.monolith.mail.glob("*"))
        return found


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    databases = [create_database(postgres, name) for name in ("shadowed", "shadowed_auth", "shadowed_payments")]
    world = World(tmp_path_factory.mktemp("shadowed"), databases)
    try:
        world.start()
        yield world
    finally:
        world.http.close()
        world.monolith.stop()
        for database in databases:
            drop_database(postgres, database)


@pytest.fixture
def owner(world: World, request: pytest.FixtureRequest) -> Iterator[None]:
    """Another side owns the flag that the test names; afterwards the monolith again."""
    fence = world.fences[request.param]
    fence.give(Origin.EXTRACTED)
    yield
    fence.give(Origin.MONOLITH)


@pytest.fixture
def token(world: World) -> dict[str, str]:
    """A signed-in customer's header."""
    with Shopper(world.urls[Origin.MONOLITH]["auth"]) as shopper:
        shopper.register()
        return {"Authorization": shopper.http.headers["Authorization"]}


INTENT = {"amount": "12.50", "currency": "EUR", "card_token": "tok_visa", "description": "a kettle"}


@pytest.mark.parametrize("owner", ["payments"], indirect=True)
@pytest.mark.parametrize("carried", [False, True], ids=["before-the-stream", "after-the-stream"])
def test_payments_are_mirrored_to_the_monolith_and_leave_nothing(
    world: World, owner: None, token: dict[str, str], carried: bool
) -> None:
    def both(path: str, **sent: Any) -> tuple[Told, Told]:
        """Really at the service, then mirrored to the monolith, before or after the stream has brought the rows."""
        headers = {**token, "Idempotency-Key": uuid.uuid4().hex}
        if not carried:
            world.carry("payments")
        done = world.ask(Origin.EXTRACTED, "payments", "record", "POST", path, headers=headers, **sent)
        if carried:
            world.carry("payments")
        before = world.sums()
        mirrored = world.ask(
            Origin.MONOLITH, "payments", "mirror", "POST", path, headers=headers, recorded=done.fields, **sent
        )
        assert world.sums() == before
        assert done.proven
        assert mirrored.proven, mirrored.response.text
        assert mirrored.status == done.status, (mirrored.response.text, done.response.text)
        return done, mirrored

    done, mirrored = both("/api/payments/intents", json=INTENT)
    assert done.status == 201
    intent = done.response.json()["id"]
    other = mirrored.response.json()["id"]
    assert intent != other
    assert mirrored.same({other: "ID"}) == done.same({intent: "ID"})

    charged = world.monolith.processor.ledger()["succeeded_charges"]
    done, mirrored = both(f"/api/payments/intents/{intent}/capture")
    assert world.monolith.processor.ledger()["succeeded_charges"] == charged + 1, "once, by who owns payments"
    assert done.response.json()["status"] == mirrored.response.json()["status"] == "captured"
    assert mirrored.same({}) == done.same({})
    assert {effect["kind"] for effect in mirrored.effects} == {"call", "message", "row"}

    done, mirrored = both(f"/api/payments/intents/{intent}/refunds", json={"amount": "2.00", "reason": "a dent"})
    assert (done.status, done.response.json()["status"]) == (201, "succeeded")
    assert mirrored.same({}) == done.same({})

    done, mirrored = both(f"/api/payments/intents/{intent}/refunds", json={"amount": "999.00", "reason": "too much"})
    assert done.status == 422
    assert mirrored.same({}) == done.same({})


@pytest.mark.parametrize("owner", ["auth"], indirect=True)
def test_accounts_are_mirrored_to_the_monolith_and_leave_nothing(world: World, owner: None) -> None:
    def both(method: str, path: str, **sent: Any) -> tuple[Told, Told]:
        world.carry("auth")
        done = world.ask(Origin.EXTRACTED, "auth", "record", method, path, **sent)
        before = world.sums()
        mirrored = world.ask(Origin.MONOLITH, "auth", "mirror", method, path, recorded=done.fields, **sent)
        assert world.sums() == before
        assert done.proven
        assert mirrored.proven, mirrored.response.text
        assert mirrored.status == done.status, (mirrored.response.text, done.response.text)
        kinds = [effect["kind"] for effect in done.effects]
        assert [effect["kind"] for effect in mirrored.effects] == kinds, (mirrored.effects, done.effects)
        return done, mirrored

    email = f"m{uuid.uuid4().hex[:12]}@example.com"
    both("POST", "/api/auth/register", json={"email": email, "password": PASSWORD, "name": "Mo"})
    both("POST", "/api/auth/register", json={"email": email, "password": PASSWORD, "name": "Mo"})
    done, _ = both("POST", "/api/auth/token", json={"email": email, "password": PASSWORD})
    given = done.response.json()
    both("POST", "/api/auth/token", json={"email": email, "password": "wrong"})
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    both("GET", "/api/auth/me", headers=bearer)
    both("PATCH", "/api/auth/me", headers=bearer, json={"name": "Another"})
    both("POST", "/api/auth/token/refresh", json={"refresh_token": given["refresh_token"]})
    both("POST", "/api/auth/sign-out", json={"refresh_token": given["refresh_token"]})
    both("POST", "/api/auth/password", headers=bearer, json={"current_password": PASSWORD, "new_password": "a new one"})


def test_mirrored_guesses_of_a_password_are_not_counted(world: World) -> None:
    guess = {"email": "nobody@example.com", "password": "wrong"}
    before = world.sums()
    for _ in range(8):
        told = world.ask(Origin.MONOLITH, "auth", "mirror", "POST", "/api/auth/token", json=guess)
        assert (told.status, told.proven) == (401, True)
    assert world.sums() == before


def test_the_monolith_reports_what_it_really_does(world: World, token: dict[str, str]) -> None:
    headers = {**token, "Idempotency-Key": uuid.uuid4().hex}
    charged = world.monolith.processor.ledger()["succeeded_charges"]
    made = world.ask(
        Origin.MONOLITH, "payments", "record", "POST", "/api/payments/intents", headers=headers, json=INTENT
    )
    path = f"/api/payments/intents/{made.response.json()['id']}/capture"
    headers["Idempotency-Key"] = uuid.uuid4().hex
    done = world.ask(Origin.MONOLITH, "payments", "record", "POST", path, headers=headers)
    assert (done.status, done.proven) == (200, True)
    assert world.monolith.processor.ledger()["succeeded_charges"] == charged + 1
    told = [(effect["kind"], effect["detail"].get("table") or effect["detail"].get("event")) for effect in done.effects]
    assert ("row", "intent") in told
    assert ("message", "payment.captured") in told
    (call,) = [effect["detail"] for effect in done.effects if effect["kind"] == "call"]
    assert (call["method"], call["status"]) == ("POST", 201)
