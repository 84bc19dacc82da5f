"""Celery tasks across a cutover, on real brokers: queued before it, run after it, had once by the new owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from strangler_proxy.contrib import messaging
from strangler_proxy.contrib.messaging import broker
from strangler_proxy.contrib.messaging.handover import HandedTask, runs_or_hands_back
from tests.integration.contrib_project.world import World
from tests.integration.contrib_rig import PACKAGE, environment, migrated
from tests.servers import ROOT, EmbeddedPostgres, create_database, drop_database

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres) -> Iterator[World]:
    with migrated(postgres, "handing") as world:
        yield world


class Sides:
    """The project with its worker, and a service that takes over what it owned; queues of this test alone."""

    def __init__(self, world: World, service: World, broker_url: str, folder: Path) -> None:
        self.monolith, self.service, self.broker_url, self.folder = world, service, broker_url, folder
        self.name = f"handing.{os.getpid()}.{time.monotonic_ns()}"
        self.environment = {
            **environment(world.url),
            "CONTRIB_TEST_BROKER": broker_url,
            "CONTRIB_TEST_QUEUE": f"{self.name}.celery",
        }

    def cut_over(self) -> None:
        """The service owns the parcels from now on."""
        self.monolith.close(owner="extracted")
        self.service.record(owner="extracted", epoch=4, open=True, origin="extracted")
        self.service.fence(on=False)

    def cut_back(self) -> None:
        """The project owns them again."""
        self.service.close(owner="monolith", epoch=5, origin="extracted")
        self.monolith.record(owner="monolith", epoch=5, open=True)
        self.monolith.fence(on=False)

    def send(self, task: str, *args: str, task_id: str = "") -> str:
        """Queue a task, as a web process would; its id."""
        task_id = task_id or str(uuid.uuid4())
        with Celery("sender", broker=self.broker_url, set_as_current=False) as sender:
            sender.conf.task_default_queue = f"{self.name}.celery"
            sender.conf.task_ignore_result = True
            if not broker.is_redis(self.broker_url):
                sender.conf.task_default_queue_type = "quorum"
            sender.send_task(task, args, task_id=task_id)
        return task_id

    @contextmanager
    def process(self, *command: str, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the project, ended politely."""
        with (self.folder / "log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT, env={**self.environment, **changes}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield started
        finally:
            if started.poll() is None:
                started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait(5)

    @contextmanager
    def worker(self, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
        """`celery worker`, one child."""
        options = ["--concurrency", "1", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        with self.process("celery", "-A", f"{PACKAGE}.handing", "worker", *options, **changes) as process:
            yield process

    @contextmanager
    def carrying(self, *, consuming: bool = True) -> Iterator[None]:
        """The relays of both sides, and the service's consumer."""

        def make(task: HandedTask, cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute("INSERT INTO parcel (name) VALUES (%s)", task.args)

        handle = runs_or_hands_back(make, flag="parcels")
        works: list[Callable[[threading.Event], None]] = [
            lambda stop: messaging.run_relay(self.monolith.url, self.broker_url, self.name, stop=stop),
            lambda stop: messaging.run_relay(self.service.url, self.broker_url, self.name, stop=stop),
        ]
        if consuming:
            works.append(
                lambda stop: messaging.run_consumer(
                    self.service.url,
                    self.broker_url,
                    self.name,
                    f"{self.name}.tasks",
                    ["task.extracted.#"],
                    handle,
                    stop=stop,
                )
            )
        stop = threading.Event()
        threads = [threading.Thread(target=work, args=(stop,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)

    def log(self) -> str:
        """What the processes wrote."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def until(self, true: Callable[[], bool], within_s: float = 45) -> None:
        """Wait."""
        ends = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < ends, self.log()[-6000:]
            time.sleep(0.05)

    def handed(self) -> list[str]:
        """Ids of tasks in the project's outbox."""
        return self.monolith.column("SELECT data ->> 'task_id' FROM outbox_message ORDER BY position")

    def discard_queues(self) -> None:
        """On a broker that outlives the test."""
        with broker.connect(self.broker_url) as connection:
            for name in ("celery", "tasks", "back"):
                broker.kombu.Queue(f"{self.name}.{name}", channel=connection.channel()).delete()


@pytest.fixture
def sides(world: World, postgres: EmbeddedPostgres, broker_url: str, tmp_path: Path) -> Iterator[Sides]:
    world.reset()
    world.run("TRUNCATE outbox_message, inbox_message, inbox_parked")
    url = create_database(postgres, "handing_service")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(messaging.schema_sql().encode())
    service = World(url).make()
    service.close(owner="monolith", epoch=3, origin="extracted")
    sides = Sides(world, service, broker_url, tmp_path)
    yield sides
    sides.discard_queues()
    drop_database(postgres, url)


def test_tasks_queued_before_a_cutover_are_had_once_by_the_new_owner(sides: Sides) -> None:
    ids = [sides.send("parcels.make", "late"), sides.send("parcels.make_quietly", "quiet")]
    sides.send("parcels.make", "late", task_id=ids[0])  # delivered a second time
    sides.send("parcels.make_of_others", "lost")
    sides.cut_over()
    sides.monolith.run("ALTER TABLE outbox_message RENAME TO away")
    with sides.worker():
        try:  # a task that cannot be handed over stays in its queue: each delivery tries twice
            sides.until(lambda: sides.log().count("task.handing_over_failed") >= 7)
        finally:
            sides.monolith.run("ALTER TABLE away RENAME TO outbox_message")
        with sides.carrying():
            sides.until(lambda: sorted(sides.service.parcels) == ["late", "quiet"])
            sides.until(lambda: sides.log().count('"task.handed_over"') >= 3)
            sides.until(lambda: "FencedTask" in sides.log())
    assert sorted(sides.handed()) == sorted(ids), "one message for each key"
    assert sides.monolith.parcels == []
    assert sides.monolith.notes == [], "nothing is committed after the fence"
    assert len(sides.service.column("SELECT id FROM inbox_message")) == 2
    assert sorted(sides.service.parcels) == ["late", "quiet"]


def test_a_worker_killed_between_handing_over_and_acknowledging_hands_over_once(sides: Sides) -> None:
    task_id = sides.send("parcels.make", "late")
    sides.cut_over()
    with sides.worker(CONTRIB_TEST_STANDS_S="60") as worker:
        sides.until(lambda: sides.handed() == [task_id])
        os.killpg(worker.pid, signal.SIGKILL)
    with sides.carrying(), sides.worker():
        sides.until(lambda: sides.service.parcels == ["late"])
        sides.until(lambda: "task.handed_over" in sides.log())
    assert sides.handed() == [task_id]
    assert sides.service.parcels == ["late"]


def test_a_task_that_finds_its_rows_gone_back_is_handed_back(sides: Sides) -> None:
    task_id = sides.send("parcels.make", "late")
    sides.cut_over()
    with sides.worker():
        sides.until(lambda: sides.handed() == [task_id])
    sides.cut_back()
    with (
        sides.process(f"{PACKAGE}.handing_inbox", sides.name, f"{sides.name}.back"),
        sides.carrying(),
    ):
        sides.until(lambda: sides.monolith.parcels == ["late"])
    assert sides.service.parcels == []
    assert sides.service.column("SELECT data ->> 'task_id' FROM outbox_message") == [task_id]
    assert len(sides.service.column("SELECT id FROM inbox_message")) == 1
    assert len(sides.monolith.column("SELECT id FROM inbox_message")) == 1
