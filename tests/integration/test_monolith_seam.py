"""The monolith's seams under a real fence, with the real services on the other side."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.stage import Origin
from tests.fakes.card_processor.running import TOKEN, WEBHOOK_SECRET
from tests.integration.monolith_rig import PASSWORD, Fence, Monolith, Shopper
from tests.parity.servers import ServerProcess, run
from tests.servers import EmbeddedPostgres, EmbeddedValkey, create_database, drop_database, free_port

INTENT = "id, {user}, {order}, amount, currency, status, captured_amount, refunded_amount, card_token, description"
INTENT += ", processor_charge_id, created_at, updated_at"
KEY = "{user}, key, fingerprint, response_status, response_body, locked_at, created_at"


class World:
    """The monolith, whose seams reach payments at `web` and auth at `web_auth`, and both services."""

    def __init__(self, monolith: Monolith, auth: str, payments: str) -> None:
        self.monolith, self.auth, self.payments = monolith, auth, payments
        self.fences = {"auth": Fence("auth", monolith.database, auth)}
        self.fences["payments"] = Fence("payments", monolith.database, payments)
        self.web = self.web_auth = self.payments_url = ""

    def start(self) -> None:
        monolith = self.monolith
        monolith.migrate()
        monolith.manage("seed")
        monolith.processor.start()
        ports = {"auth": free_port(), "payments": free_port()}
        for name, database in (("auth", self.auth), ("payments", self.payments)):
            key = str(monolith.keys / "auth-1.pem")
            environment = {**monolith.environment, "SHOP_DATABASE_URL": database, "SHOP_SIGNING_KEY_FILE": key}
            environment |= {"SHOP_PROCESSOR_TOKEN": TOKEN, "SHOP_PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET}
            run(f"extracted.{name}", "migrate", env=environment)
            command = [sys.executable, "-m", f"extracted.{name}", "serve", "--port", str(ports[name])]
            monolith.service(name, command, port=ports[name], env=environment)
            self.fences[name].install()
        self.payments_url = f"http://127.0.0.1:{ports['payments']}"
        self.web = monolith.serve(SHOP_PROXY_URL=self.payments_url)
        self.web_auth = monolith.serve(free_port(), SHOP_PROXY_URL=f"http://127.0.0.1:{ports['auth']}")
        monolith.wait()

    def copy_payment(self, order: int) -> None:
        """What the applier would carry: an order's intent and keys."""
        pairs = (
            ("payments_intent", "intent", INTENT, "order_id = %s"),
            ("payments_idempotencykey", "idempotency_key", KEY, "key LIKE 'order:' || %s || ':%%'"),
        )
        for source, target, columns, wanted in pairs:
            here = columns.format(user="user_id", order="order_id")
            there = columns.format(user="customer_id", order="order_ref")
            rows = self.monolith.rows(f"SELECT {here} FROM {source} WHERE {wanted}", order)
            assert rows
            marks = ", ".join(["%s"] * len(rows[0]))
            for row in rows:
                self.monolith.write(f"INSERT INTO {target} ({there}) VALUES ({marks})", *row, database=self.payments)


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    databases = [create_database(postgres, name) for name in ("seam", "seam_auth", "seam_payments")]
    world = World(Monolith(tmp_path_factory.mktemp("seam"), databases[0]), databases[1], databases[2])
    try:
        world.start()
        yield world
    finally:
        world.monolith.stop()
        for database in databases:
            drop_database(postgres, database)


@pytest.fixture(autouse=True)
def monolith_owns_again(world: World) -> Iterator[None]:
    yield
    world.monolith.processor.switch(latency_ms=0)
    for fence in world.fences.values():
        fence.give(Origin.MONOLITH)


@pytest.fixture
def shopper(world: World) -> Iterator[Shopper]:
    with Shopper(world.web) as shopper:
        shopper.register()
        yield shopper


def wait_until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.02)


def held(world: World, payment: str) -> tuple[int, int]:
    """Rows of a payment: in the monolith, in the service."""
    here = world.monolith.rows("SELECT count(*) FROM payments_intent WHERE id = %s::uuid", payment)[0][0]
    there = world.monolith.rows("SELECT count(*) FROM intent WHERE id = %s::uuid", payment, database=world.payments)
    return here, there[0][0]


def charged_once(world: World, payment: str) -> bool:
    ledger = world.monolith.processor.ledger()
    return sum(c["reference"] == payment for c in ledger["charges"]) == 1 and not ledger["duplicate_references"]


def test_orders_are_paid_and_refunded_where_payments_are(world: World, shopper: Shopper) -> None:
    here = shopper.pay(shopper.order().json()["id"]).json()["payment"]["id"]
    assert held(world, here) == (1, 0)
    world.fences["payments"].give(Origin.EXTRACTED)
    order = shopper.order().json()["id"]
    paid = shopper.pay(order)
    assert paid.status_code == 200, paid.text
    payment = paid.json()["payment"]["id"]
    assert held(world, payment) == (0, 1)
    assert paid.json()["payment"]["order_id"] == order
    assert charged_once(world, payment)
    back = shopper.http.post(f"/api/orders/{order}/refund", json={})
    assert back.status_code == 200, back.text
    assert back.json()["order"]["status"] == "refunded"
    declined = shopper.pay(shopper.order().json()["id"], "tok_declined")
    assert (declined.status_code, declined.json()["code"]) == (402, "card_declined")


def test_checkout_and_account_pages_go_through_the_seam(world: World) -> None:
    world.fences["payments"].give(Origin.EXTRACTED)
    with Shopper(world.web) as browser:
        form = {"email": browser.email, "name": "Pat", "password": PASSWORD}
        assert browser.form("/register/", **form).status_code == 302
        assert browser.form("/cart/", product_id="3", quantity="1").status_code == 302
        done = browser.form("/checkout/", card_token="tok_visa")
        assert done.status_code == 302, done.text
        order = int(done.headers["location"].split("/")[2])
        assert f"Order {order}" in browser.http.get("/account/").text
        payment = world.monolith.rows("SELECT payment_id::text FROM orders_order WHERE id = %s", order)[0][0]
        assert held(world, payment) == (0, 1)


def test_a_local_call_that_meets_the_fence_is_made_remotely(world: World, shopper: Shopper) -> None:
    order = shopper.order().json()["id"]
    world.fences["payments"].up(monolith=False, service=False)
    world.monolith.write("UPDATE strangler.ownership SET owner = 'extracted', open = true", database=world.payments)
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'payments_idempotencykey'::regclass"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(world.monolith.database) as cutover:
        cutover.execute("LOCK TABLE payments_idempotencykey IN ACCESS EXCLUSIVE MODE")
        answer = pool.submit(shopper.pay, order)
        wait_until(lambda: world.monolith.rows(waiting))  # it has read that the monolith owns payments
        cutover.execute("UPDATE strangler.ownership SET open = false, epoch = epoch + 1 WHERE flag = 'payments'")
        for table in ("idempotencykey", "intent", "refund"):
            cutover.execute(f"ALTER TABLE payments_{table} ENABLE ALWAYS TRIGGER strangler_fence".encode())
        cutover.commit()
        paid = answer.result(timeout=30)
    assert paid.status_code == 200, paid.text
    assert held(world, paid.json()["payment"]["id"]) == (0, 1)
    assert '"seam.call_moved"' in world.monolith.log()


def test_a_capture_cut_in_two_by_a_cutover_is_gone_on_with_there(world: World, shopper: Shopper) -> None:
    order = shopper.order().json()["id"]
    world.monolith.processor.switch(latency_ms=2500)
    capturing = "SELECT id::text FROM payments_intent WHERE order_id = %s AND status = 'capturing'"
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        answer = pool.submit(shopper.pay, order)
        wait_until(lambda: world.monolith.rows(capturing, order))
        world.fences["payments"].up(monolith=True, service=False)
        world.copy_payment(order)
        world.fences["payments"].give(Origin.EXTRACTED)
        world.monolith.processor.switch(latency_ms=0)
        paid = answer.result(timeout=30)
    assert paid.status_code == 200, paid.text
    assert time.monotonic() - began < 15, "the key was not held against its own continuation"
    payment = paid.json()["payment"]
    assert payment["status"] == "captured"
    assert charged_once(world, payment["id"])
    assert world.monolith.rows(capturing, order), "nothing was written behind the fence"


def test_routes_of_the_flag_tell_the_proxy_of_the_fence(world: World, shopper: Shopper) -> None:
    world.fences["payments"].give(Origin.EXTRACTED)
    body = {"amount": "1.00", "currency": "EUR", "card_token": "tok_visa"}
    made = shopper.http.post("/api/payments/intents", json=body, headers={"Idempotency-Key": "k"})
    unknown = shopper.http.post(
        "/api/payments/intents/00000000-0000-4000-8000-000000000000/capture", headers={"Idempotency-Key": "k"}
    )
    settled = shopper.http.post("/api/payments/settlements", json={"date": "2026-05-04"})
    for answer in (made, unknown, settled):
        assert answer.status_code == 409, answer.text
        assert "replay=safe" in answer.headers["X-Strangler-Fence"]
        assert "owner=extracted" in answer.headers["X-Strangler-Fence"]


def test_refusals_about_accounts_are_the_owners_alone(world: World, shopper: Shopper) -> None:
    sent = {"email": shopper.email, "password": PASSWORD}
    refresh = shopper.http.post("/api/auth/token", json=sent).json()["refresh_token"]
    world.fences["auth"].give(Origin.EXTRACTED)
    answers = [
        shopper.http.post("/api/auth/register", json=sent | {"name": "Sam"}),
        shopper.http.post("/api/auth/token", json=sent),
        shopper.http.post("/api/auth/token", json=sent | {"password": "wrong"}),
        shopper.http.post("/api/auth/token/refresh", json={"refresh_token": refresh}),
        shopper.http.post("/api/auth/sign-out", json={"refresh_token": "unknown"}),
        shopper.http.patch("/api/auth/me", json={"name": "Sam"}),
        shopper.http.post("/api/auth/password", json={"current_password": "x", "new_password": PASSWORD}),
    ]
    for answer in answers:
        assert answer.status_code == 409, answer.text
        assert "flag=auth" in answer.headers["X-Strangler-Fence"]
        assert "replay=safe" in answer.headers["X-Strangler-Fence"]
    assert shopper.http.get("/api/auth/me").status_code == 200, "reads go on"


def test_sign_in_form_asks_where_accounts_are_and_writes_nothing_that_moves(world: World) -> None:
    with Shopper(world.web_auth) as browser:
        browser.register()
        del browser.http.headers["Authorization"]
        row = "SELECT id, email, password, name, is_active, created_at FROM accounts_user WHERE email = %s"
        before = world.monolith.rows(row, browser.email)
        world.fences["auth"].up(monolith=False, service=False)
        with psycopg.connect(world.auth, autocommit=True) as connection:
            insert = "INSERT INTO account (id, email, password_hash, name, is_active, created_at)"
            connection.execute(f"{insert} VALUES (%s, %s, %s, %s, %s, %s)".encode(), before[0])
        world.fences["auth"].give(Origin.EXTRACTED)
        wrong = browser.form("/sign-in/", email=browser.email, password="wrong")
        assert wrong.status_code == 401
        assert browser.form("/sign-in/", email=browser.email, password=PASSWORD).status_code == 302
        assert browser.http.get("/account/").status_code == 200
        assert world.monolith.rows(row, browser.email) == before
        seen = "SELECT last_login IS NOT NULL FROM accounts_user WHERE email = %s"
        assert world.monolith.rows(seen, browser.email) == [(True,)]
        tokens = world.monolith.rows("SELECT count(*) FROM refresh_token", database=world.auth)
        assert tokens[0][0] >= 1, "the service was asked"


def test_admin_is_read_only_while_another_owns_the_rows(world: World) -> None:
    with Shopper(world.web) as admin:
        done = admin.form("/admin/login/", username="admin@example.com", password="shop example password")
        assert done.status_code == 302
        user = world.monolith.rows("SELECT id FROM accounts_user WHERE email = 'user2@example.com'")[0][0]
        path, rename = f"/admin/accounts/user/{user}/change/", {"name": "Renamed", "is_active": "on"}
        assert admin.form(path, **rename).status_code == 302
        world.fences["auth"].give(Origin.EXTRACTED)
        page = admin.http.get(path)
        assert "Another system owns these rows" in page.text
        assert 'name="_save"' not in page.text
        refused = admin.form("/admin/", path, name="Again", is_active="on")
        assert refused.status_code == 403
        assert world.monolith.rows("SELECT name FROM accounts_user WHERE id = %s", user) == [("Renamed",)]


def test_the_admins_refund_goes_through_the_seam(world: World, shopper: Shopper) -> None:
    world.fences["payments"].give(Origin.EXTRACTED)
    payment = shopper.pay(shopper.order().json()["id"]).json()["payment"]["id"]
    row = world.monolith.rows(
        f"SELECT {INTENT.format(user='customer_id', order='order_ref')} FROM intent WHERE id = %s::uuid",
        payment,
        database=world.payments,
    )[0]
    world.fences["payments"].up(monolith=False, service=False)
    columns = INTENT.format(user="user_id", order="order_id")
    world.monolith.write(f"INSERT INTO payments_intent ({columns}) VALUES ({', '.join(['%s'] * len(row))})", *row)
    world.fences["payments"].up(monolith=True, service=False)
    with Shopper(world.web) as admin:
        admin.form("/admin/login/", username="admin@example.com", password="shop example password")
        done = admin.form("/admin/payments/intent/", action="refund_rest", _selected_action=payment)
        assert done.status_code == 302
    status = world.monolith.rows("SELECT status FROM intent WHERE id = %s::uuid", payment, database=world.payments)
    assert status == [("refunded",)]


def test_the_sweeper_rests_here_and_a_day_is_settled_by_the_owner(
    world: World, shopper: Shopper, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    world.fences["payments"].give(Origin.EXTRACTED)
    assert shopper.pay(shopper.order().json()["id"]).status_code == 200
    ((day,),) = world.monolith.rows("SELECT (now() AT TIME ZONE 'UTC')::date::text")
    world.monolith.python("from monolith.payments.tasks import sweep; sweep()")
    code = (
        "from monolith.payments.tasks import settle_day\n"
        f"for again in range(2): print('became', settle_day.apply(args=['{day}'], task_id='settle-{day}').state)"
    )
    assert world.monolith.python(code).count("became IGNORED") == 2
    environment = world.monolith.environment | {"SHOP_BROKER_URL": valkey.url(9)}
    service = environment | {"SHOP_DATABASE_URL": world.payments}
    processes = [
        ServerProcess(name, [sys.executable, "-m", *command], port=free_port(), folder=tmp_path, env=env).launch()
        for name, command, env in (
            ("shop", ["monolith.manage", "messages"], environment),
            ("payments", ["extracted.payments", "messages"], service),
        )
    ]
    settled = "SELECT payments FROM settlement WHERE date = %s::date"
    try:
        wait_until(lambda: world.monolith.rows(settled, day, database=world.payments), within_s=40)
    finally:
        codes = [process.stop() for process in processes]
    assert codes == [0, 0], "".join(process.log() for process in processes)
    taken = "SELECT count(*) FROM inbox_message WHERE queue = 'payments.tasks'"
    assert world.monolith.rows(taken, database=world.payments) == [(1,)], "one key, one effect"
    here = "SELECT count(*) FROM payments_settlement WHERE date = %s::date"
    assert world.monolith.rows(here, day) == [(0,)]


def test_an_unreachable_owner_is_said_within_the_time_budget(world: World, shopper: Shopper) -> None:
    world.fences["payments"].give(Origin.EXTRACTED)
    code = (
        "from django.conf import settings; settings.SHOP_SEAM_TIMEOUT_S = 1.0\n"
        "import time; from monolith.payments import api; from monolith.config.problem import Problem\n"
        "began = time.monotonic()\n"
        "try: api.payments_of(1)\n"
        "except Problem as problem: print(problem.code, time.monotonic() - began < 3)"
    )
    assert world.monolith.python(code, SHOP_PROXY_URL="http://127.0.0.1:1").split() == ["service_unavailable", "True"]
