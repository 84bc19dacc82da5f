"""The payments service when processes die, answers never come, and the rows are another's: one charge per key."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from kombu import Connection, Exchange, Queue

from tests.fakes.card_processor.running import TOKEN
from tests.parity.cases_card_processor import switched
from tests.parity.fencing import PAYMENTS_TABLES, Fence
from tests.parity.servers import Keys, ServerProcess, Side, services
from tests.parity.shop import Shop, User, expect, expect_problem
from tests.servers import ROOT, EmbeddedPostgres, EmbeddedValkey, create_database, drop_database, free_port


@pytest.fixture(scope="module")
def side(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    databases = [create_database(postgres, hint) for hint in ("faults_auth", "faults_payments")]
    side = services(
        tmp_path_factory.mktemp("faults"),
        auth_database=databases[0],
        payments_database=databases[1],
        keys=Keys(tmp_path_factory.mktemp("keys")),
        webhooks=False,
        SHOP_PROCESSOR_TIMEOUT_S="1.5",
    )
    yield side
    side.stop()
    for database in databases:
        drop_database(postgres, database)


@pytest.fixture
def shop(side: Side, request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = Shop(side, request.node.name)
    yield shop
    shop.close()


@pytest.fixture
def user(side: Side) -> User:
    user_id = time.monotonic_ns() % 2**40
    return User(id=user_id, email="", token=side.keys.mint(user_id))


@pytest.fixture
def fence(side: Side) -> Iterator[Fence]:
    fence = Fence(side.payments_database, "payments", PAYMENTS_TABLES)
    yield fence
    fence.open(epoch=9)


def rows(side: Side, statement: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(side.payments_database) as connection:
        return connection.execute(statement, values).fetchall()  # type: ignore[arg-type]


def events(side: Side, intent_id: str) -> list[object]:
    return [
        name
        for (name,) in rows(
            side, "SELECT event FROM outbox_message WHERE data->>'intent_id' = %s ORDER BY occurred_at", intent_id
        )
    ]


def wait_until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.03)


def test_a_kill_between_charge_and_record_is_gone_on_with_by_the_same_key(shop: Shop, user: User, side: Side) -> None:
    intent_id = shop.intent(user)
    with ThreadPoolExecutor(1) as other, switched(shop, timeout_after_charge_rate=1.0):
        lost = other.submit(shop.capture, user, intent_id, "k")
        wait_until(lambda: len(shop.charges(intent_id)) == 1)
        side.payments.kill()
        with pytest.raises(httpx.TransportError):
            lost.result(20)
    side.payments.start()
    assert shop.status(user, intent_id) == "capturing"
    expect_problem(shop.capture(user, intent_id, "k"), "in_progress")
    shop.lock_key(user, "k", age_s=31)
    assert expect(shop.capture(user, intent_id, "k"), 200)["status"] == "captured"
    assert len(shop.charges(intent_id)) == 1
    assert events(side, intent_id) == ["payment.captured"]


def test_an_answer_that_never_comes_leaves_the_outcome_open_and_charges_once(
    shop: Shop, user: User, side: Side
) -> None:
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, timeout_after_charge_rate=1.0):
        begun = time.monotonic()
        expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
        assert time.monotonic() - begun < 4
        expect_problem(shop.refund(user, captured, "4.00", "r"), "processor_unavailable")
        assert shop.status(user, intent_id) == "capturing"
    assert expect(shop.capture(user, intent_id, "k"), 200)["status"] == "captured"
    assert expect(shop.refund(user, captured, "4.00", "r"), 201)["status"] == "succeeded"
    assert len(shop.charges(intent_id)) == 1
    assert events(side, captured) == ["payment.captured", "payment.refunded"]


def test_a_card_processor_that_is_not_there_is_unavailable(shop: Shop, user: User, side: Side) -> None:
    intent_id = shop.intent(user)
    side.processor.kill()
    try:
        expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
        assert expect(shop.send("GET", f"/api/payments/intents/{intent_id}", token=user.token), 200)
    finally:
        side.processor.start()
    expect(shop.capture(user, intent_id, "k"), 200)
    assert len(shop.charges(intent_id)) == 1


def test_an_order_is_named_with_the_scope_and_told_in_the_event(shop: Shop, user: User, side: Side) -> None:
    with_scope = User(id=user.id, email="", token=side.keys.mint(user.id, "orders"))
    document = {"amount": "3.00", "currency": "USD", "card_token": "tok_visa", "order_id": 17}
    answer = shop.send("POST", "/api/payments/intents", document, token=with_scope.token, key="k")
    intent = expect(answer, 201)
    assert intent["order_id"] == 17
    expect(shop.capture(user, intent["id"], "c"), 200)
    ((data,),) = rows(side, "SELECT data FROM outbox_message WHERE data->>'intent_id' = %s", intent["id"])
    assert data == {
        "intent_id": intent["id"],
        "order_id": 17,
        "user_id": user.id,
        "amount": "3.00",
        "currency": "USD",
    }


def test_writes_on_the_side_that_is_not_the_owner_may_be_replayed_safely(
    shop: Shop, user: User, fence: Fence, side: Side
) -> None:
    intent_id = shop.intent(user)
    fence.close(epoch=4)
    unknown = "00000000-0000-4000-8000-000000000000"
    document = {"amount": "1.00", "currency": "EUR", "card_token": "tok_visa"}
    settle = side.keys.mint(user.id, "settlement")
    for answer in (
        shop.send("POST", "/api/payments/intents", document, token=user.token, key="new", keep=False),
        shop.capture(user, intent_id, "c", keep=False),
        shop.capture(user, unknown, "c", keep=False),
        shop.refund(user, intent_id, "1.00", "r", keep=False),
        shop.send("POST", "/api/payments/settlements", {"date": "2001-01-01"}, token=settle, keep=False),
        shop.webhook({"id": f"evt_{intent_id}", "kind": "x", "data": {}}, keep=False),
    ):
        assert answer.status_code == 409, answer.text
        assert answer.headers["x-strangler-fence"] == "flag=payments; epoch=4; owner=monolith; replay=safe"
    assert shop.status(user, intent_id) == "created"
    assert len(expect(shop.send("GET", "/api/payments/intents", token=user.token), 200)["results"]) == 1
    assert shop.charges(intent_id) == []
    fence.open(epoch=5)
    expect(shop.capture(user, intent_id, "c"), 200)


def test_a_fence_between_charge_and_record_asks_the_owner_to_go_on(shop: Shop, user: User, fence: Fence) -> None:
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, latency_ms=700), ThreadPoolExecutor(2) as others:
        capture = others.submit(shop.capture, user, intent_id, "c", keep=False)
        refund = others.submit(shop.refund, user, captured, "2.00", "r", keep=False)
        path = f"/api/payments/intents/{captured}"
        wait_until(lambda: shop.status_quietly(user, intent_id) == "capturing")
        wait_until(lambda: bool(shop.send("GET", path, token=user.token, keep=False).json()["refunds"]))
        fence.close(epoch=6)
        for answer in (capture.result(20), refund.result(20)):
            assert answer.status_code == 409, answer.text
            assert answer.headers["x-strangler-fence"].endswith("epoch=6; owner=monolith; replay=resume")
    fence.open(epoch=7)
    expect_problem(shop.capture(user, intent_id, "c"), "in_progress")
    resume = {"X-Strangler-Replay": "resume"}
    assert expect(shop.capture(user, intent_id, "c", headers=resume), 200)["status"] == "captured"
    assert expect(shop.refund(user, captured, "2.00", "r", headers=resume), 201)["status"] == "succeeded"
    assert len(shop.charges(intent_id)) == 1


def test_the_sweeper_goes_on_with_what_is_in_doubt_and_the_relay_tells(
    shop: Shop, user: User, side: Side, fence: Fence, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    intent_id, captured = shop.intent(user), shop.captured(user, "10.00")
    with switched(shop, timeout_after_charge_rate=1.0):
        expect_problem(shop.capture(user, intent_id, "k"), "processor_unavailable")
        expect_problem(shop.refund(user, captured, "4.00", "r"), "processor_unavailable")
    fence.close(epoch=12)
    messages = messages_process(side, valkey, tmp_path_factory)
    with Connection(valkey.url()) as broker, broker.channel() as channel:
        queue = Queue(f"test.{intent_id}", Exchange("shop.events", "topic"), routing_key="payment.*", channel=channel)
        queue.declare()
        messages.launch()
        try:
            time.sleep(2.5)
            assert shop.status(user, intent_id) == "capturing", "nobody sweeps where the rows are another's"
            fence.open(epoch=13)
            wait_until(lambda: shop.status_quietly(user, intent_id) == "captured")
            path = f"/api/payments/intents/{captured}"
            wait_until(
                lambda: shop.send("GET", path, token=user.token, keep=False).json()["status"] == "partially_refunded"
            )
            told: list[dict[str, object]] = []

            def heard() -> bool:
                message = queue.get(no_ack=True)
                if message is not None:
                    told.append(message.payload)
                mine = {(each["event"], each["data"]["intent_id"]) for each in told}  # type: ignore[index]
                return {("payment.captured", intent_id), ("payment.refunded", captured)} <= mine

            wait_until(heard)
            assert set(told[0]) == {"id", "event", "occurred_at", "data"}
        finally:
            assert messages.stop() == 0, messages.log()
    assert len(shop.charges(intent_id)) == 1
    answer = shop.capture(user, intent_id, "k")
    assert expect(answer, 200)["status"] == "captured"
    assert events(side, intent_id) == ["payment.captured"]


def messages_process(side: Side, valkey: EmbeddedValkey, tmp: pytest.TempPathFactory) -> ServerProcess:
    env = {
        "SHOP_DATABASE_URL": side.payments_database,
        "SHOP_BROKER_URL": valkey.url(),
        "SHOP_PROCESSOR_URL": side.processor.url,
        "SHOP_PROCESSOR_TOKEN": TOKEN,
        "SHOP_IN_DOUBT_AFTER_S": "0.5",
        "SHOP_SWEEP_INTERVAL_S": "0.2",
    }
    command = [sys.executable, "-m", "extracted.payments", "messages"]
    return ServerProcess("messages", command, port=free_port(), folder=tmp.mktemp("messages"), env=env)


def test_what_is_being_answered_at_a_stop_is_answered(shop: Shop, user: User, side: Side) -> None:
    intent_id = shop.intent(user)
    code: list[int] = []
    with switched(shop, latency_ms=800), ThreadPoolExecutor(1) as other:
        answer = other.submit(shop.capture, user, intent_id, "k")
        wait_until(lambda: shop.status_quietly(user, intent_id) == "capturing")
        stopping = threading.Thread(target=lambda: code.append(side.payments.stop()))
        stopping.start()
        assert expect(answer.result(20), 200)["status"] == "captured"
        stopping.join(20)
    side.payments.start()
    assert code == [0]


def test_a_database_that_is_away_is_said_so_and_the_process_lives(
    side: Side, tmp_path_factory: pytest.TempPathFactory
) -> None:
    env = {
        "SHOP_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "SHOP_PUBLIC_KEYS_DIR": str(side.keys.folder),
        "SHOP_PROCESSOR_URL": side.processor.url,
        "SHOP_PROCESSOR_TOKEN": TOKEN,
        "SHOP_PROCESSOR_WEBHOOK_SECRET": "secret",
    }
    port = free_port()
    command = [sys.executable, "-m", "extracted.payments", "serve", "--port", str(port)]
    process = ServerProcess("away", command, port=port, folder=tmp_path_factory.mktemp("away"), env=env).launch()
    try:
        wait_until(lambda: _status(f"{process.url}/healthz") == 200)
        assert _status(f"{process.url}/readyz") == 503
        headers = {"Authorization": f"Bearer {side.keys.mint(1)}"}
        answer = httpx.get(f"{process.url}/api/payments/intents", headers=headers, timeout=10, trust_env=False)
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    finally:
        assert process.stop() == 0


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=10, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_health_and_metrics_are_told(side: Side) -> None:
    with httpx.Client(base_url=side.payments.url, trust_env=False, timeout=10) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        metrics = client.get("/metrics").text
    assert "http_server_requests_total" in metrics
    assert "payments_processor_calls_total" in metrics


def test_bad_settings_are_all_listed_and_not_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "extracted.payments", "serve"],
        env={"SHOP_DATABASE_URL": "mysql://secret", "PATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    for name in ("DATABASE_URL", "PROCESSOR_URL", "PROCESSOR_TOKEN", "PUBLIC_KEYS_DIR", "PROCESSOR_WEBHOOK_SECRET"):
        assert f"SHOP_{name}: " in done.stderr
    assert "secret" not in done.stderr.replace("SHOP_PROCESSOR_WEBHOOK_SECRET", "")
