"""Outbox, relay, inbox on real brokers: no loss, no double effect, whoever is away or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from strangler_proxy.contrib import messaging
from strangler_proxy.contrib.context import bind_request, request_id
from strangler_proxy.contrib.messaging import Message, broker
from tests.integration.contrib_project.line import Line
from tests.servers import ROOT, EmbeddedValkey

EXCHANGE = "contrib.test"


@pytest.fixture
def app(database: str) -> str:
    """A database with the messaging tables and a table of effects."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(messaging.schema_sql().encode())
        connection.execute(messaging.schema_sql().encode())  # safe to repeat
        connection.execute("CREATE TABLE effect (id uuid NOT NULL, number int NOT NULL, request_id text)")
    return database


@pytest.fixture
def queue(broker_url: str) -> Iterator[str]:
    """A queue of this test alone, declared; gone afterwards."""
    name = f"contrib.{os.getpid()}.{time.monotonic_ns()}"
    with broker.connect(broker_url, queue=name) as connection:
        broker.declare(connection.channel(), EXCHANGE, name, ["parcel.*"], redis=broker.is_redis(broker_url))
    yield name
    with broker.connect(broker_url, queue=name) as connection:
        broker.kombu.Queue(name, channel=connection.channel()).delete()


def write(url: str, numbers: range, event: str = "parcel.sent") -> None:
    with psycopg.connect(url) as connection:
        for number in numbers:
            messaging.enqueue(connection.cursor(), event, {"number": number})


def column(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


def effects(url: str) -> list[int]:
    return column(url, "SELECT number FROM effect ORDER BY number")


def record(message: Message, cursor: psycopg.Cursor[Any]) -> None:
    cursor.execute("INSERT INTO effect VALUES (%s, %s, %s)", (message.id, message.data["number"], request_id.get()))


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.05)


@contextmanager
def running(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(stop,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)
        assert not any(thread.is_alive() for thread in threads), "it does not stop"


def relay(app: str, url: str, **options: Any) -> Callable[[threading.Event], None]:
    return lambda stop: messaging.run_relay(app, url, EXCHANGE, stop=stop, **options)


def consumer(
    app: str, url: str, queue: str, handle: Any = record, bindings: tuple[str, ...] = ("parcel.*",), **options: Any
) -> Callable[[threading.Event], None]:
    return lambda stop: messaging.run_consumer(app, url, EXCHANGE, queue, bindings, handle, stop=stop, **options)


def test_a_message_goes_from_transaction_to_effect_with_the_context_of_its_cause(
    app: str, broker_url: str, queue: str
) -> None:
    with bind_request("cause-7"):
        write(app, range(3))
    with psycopg.connect(app) as connection:
        messaging.enqueue(connection.cursor(), "parcel.sent", {"number": 99})
        connection.rollback()
    with running(relay(app, broker_url), consumer(app, broker_url, queue)):
        wait_until(lambda: len(effects(app)) == 3)
        wait_until(lambda: column(app, "SELECT count(*) FROM outbox_message WHERE published_at IS NULL") == [0])
    assert effects(app) == [0, 1, 2]
    assert column(app, "SELECT DISTINCT request_id FROM effect") == ["cause-7"]


async def test_a_message_is_written_on_an_async_connection(app: str) -> None:
    async with await psycopg.AsyncConnection.connect(app) as connection:
        id_ = await messaging.enqueue_async(connection, "parcel.sent", {"number": 1})
    assert column(app, "SELECT id FROM outbox_message") == [id_]


def test_two_relays_and_two_consumers_share_the_work_and_nothing_is_done_twice(
    app: str, broker_url: str, queue: str
) -> None:
    write(app, range(60))
    works = [relay(app, broker_url, batch=5), relay(app, broker_url, batch=5)]
    with running(*works, consumer(app, broker_url, queue), consumer(app, broker_url, queue)):
        wait_until(lambda: len(effects(app)) == 60)
    assert effects(app) == list(range(60))


def test_a_message_that_comes_twice_has_one_effect(app: str, broker_url: str, queue: str) -> None:
    write(app, range(2))
    with running(relay(app, broker_url), consumer(app, broker_url, queue)):
        wait_until(lambda: len(effects(app)) == 2)
        with psycopg.connect(app, autocommit=True) as connection:
            connection.execute("UPDATE outbox_message SET published_at = NULL")
        write(app, range(2, 3))
        wait_until(lambda: 2 in effects(app))
        wait_until(lambda: column(app, "SELECT count(*) FROM outbox_message WHERE published_at IS NULL") == [0])
    assert effects(app) == [0, 1, 2]


def test_a_message_that_nobody_is_bound_for_is_kept_and_the_others_go_on(app: str, broker_url: str, queue: str) -> None:
    write(app, range(1), event="letter.sent")
    write(app, range(1, 2))
    with running(relay(app, broker_url), consumer(app, broker_url, queue)):
        wait_until(lambda: effects(app) == [1])
        wait_until(lambda: column(app, "SELECT attempts FROM outbox_message WHERE event = 'letter.sent'") != [0])
        assert column(app, "SELECT published_at FROM outbox_message WHERE event = 'letter.sent'") == [None]
        with broker.connect(broker_url, queue=queue) as connection:
            redis = broker.is_redis(broker_url)
            broker.declare(connection.channel(), EXCHANGE, queue, ["parcel.*", "letter.*"], redis=redis)
        wait_until(lambda: effects(app) == [0, 1])


def test_a_failing_message_is_tried_again_then_parked_and_the_next_one_handled(
    app: str, broker_url: str, queue: str
) -> None:
    tries: list[int] = []

    def handle(message: Message, cursor: psycopg.Cursor[Any]) -> None:
        record(message, cursor)
        tries.append(message.data["number"])
        if message.data["number"] == 0 or tries.count(1) == 1:
            raise ValueError("no such parcel")

    write(app, range(2))
    with running(relay(app, broker_url), consumer(app, broker_url, queue, handle, attempts=3)):
        wait_until(lambda: effects(app) == [1])
    assert tries.count(0) == 3
    assert tries.count(1) == 2
    assert column(app, "SELECT error || ' ' || attempts FROM inbox_parked") == ["ValueError: no such parcel 3"]
    assert len(column(app, "SELECT id FROM inbox_message")) == 1, "a parked message is not taken"


def test_a_body_that_is_no_message_is_parked(app: str, broker_url: str, queue: str) -> None:
    with broker.connect(broker_url) as connection:
        publisher = broker.Publisher(connection, EXCHANGE)
        publisher.publish("[]", key="parcel.sent", message_id="1", headers={}, mandatory=True)
    with running(consumer(app, broker_url, queue)):
        wait_until(lambda: column(app, "SELECT body FROM inbox_parked") == ["[]"])


def test_the_line_to_the_broker_is_cut_and_nothing_is_lost_or_done_twice(app: str, broker_url: str, queue: str) -> None:
    with Line(broker_url) as line, running(relay(app, line.url, batch=3), consumer(app, line.url, queue)):
        for start in range(0, 60, 20):
            write(app, range(start, start + 20))
            time.sleep(0.15)
            line.cut()
            write(app, range(100 + start, 100 + start + 5))
            time.sleep(0.5)
            line.mend()
        expected = [*range(60), *(100 + s + n for s in range(0, 60, 20) for n in range(5))]
        wait_until(lambda: len(effects(app)) >= len(expected), 40)
    assert effects(app) == sorted(expected)


def test_the_database_of_a_consumer_goes_away_and_its_message_waits(app: str, broker_url: str, queue: str) -> None:
    with Line(app) as line, running(relay(app, broker_url), consumer(line.url, broker_url, queue, attempts=2)):
        write(app, range(1))
        wait_until(lambda: effects(app) == [0])
        line.cut()
        write(app, range(1, 3))
        time.sleep(2.0)
        assert effects(app) == [0]
        line.mend()
        wait_until(lambda: effects(app) == [0, 1, 2])
    assert column(app, "SELECT count(*) FROM inbox_parked") == [0]


def test_the_broker_is_restarted_and_nothing_is_lost(app: str, tmp_path: Any) -> None:
    server = EmbeddedValkey(tmp_path).start()
    try:
        # A message that was out when the broker ended comes back after the visibility time-out.
        again = consumer(app, server.url(), "restart", visibility_timeout_s=5)
        with running(relay(app, server.url(), batch=5), again):
            write(app, range(30))
            wait_until(lambda: bool(effects(app)))
            server.stop()
            write(app, range(30, 40))
            time.sleep(0.5)
            server.start()
            wait_until(lambda: len(effects(app)) >= 40, 40)
    finally:
        server.stop()
    assert effects(app) == list(range(40))


def test_what_a_redis_type_broker_forgot_is_published_again(app: str, tmp_path: Any) -> None:
    server = EmbeddedValkey(tmp_path / "first").start()
    port = server.port
    published = "SELECT count(*) FROM outbox_message WHERE published_at IS NOT NULL"
    with running(relay(app, server.url())):
        with running(consumer(app, server.url(), "forgetful")):
            write(app, range(1))
            wait_until(lambda: effects(app) == [0])
        write(app, range(1, 6))
        wait_until(lambda: column(app, published) == [6])
        server.stop()
        empty = EmbeddedValkey(tmp_path / "second", port=port).start()
        try:
            write(app, range(6, 7))
            with running(consumer(app, empty.url(), "forgetful")):
                wait_until(lambda: len(effects(app)) == 7, 40)
        finally:
            empty.stop()
    assert effects(app) == list(range(7))


CONSUMER = "tests.integration.contrib_project.consumer"


def spawn(app: str, url: str, queue: str, pause_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", CONSUMER, app, url, EXCHANGE, queue, str(pause_s)], cwd=ROOT)


def test_a_consumer_killed_in_the_middle_of_a_message_leaves_it_to_the_next(
    app: str, broker_url: str, queue: str
) -> None:
    write(app, range(3))
    with running(relay(app, broker_url)):
        first = spawn(app, broker_url, queue, 30)
        try:
            busy = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
            wait_until(lambda: bool(column(app, f"{busy} AND datname = current_database()")))
            first.send_signal(signal.SIGKILL)
            first.wait(5)
        finally:
            if first.poll() is None:
                first.kill()
                first.wait(5)
        assert effects(app) == []
        with psycopg.connect(app, autocommit=True) as connection:  # the server notices a dead client when it writes
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({busy}) b".encode())
        second = spawn(app, broker_url, queue, 0)
        try:
            wait_until(lambda: len(effects(app)) >= 3, 30)
        finally:
            second.terminate()
            second.wait(10)
    assert effects(app) == [0, 1, 2]
