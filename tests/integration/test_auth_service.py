"""The auth service beyond its page: the fence, keys that come and go, passwords of every format, its own document."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from kombu import Connection, Exchange, Queue
from openapi_spec_validator import validate

from extracted.auth import openapi as auth_openapi
from extracted.auth.make_signing_key import make_signing_key
from extracted.payments import openapi as payments_openapi
from tests.parity.fencing import AUTH_TABLES, Fence
from tests.parity.servers import Keys, ServerProcess, Side, run, services
from tests.parity.shop import PASSWORD, Shop, expect, expect_problem
from tests.servers import EmbeddedPostgres, EmbeddedValkey, create_database, drop_database, free_port

DJANGO_HASHES = {
    "pbkdf2_sha256": "pbkdf2_sha256$1$salt$xOEfG6ymEDJ8fNSD2M6IJ0r8bE5FeVaxgYMnZIVZPek=",
}


@pytest.fixture(scope="module")
def databases(postgres: EmbeddedPostgres) -> Iterator[list[str]]:
    made = [create_database(postgres, hint) for hint in ("service_auth", "service_payments")]
    yield made
    for database in made:
        drop_database(postgres, database)


@pytest.fixture(scope="module")
def side(databases: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    side = services(
        tmp_path_factory.mktemp("service"),
        auth_database=databases[0],
        payments_database=databases[1],
        keys=Keys(tmp_path_factory.mktemp("keys")),
    )
    yield side
    side.stop()


@pytest.fixture
def shop(side: Side, request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = Shop(side, request.node.name[:40])
    yield shop
    shop.close()


@pytest.fixture
def fence(databases: list[str]) -> Iterator[Fence]:
    fence = Fence(databases[0], "auth", AUTH_TABLES)
    yield fence
    fence.open(epoch=99)


def test_the_side_that_is_not_the_owner_refuses_every_unsafe_request_and_reads_its_copy(
    shop: Shop, fence: Fence
) -> None:
    user = shop.user()
    credentials = {"email": user.email, "password": PASSWORD}
    session = expect(shop.send("POST", "/api/auth/token", credentials), 200)
    fence.close(epoch=4)
    refresh = {"refresh_token": session["refresh_token"]}
    stranger = shop.side.keys.mint(10**9)
    for method, path, document, token in (
        ("POST", "/api/auth/register", {"email": shop.email(), "password": PASSWORD, "name": "A"}, None),
        ("POST", "/api/auth/token", credentials, None),
        ("POST", "/api/auth/token", {**credentials, "password": "wrong"}, None),
        ("POST", "/api/auth/token/refresh", refresh, None),
        ("POST", "/api/auth/sign-out", refresh, None),
        ("POST", "/api/auth/sign-out", {"refresh_token": "unknown"}, None),
        ("PATCH", "/api/auth/me", {"name": "B"}, user.token),
        ("PATCH", "/api/auth/me", {"name": "B"}, stranger),
        ("POST", "/api/auth/password", {"current_password": "wrong", "new_password": PASSWORD}, user.token),
        ("POST", "/api/auth/password", {"current_password": PASSWORD, "new_password": "another one"}, user.token),
    ):
        answer = shop.send(method, path, document, token=token, keep=False)
        assert answer.status_code == 409, (path, document, answer.text)
        assert answer.headers["x-strangler-fence"] == "flag=auth; epoch=4; owner=monolith; replay=safe"
    assert expect(shop.send("GET", "/api/auth/me", token=user.token), 200)["user"]["name"] == "Ada"
    answer = shop.send("GET", "/api/auth/me", token=stranger)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_yet_replicated")
    fence.open(epoch=5)
    expect(shop.send("POST", "/api/auth/token/refresh", refresh), 200)
    expect_problem(shop.send("GET", "/api/auth/me", token=stranger), "invalid_token")


def test_a_user_who_arrives_in_the_copy_meanwhile_is_waited_for(shop: Shop, fence: Fence, databases: list[str]) -> None:
    fence.close(epoch=6)
    late = 77_000_000
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(shop.send, "GET", "/api/auth/me", token=shop.side.keys.mint(late))
        time.sleep(0.3)
        with psycopg.connect(databases[0]) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "INSERT INTO account (id, email, password_hash, name) VALUES (%s, 'late@example.com', '!', 'Late')",
                [late],
            )
        assert expect(answer.result(10), 200)["user"]["name"] == "Late"


def test_keys_are_rotated_without_a_restart(shop: Shop) -> None:
    user = shop.user()
    keys = shop.side.keys
    private, public = make_signing_key("monolith-2", keys.folder)
    aside = public.rename(public.with_suffix(".aside"))
    token = keys.mint(user.id, kid="monolith-2")
    expect_problem(shop.send("GET", "/api/auth/me", token=token), "invalid_token")
    aside.rename(public)
    for path in ("/api/auth/me", "/api/payments/intents"):
        until = time.monotonic() + 8
        while shop.send("GET", path, token=token).status_code != 200:
            assert time.monotonic() < until, "the new key is not taken"
            time.sleep(0.1)
        expect(shop.send("GET", path, token=user.token), 200)
    assert private.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", sorted(DJANGO_HASHES))
def test_passwords_that_django_encoded_sign_in_and_stay_as_they_are(
    name: str, shop: Shop, databases: list[str]
) -> None:
    email = shop.email()
    with psycopg.connect(databases[0]) as connection:
        connection.execute(
            "INSERT INTO account (email, password_hash, name) VALUES (%s, %s, 'Moved')", [email, DJANGO_HASHES[name]]
        )
    expect(shop.send("POST", "/api/auth/token", {"email": email, "password": "correct horse"}), 200)
    expect_problem(shop.send("POST", "/api/auth/token", {"email": email, "password": "wrong"}), "invalid_credentials")
    with psycopg.connect(databases[0]) as connection:
        stored = connection.execute("SELECT password_hash FROM account WHERE email = %s", [email]).fetchone()
    assert stored == (DJANGO_HASHES[name],)


def test_an_account_that_is_not_active_cannot_do_anything(shop: Shop, databases: list[str]) -> None:
    user = shop.user()
    session = expect(shop.send("POST", "/api/auth/token", {"email": user.email, "password": PASSWORD}), 200)
    with psycopg.connect(databases[0]) as connection:
        connection.execute("UPDATE account SET is_active = false WHERE id = %s", [user.id])
    expect_problem(shop.send("GET", "/api/auth/me", token=user.token), "invalid_token")
    expect_problem(shop.send("PATCH", "/api/auth/me", {"name": "X"}, token=user.token), "invalid_token")
    again = {"refresh_token": session["refresh_token"]}
    expect_problem(shop.send("POST", "/api/auth/token/refresh", again), "invalid_refresh_token")
    answer = shop.send("POST", "/api/auth/token", {"email": user.email, "password": PASSWORD})
    expect_problem(answer, "invalid_credentials")


def test_one_of_many_registrations_at_once_gets_the_address(shop: Shop, databases: list[str]) -> None:
    document = {"email": shop.email(), "password": PASSWORD, "name": "Ada"}
    with ThreadPoolExecutor(8) as crowd:
        statuses = list(
            crowd.map(lambda _: shop.send("POST", "/api/auth/register", document, keep=False).status_code, range(16))
        )
    assert sorted(statuses) == [201] + [409] * 15
    with psycopg.connect(databases[0]) as connection:
        told = connection.execute(
            "SELECT data->>'name' FROM outbox_message WHERE event = 'user.registered' AND data->>'email' = %s",
            [document["email"]],
        ).fetchall()
    assert told == [("Ada",)]


def test_many_wrong_passwords_at_once_are_told_five_times(shop: Shop) -> None:
    user = shop.user()
    gate = threading.Barrier(12, timeout=30)

    def attempt(_: int) -> int:
        gate.wait()
        document = {"email": user.email, "password": "wrong"}
        return shop.send("POST", "/api/auth/token", document, keep=False).status_code

    with ThreadPoolExecutor(12) as crowd:
        statuses = sorted(crowd.map(attempt, range(12)))
    assert statuses == [401] * 5 + [429] * 7


def test_migrating_again_changes_nothing(databases: list[str]) -> None:
    for name, database in zip(("auth", "payments"), databases, strict=True):
        assert run(f"extracted.{name}", "migrate", env={"SHOP_DATABASE_URL": database}) == ""


def test_the_openapi_documents_are_valid_and_list_what_is_routed(shop: Shop) -> None:
    for path, module in (("/api/auth/", auth_openapi), ("/api/payments/", payments_openapi)):
        document = expect(shop.send("GET", f"{path}openapi.json"), 200)
        assert document == module.document()
        validate(document)
        for template, operations in document["paths"].items():
            concrete = template.replace("{intent_id}", "00000000-0000-4000-8000-000000000000")
            allow = httpx.delete(shop.side.url(concrete), trust_env=False).headers["allow"]
            assert {method.upper() for method in operations} == set(allow.split(", ")) - {"HEAD"}


def test_no_secret_is_logged(shop: Shop) -> None:
    user = shop.user()
    session = expect(shop.send("POST", "/api/auth/token", {"email": user.email, "password": PASSWORD}), 200)
    shop.send("POST", "/api/auth/token/refresh", {"refresh_token": session["refresh_token"]})
    log = shop.side.auth.log()
    assert "request.answered" in log
    for secret in (PASSWORD, user.token, session["access_token"], session["refresh_token"], user.email):
        assert secret not in log


def test_a_registration_is_told_by_the_relay(
    shop: Shop, databases: list[str], valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    env = {"SHOP_DATABASE_URL": databases[0], "SHOP_BROKER_URL": valkey.url()}
    command = [sys.executable, "-m", "extracted.auth", "messages"]
    relay = ServerProcess("relay", command, port=free_port(), folder=tmp_path, env=env)
    with Connection(valkey.url()) as broker, broker.channel() as channel:
        queue = Queue("test.auth", Exchange("shop.events", "topic"), routing_key="user.registered", channel=channel)
        queue.declare()
        user = shop.user()
        relay.launch()
        until, told = time.monotonic() + 30, {}
        while told.get("data", {}).get("user_id") != user.id:
            assert time.monotonic() < until, relay.log()
            message = queue.get(no_ack=True)
            told = message.payload if message else told
            time.sleep(0.02)
        assert relay.stop() == 0, relay.log()
    assert told["event"] == "user.registered"
    assert told["data"] == {"user_id": user.id, "email": user.email, "name": "Ada"}


def test_a_stop_is_a_success(side: Side) -> None:
    assert side.auth.stop() == 0
    side.auth.start()
