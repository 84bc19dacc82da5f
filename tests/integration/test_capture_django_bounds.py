"""Shadow mode at a Django project where things are not as they should be: marks, secrets, threads, commits by force."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from strangler_proxy.core.shadow_wire import EFFECTS_HEADER, PROOF_HEADER, SHADOW_HEADER, ShadowKeys, request_value
from tests.integration.capture_rig import KEYS, Site, World
from tests.integration.test_capture_django import DEEDS
from tests.servers import EmbeddedPostgres, EmbeddedValkey

pytestmark = pytest.mark.long

CALL = {"method": "POST", "url": "http://elsewhere/charges", "body": {"amount": "n0"}, "idempotency_key": "k-1"}
RECORDED = [{"kind": "call", "detail": {**CALL, "status": 201, "answer": {"id": "charge-of-the-other"}}}]


@pytest.fixture(scope="module")
def world(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    world = World(postgres, valkey, tmp_path_factory.mktemp("bounds")).make()
    yield world
    world.close()


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def running(request: pytest.FixtureRequest, world: World) -> Iterator[Site]:
    site = Site(world, request.param).wait()
    yield site
    site.stop()


@pytest.fixture
def site(running: Site) -> Site:
    running.reset()
    return running


def mark(role: str, *, keys: ShadowKeys = KEYS, age_s: float = 0.0, body_sha256: str = "", id_: str = "") -> str:
    return request_value(
        keys, role=role, id=id_ or secrets.token_hex(16), at=time.time() - age_s, flag="", body_sha256=body_sha256
    )


FORGED = ShadowKeys(b"of somebody else entirely")


@pytest.mark.parametrize(
    "value",
    [
        mark("mirror", keys=FORGED),
        mark("mirror", age_s=3600),
        mark("mirror", body_sha256="0" * 64),
        mark("mirror")[:-1] + "x",
        "role=mirror",
        "nonsense",
    ],
    ids=["forged", "expired", "body-changed", "cut", "bare", "nonsense"],
)
def test_a_mirrored_request_with_a_mark_that_does_not_hold_is_not_run(site: Site, value: str) -> None:
    before = site.world.sums()
    answer = site.http.post("/do/in-atomic", headers={SHADOW_HEADER: value})
    assert answer.status_code == 403, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert site.world.sums() == before


def test_what_gives_up_for_a_lock_proves_nothing(site: Site) -> None:
    with psycopg.connect(site.world.url) as another:
        another.execute("LOCK TABLE parcel IN SHARE MODE")
        result = site.ask("mirror", "/do/in-atomic")
    assert (result.status, result.proven) == (500, False)
    assert site.ask("mirror", "/do/in-atomic").proven


def test_a_mark_is_taken_once(site: Site) -> None:
    value = mark("mirror")
    assert site.http.post("/do/in-atomic", headers={SHADOW_HEADER: value}).status_code == 201
    assert site.http.post("/do/in-atomic", headers={SHADOW_HEADER: value}).status_code == 403


def test_the_client_is_served_whatever_became_of_the_mark_to_record(site: Site) -> None:
    answer = site.http.post("/do/in-atomic", headers={SHADOW_HEADER: mark("record", keys=FORGED)})
    assert answer.status_code == 201
    assert EFFECTS_HEADER not in answer.headers
    assert site.world.rows("SELECT count(*) FROM parcel") == [(3,)]


def test_a_request_without_a_mark_has_no_effects_in_its_answer(site: Site) -> None:
    answer = site.http.post("/do/in-atomic")
    assert answer.status_code == 201
    assert not {EFFECTS_HEADER.lower(), PROOF_HEADER.lower()} & set(answer.headers)
    assert site.world.rows("SELECT count(*) FROM parcel") == [(3,)]


def test_recorded_effects_that_were_changed_are_refused(site: Site) -> None:
    other = site.ask("mirror", "/do/calling", recorded=RECORDED, fields={"X-Strangler-Recorded": "1/1; AAAA"})
    assert other.status == 403


def test_a_call_is_answered_from_what_the_other_side_recorded(site: Site) -> None:
    before, url = site.world.sums(), site.world.provider.url
    told = site.ask("mirror", "/do/calling", name="n0", url=url, recorded=RECORDED)
    assert (told.status, told.proven) == (201, True), told.response.text
    assert told.response.json()["id"] == "charge-of-the-other"
    (row,) = told.kind("row")
    assert row["values"]["title"] == "charge-of-the-other"
    assert site.world.sums() == before


def test_a_call_that_the_other_side_did_not_make_is_not_made_either(site: Site) -> None:
    before = site.world.sums()
    told = site.ask("mirror", "/do/calling", name="n0", url=site.world.provider.url)
    assert told.status == 500
    assert told.kind("call")[0]["status"] == 599
    assert site.world.sums() == before


def test_a_recorded_call_is_made_and_told_with_its_answer(site: Site) -> None:
    told = site.ask("record", "/do/calling", name="n0", url=site.world.provider.url)
    (call,) = told.kind("call")
    assert (call["method"], call["body"], call["status"]) == ("POST", {"amount": "n0"}, 201)
    assert call["answer"] == {"id": told.response.json()["id"]}
    assert site.world.provider.ledger[-1] == ("/charges", '{"amount":"n0"}')


@pytest.mark.parametrize("deed", ["committing-below", "committing-by-libpq", "locking-in-the-cache"])
def test_what_cannot_be_captured_is_refused(site: Site, deed: str) -> None:
    before = site.world.sums()
    told = site.ask("mirror", f"/do/{deed}")
    assert told.status == 500
    assert site.world.sums() == before
    if deed != "committing-by-libpq":  # there the database itself refuses
        assert told.response.json()["code"] == "not-captured"
    assert site.ask("mirror", "/do/in-atomic").status == 201, "the connection serves on"


def test_a_thread_of_the_views_own_is_not_captured_and_nothing_is_proved(site: Site) -> None:
    told = site.ask("mirror", "/do/threaded")
    assert (told.status, told.fields, told.proven) == (201, [], False)
    assert site.world.rows("SELECT name FROM parcel ORDER BY id DESC LIMIT 1") == [("by a thread",)]
    assert '"shadow.thread_started"' in site.log.read_text()


def test_what_a_pool_of_threads_does_is_captured(site: Site) -> None:
    before = site.world.sums()
    mirrored = site.ask("mirror", "/do/pooled")
    assert (mirrored.status, mirrored.proven) == (201, True)
    assert site.world.sums() == before
    recorded = site.ask("record", "/do/pooled")
    assert site.world.sums() != before
    assert mirrored.effects == recorded.effects
    assert len(mirrored.kind("mail")) == 3


def test_what_a_request_leaves_behind_is_refused_after_its_end(site: Site) -> None:
    before = site.world.sums()
    assert site.ask("mirror", "/do/left-behind").status == 201
    time.sleep(1.0)
    assert site.world.sums() == before
    if "asgi" in site.log.name:
        assert "NotCaptured" in site.log.read_text()


def test_mirrored_requests_of_every_kind_leave_nothing_beside_real_ones(site: Site) -> None:
    before = site.world.sums()

    def ask(number: int) -> int:
        deed = DEEDS[number % len(DEEDS)]
        if deed == "other-databases":  # SQLite has one writer at a time, which is the test's own limit here
            return 201
        return site.ask("mirror", f"/do/{deed}", name=f"m{number}").status

    def really(number: int) -> int:
        return site.http.post("/do/autocommit", params={"name": f"r{number}"}).status_code

    with ThreadPoolExecutor(6) as pool:
        mirrored = [pool.submit(ask, number) for number in range(300)]
        real = [pool.submit(really, number) for number in range(60)]
        assert {future.result() for future in real} == {201}
        assert {future.result() for future in mirrored} <= {200, 201, 500}

    assert site.world.rows("SELECT count(*) FROM parcel WHERE name = 'renamed'") == [(60,)]
    site.world.run("DELETE FROM parcel WHERE name = 'renamed'")
    assert site.world.sums() == before
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert site.world.rows(idle) == [(0,)]


@pytest.mark.parametrize("engine", ["cache", "cached_db", "file", "signed_cookies"])
def test_sessions_of_every_kind_stay_as_they_were(world: World, engine: str) -> None:
    site = Site(world, "wsgi", CONTRIB_TEST_SESSIONS=f"django.contrib.sessions.backends.{engine}").wait()
    try:
        site.reset()
        before = world.sums()
        told = site.ask("mirror", "/do/signing-in")
        assert (told.status, told.proven) == (201, True)
        assert told.response.cookies["sessionid"]
        assert world.sums() == before
        assert site.ask("record", "/do/signing-in").status == 201
        assert world.sums() != before
    finally:
        site.stop()


def test_without_a_secret_reads_are_served_and_mirrored_writes_refused(world: World) -> None:
    site = Site(world, "wsgi", CONTRIB_TEST_SECRET="").wait()
    try:
        site.reset()
        read = site.ask("mirror", "/state", method="GET")
        assert (read.status, read.fields) == (200, [])
        before = world.sums()
        assert site.ask("mirror", "/do/in-atomic").status == 403
        assert world.sums() == before
        done = site.ask("record", "/do/in-atomic")
        assert (done.status, done.fields) == (201, [])
        assert "strangler.W002" in world.manage("check", CONTRIB_TEST_SECRET="")
    finally:
        site.stop()


def test_check_says_what_is_not_captured(world: World) -> None:
    said = world.manage("check", "--database", "default", "--database", "second")
    assert "database 'second' is not prepared" in said
    assert "database 'default' is not prepared" not in said
    assert "database 'lite' is of sqlite" in said
    for number in ("001", "002", "003", "004", "005", "006", "007", "009"):
        assert f"strangler.W{number}" not in said
    changed = world.manage("check", CONTRIB_TEST_SESSIONS="tests.integration.contrib_project.shadow_sessions")
    assert "strangler.W006" in changed


def test_the_access_line_says_which_requests_were_mirrored(site: Site) -> None:
    site.ask("mirror", "/do/in-atomic")
    lines = [json.loads(line) for line in site.log.read_text().splitlines() if '"request.answered"' in line]
    assert lines[-1]["strangler"]["shadow"] == "mirror"
