"""The monolith as a shop: seed, stock, one charge per key, time-outs after charging, pages, sessions, messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from tests.integration.monolith_rig import PASSWORD, SEED_PASSWORD, Monolith, Shopper
from tests.servers import ROOT, EmbeddedPostgres, EmbeddedValkey, create_database, drop_database

SEEDED = """
SELECT (SELECT count(*) FROM accounts_user WHERE email <> 'system@shop.example'),
       (SELECT count(*) FROM catalog_product),
       (SELECT count(*) FROM orders_order),
       (SELECT count(*) FROM payments_intent)
"""
CHECKSUM = """
SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM payments_intent t UNION ALL
SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM orders_order t UNION ALL
SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM accounts_user t WHERE email <> 'system@shop.example' UNION ALL
SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM catalog_product t
"""
INCONSISTENT = """
SELECT count(*) FROM orders_order o JOIN payments_intent i ON i.order_id = o.id
WHERE i.user_id <> o.user_id OR i.amount <> o.total OR i.currency <> o.currency OR i.currency <> 'EUR'
   OR o.total <> (SELECT sum(unit_price * quantity) FROM orders_orderline WHERE order_id = o.id)
   OR (o.status = 'pending') <> (i.status = 'declined')
   OR (i.captured_amount > 0) <> (i.processor_charge_id LIKE 'seed\\_%%')
   OR i.refunded_amount <> coalesce((SELECT sum(amount) FROM payments_refund WHERE intent_id = i.id), 0)
   OR i.refunded_amount <> coalesce((SELECT sum(amount) FROM orders_orderrefund WHERE order_id = o.id), 0)
"""


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monolith]:
    database = create_database(postgres, "shop")
    shop = Monolith(tmp_path_factory.mktemp("shop"), database)
    try:
        shop.migrate()
        shop.manage("seed")
        shop.processor.start()
        shop.serve()
        shop.wait()
        yield shop
    finally:
        shop.stop()
        drop_database(postgres, database)


@pytest.fixture(scope="module")
def seeded(shop: Monolith) -> list[tuple[str]]:
    """Checksums of what the seed made, before any test changes it."""
    return shop.rows(CHECKSUM)


@pytest.fixture
def shopper(shop: Monolith) -> Iterator[Shopper]:
    with Shopper(shop.url) as shopper:
        yield shopper


@pytest.fixture(autouse=True)
def quick_processor(shop: Monolith, seeded: list[tuple[str]]) -> Iterator[None]:
    yield
    shop.processor.switch(latency_ms=0, timeout_after_charge_rate=0.0, down=False)


def wait_until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)


def charges(shop: Monolith, *references: str) -> int:
    ledger = shop.processor.ledger()
    assert ledger["duplicate_references"] == []
    return sum(c["reference"] in references and c["status"] == "succeeded" for c in ledger["charges"])


def test_seed_is_quick_consistent_and_the_same_every_time(
    shop: Monolith, seeded: list[tuple[str]], make_database: Callable[[str], str], tmp_path: Path
) -> None:
    again = Monolith(tmp_path, make_database("seed"))
    again.processor.client.close()
    again.migrate()
    began = os.times()
    assert "seeded" in again.manage("seed")
    ended = os.times()
    used_s = ended.children_user - began.children_user + ended.children_system - began.children_system
    assert used_s < 10, "its own time: on a busy machine the clock on the wall says nothing"
    assert "nothing to do" in again.manage("seed", "--if-empty")
    assert again.rows(SEEDED) == [(500, 200, 5000, 5000)]
    assert again.rows(INCONSISTENT) == [(0,)]
    assert again.rows(CHECKSUM) == seeded


def test_orders_at_once_never_sell_more_than_there_is(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    shop.write("UPDATE catalog_product SET stock = 7 WHERE id = 11")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: shopper.order(11), range(25)))
    assert sorted(answer.status_code for answer in answers) == [201] * 7 + [409] * 18
    assert shop.rows("SELECT stock FROM catalog_product WHERE id = 11") == [(0,)]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"out_of_stock"}


def test_an_order_that_fails_in_part_takes_nothing(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    shop.write("UPDATE catalog_product SET stock = 5 WHERE id = 12")
    shop.write("UPDATE catalog_product SET stock = 0 WHERE id = 13")
    items = [{"product_id": 12, "quantity": 2}, {"product_id": 13, "quantity": 1}]
    assert shopper.http.post("/api/orders", json={"items": items}).status_code == 409
    assert shop.rows("SELECT stock FROM catalog_product WHERE id = 12") == [(5,)]


def test_fifty_requests_with_one_key_are_one_charge(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    body = {"amount": "12.50", "currency": "EUR", "card_token": "tok_visa"}
    with ThreadPoolExecutor(50) as pool:
        made = list(
            pool.map(
                lambda _: shopper.http.post("/api/payments/intents", json=body, headers={"Idempotency-Key": "one"}),
                range(50),
            )
        )
        assert {answer.status_code for answer in made} == {201}
        assert len({answer.text for answer in made}) == 1
        intent = made[0].json()["id"]
        path = f"/api/payments/intents/{intent}/capture"
        done = list(pool.map(lambda _: shopper.http.post(path, json={}, headers={"Idempotency-Key": "two"}), range(50)))
    assert {answer.status_code for answer in done} <= {200, 409}
    assert len({answer.text for answer in done if answer.status_code == 200}) == 1
    assert {a.json()["code"] for a in done if a.status_code == 409} <= {"in_progress"}
    assert charges(shop, intent) == 1


def test_paying_an_order_many_times_at_once_charges_once(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    order = shopper.order().json()["id"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shopper.pay(order), range(8)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    (payment,) = {answer.json()["payment"]["id"] for answer in answers}
    assert charges(shop, payment) == 1
    assert shopper.http.get(f"/api/orders/{order}").json()["status"] == "paid"


def test_a_declined_card_leaves_the_order_open_for_another(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    order = shopper.order().json()["id"]
    assert shopper.pay(order, "tok_declined").json()["code"] == "card_declined"
    paid = shopper.pay(order)
    assert paid.status_code == 200
    assert paid.json()["order"]["status"] == "paid"
    back = shopper.http.post(f"/api/orders/{order}/refund", json={})
    assert back.status_code == 200
    assert back.json()["refund"]["amount"] == paid.json()["payment"]["amount"]
    assert back.json()["order"]["status"] == "refunded"
    again = shopper.http.post(f"/api/orders/{order}/refund", json={})
    assert again.json()["refund"] == back.json()["refund"], "asking again is harmless"
    assert shopper.pay(order).json()["payment"]["status"] == "refunded"
    pending = shopper.order().json()["id"]
    refused = shopper.http.post(f"/api/orders/{pending}/refund", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "order_not_refundable")


def test_orders_of_others_do_not_exist(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    order = shopper.order().json()["id"]
    with Shopper(shop.url) as other:
        other.register()
        answers = [other.http.get(f"/api/orders/{order}"), other.pay(order), other.http.get(f"/api/orders/{10**30}")]
    assert [answer.status_code for answer in answers] == [404] * 3


def test_what_was_charged_without_an_answer_is_recorded_by_the_sweeper(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    order = shopper.order().json()["id"]
    shop.processor.switch(timeout_after_charge_rate=1.0)
    answer = shopper.pay(order)
    assert (answer.status_code, answer.json()["code"]) == (503, "processor_unavailable")
    assert answer.headers["retry-after"] == "2"
    ((intent, status),) = shop.rows("SELECT id::text, status FROM payments_intent WHERE order_id = %s", order)
    assert status == "capturing"
    assert charges(shop, intent) == 1
    sweep = "from monolith.payments.tasks import sweep; sweep()"
    state = "SELECT status, captured_amount = amount FROM payments_intent WHERE id = %s::uuid"
    shop.write("UPDATE payments_intent SET updated_at = now() - interval '16 s' WHERE id = %s::uuid", intent)
    shop.python(sweep)
    assert shop.rows(state, intent) == [("captured", True)]
    assert shopper.pay(order).json()["order"]["status"] == "paid", "asking again finds the recorded charge"
    assert charges(shop, intent) == 1


def test_a_day_is_settled_once_by_its_task(shop: Monolith) -> None:
    settle = "from monolith.payments import tasks; tasks.settle_day.apply(args=['2026-05-04'], throw=True)"
    row = "SELECT currency, captured_total::text, payments FROM payments_settlement WHERE date = '2026-05-04'"
    shop.python(settle)
    (first,) = shop.rows(row)
    assert first[0] == "EUR"
    assert first[2] > 0
    shop.python(settle)
    assert shop.rows(row) == [first]


def test_pages_from_registration_to_refund(shop: Monolith, shopper: Shopper) -> None:
    assert shopper.http.get("/account/").headers["location"] == "/sign-in/?next=/account/"
    done = shopper.form("/register/", email=shopper.email, name="Pat", password="short")
    assert done.status_code == 400
    assert "too short" in done.text
    assert shopper.form("/register/", email=shopper.email, name="Pat", password=PASSWORD).status_code == 302
    assert shopper.form("/cart/", product_id="21", quantity="2").status_code == 302
    declined = shopper.form("/checkout/", card_token="tok_declined")
    assert declined.status_code == 402
    assert "The card was declined." in declined.text
    order = shop.rows("SELECT o.id FROM orders_order o JOIN accounts_user u ON u.id = o.user_id WHERE u.email = %s",
                      shopper.email)[0][0]  # fmt: skip
    assert shopper.form(f"/orders/{order}/", f"/orders/{order}/pay/", card_token="tok_visa").status_code == 302
    account = shopper.http.get("/account/")
    assert f"Order {order}" in account.text
    assert "captured" in account.text
    assert shopper.form(f"/orders/{order}/", f"/orders/{order}/refund/").status_code == 302
    assert "refunded" in shopper.http.get("/account/").text
    assert shopper.form("/", "/sign-out/").status_code == 302
    assert shopper.http.get("/account/").status_code == 302
    wrong = shopper.form("/sign-in/", email=shopper.email, password="wrong", next="/account/")
    assert (wrong.status_code, "E-mail address or password is wrong." in wrong.text) == (401, True)
    back = shopper.form("/sign-in/", email=shopper.email, password=PASSWORD, next="/account/")
    assert back.headers["location"] == "/account/"
    away = shopper.form("/sign-in/", email=shopper.email, password=PASSWORD, next="https://elsewhere.example/")
    assert away.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/cart/", "/sign-in/", "/register/", "/checkout/", "/sign-out/"])
def test_forms_without_their_token_are_refused(shop: Monolith, shopper: Shopper, path: str) -> None:
    answer = shopper.http.post(path, data={"product_id": "1"})
    assert answer.status_code == 403
    assert "This form has expired" in answer.text


def test_session_by_json_wants_its_csrf_token(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    del shopper.http.headers["Authorization"]
    body = {"email": shopper.email.upper(), "password": PASSWORD}
    assert shopper.http.post("/api/session", json=body).json()["code"] == "csrf_failed"
    token = shopper.http.get("/api/session").json()["csrf_token"]
    wrong = shopper.http.post("/api/session", json=body | {"password": "x"}, headers={"X-CSRFToken": token})
    assert wrong.json()["code"] == "invalid_credentials"
    done = shopper.http.post("/api/session", json=body, headers={"X-CSRFToken": token})
    assert done.json()["user"]["email"] == shopper.email
    read = shopper.http.get("/api/session").json()
    assert read["user"]["email"] == shopper.email
    headers = {"X-CSRFToken": read["csrf_token"]}
    assert shopper.http.delete("/api/session", headers=headers).status_code == 204
    assert shopper.http.get("/api/session").json()["user"] is None


def test_sign_in_by_form_is_limited_too(shop: Monolith, shopper: Shopper) -> None:
    answers = [shopper.form("/sign-in/", email=shopper.email, password="wrong") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 300


def test_catalogue_and_openapi_document(shop: Monolith, shopper: Shopper) -> None:
    page = shopper.http.get("/api/catalog/products?limit=200").json()
    assert (len(page["results"]), page["next"]) == (200, None)
    following = shopper.http.get("/api/catalog/products?limit=2&after=198").json()
    assert [product["id"] for product in following["results"]] == [199, 200]
    assert shopper.http.get(f"/products/{page['results'][0]['slug']}/").status_code == 200
    assert shopper.http.get("/api/catalog/products?limit=0").json()["errors"] == {"limit": ["Must be from 1 to 200."]}
    document = shopper.http.get("/api/openapi.json").json()
    validate(document)
    assert {
        "/api/auth/token",
        "/api/session",
        "/api/orders/{order_id}/pay",
        "/api/payments/intents/{intent_id}",
    } <= set(document["paths"])
    unknown = shopper.http.get("/api/nothing")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert shopper.http.get("/nothing").status_code == 404


def test_messages_mark_the_order_paid_and_a_worker_sends_the_receipt(
    shop: Monolith, shopper: Shopper, valkey: EmbeddedValkey
) -> None:
    user = shopper.register()
    order = shopper.order().json()["id"]
    payment = shopper.pay(order).json()["payment"]["id"]
    # As if the answer had been lost, and the user's row had come by the applier: both are to be heard from the events.
    shop.write("UPDATE orders_order SET status = 'pending', payment_id = NULL WHERE id = %s", order)
    shop.write("DELETE FROM notifications_mailpreference WHERE user_id = %s", user)
    environment = {**os.environ, **shop.environment, "SHOP_BROKER_URL": valkey.url()}
    commands = [
        ["-m", "monolith.manage", "messages"],
        ["-m", "celery", "-A", "monolith.config", "worker", "--beat", "--pool", "solo", "--without-mingle"],
    ]
    with (shop.folder / "tasks.log").open("ab") as log:
        processes = [
            subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log)
            for command in commands
        ]
    try:
        paid = "SELECT status, payment_id::text FROM orders_order WHERE id = %s"
        wait_until(lambda: shop.rows(paid, order) == [("paid", payment)])
        preference = "SELECT count(*) FROM notifications_mailpreference WHERE user_id = %s"
        wait_until(lambda: shop.rows(preference, user) == [(1,)])
        sent = "SELECT sent_at IS NOT NULL FROM notifications_receipt WHERE payment_id = %s::uuid"
        wait_until(lambda: shop.rows(sent, payment) == [(True,)])
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=20) for process in processes]
    assert codes == [0, 0], (shop.folder / "tasks.log").read_text()[-3000:]
    letter = (shop.mail / f"receipt-{payment}.eml").read_text()
    assert f"To: {shopper.email}" in letter
    assert f"order {order}" in letter


def test_admin_signs_in_and_lists(shop: Monolith) -> None:
    with Shopper(shop.url) as admin:
        done = admin.form("/admin/login/", username="admin@example.com", password=SEED_PASSWORD)
        assert done.status_code == 302, done.text
        for model in ("accounts/user", "payments/intent", "payments/settlement", "orders/order", "catalog/product",
                      "notifications/receipt", "payments/webhookevent", "accounts/refreshtoken"):  # fmt: skip
            assert admin.http.get(f"/admin/{model}/").status_code == 200, model
        order, intent = shop.rows("SELECT order_id, id::text FROM payments_intent WHERE status = 'captured' LIMIT 1")[0]
        assert admin.http.get(f"/admin/payments/intent/{intent}/change/").status_code == 200
        assert admin.http.get(f"/admin/orders/order/{order}/change/").status_code == 200


def test_bad_environment_names_every_variable_at_once(shop: Monolith) -> None:
    wrong = {"SHOP_DATABASE_URL": "mysql://x", "SHOP_PBKDF2_ITERATIONS": "many", "SHOP_SECRET_KEY": ""}
    with pytest.raises(AssertionError) as failure:
        shop.python("", **wrong)
    for name in wrong:
        assert name in str(failure.value)


def test_refresh_tokens_expire(shop: Monolith, shopper: Shopper) -> None:
    shopper.register()
    body = {"email": shopper.email, "password": PASSWORD}
    refresh = shopper.http.post("/api/auth/token", json=body).json()["refresh_token"]
    assert shopper.http.post("/api/auth/token/refresh", json={"refresh_token": refresh}).status_code == 200
    past = datetime(2020, 1, 1, tzinfo=UTC)
    shop.write("UPDATE accounts_refreshtoken SET expires_at = %s", past)
    answer = shopper.http.post("/api/auth/token/refresh", json={"refresh_token": refresh})
    assert answer.json()["code"] == "invalid_refresh_token"


def test_health(shop: Monolith) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert httpx.get(shop.url + path, trust_env=False).status_code == 200
