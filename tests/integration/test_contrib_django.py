"""The Django part under gunicorn and uvicorn, with a real fence: what a proxy gets for each way of meeting it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from strangler_proxy.contrib import messaging
from tests.integration.contrib_project.world import World
from tests.integration.contrib_rig import FENCED, PACKAGE, Site, environment, migrated, serving
from tests.servers import ROOT, EmbeddedPostgres

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres) -> Iterator[World]:
    with migrated(postgres, "contrib_django") as world:
        yield world


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def running(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(world, request.param, tmp_path_factory.mktemp(request.param)) as site:
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    running.world.reset()
    running.http.cookies.clear()
    return running


@pytest.mark.parametrize(
    ("path", "replay"),
    [
        ("/plain", "safe"),
        ("/uncaught", "safe"),
        ("/swallowed", "safe"),
        ("/swallowed-in-atomic", "safe"),
        ("/goes-on-after", "safe"),
        ("/copied", "safe"),
        ("/session-before", "safe"),
        ("/streamed", "safe"),
        ("/intent-before", "resume"),
    ],
)
def test_a_request_that_meets_the_fence_is_answered_by_it(site: Site, path: str, replay: str) -> None:
    assert site.post(path, name="before").status_code in (200, 201)
    parcels, notes = site.world.parcels, site.world.notes
    assert parcels == ["before"]
    site.world.close()

    answer = site.post(path, name="after")

    assert answer.status_code == 409, answer.text
    assert answer.headers["X-Strangler-Fence"] == FENCED + replay
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 409
    assert site.world.parcels == parcels
    kept = ["after"] if replay != "safe" else []
    assert site.world.notes == notes + kept, "what is committed must agree with what the proxy is told"


def test_a_safe_request_that_writes_meets_the_fence_too(site: Site) -> None:
    site.world.close()
    assert site.http.get("/plain").headers["X-Strangler-Fence"] == FENCED + "safe"


def test_after_a_fence_the_connection_serves_the_next_request(site: Site) -> None:
    site.world.close()
    for _ in range(6):
        assert site.post("/swallowed-in-atomic").status_code == 409
    site.world.reset()
    for _ in range(6):
        assert site.post("/plain").status_code == 201
    assert len(site.world.parcels) == 6


def test_a_fence_met_after_the_headers_breaks_the_answer_off(site: Site) -> None:
    assert site.http.get("/streamed-late").text.endswith("made")
    site.world.close()
    with pytest.raises(httpx.RemoteProtocolError):
        site.http.get("/streamed-late")


def test_an_async_stream_waits_for_its_first_chunk_too(site: Site) -> None:
    if "asgi" not in site.log.parent.name:
        return  # Django itself reads such a stream to its end under WSGI
    assert site.post("/streamed-async", name="x").text == "made"
    site.world.close()
    assert site.post("/streamed-async").headers["X-Strangler-Fence"] == FENCED + "safe"


def test_a_fence_that_is_open_again_is_told_with_the_epoch_before(site: Site) -> None:
    site.world.record(owner="monolith", epoch=6, open=True)
    site.world.fence(on=True)
    assert site.post("/plain").headers["X-Strangler-Fence"] == "flag=parcels; epoch=5; owner=monolith; replay=safe"


def test_without_an_ownership_record_a_fenced_request_gets_503(site: Site) -> None:
    site.world.close()
    site.world.run("DELETE FROM strangler.ownership")
    answer = site.post("/plain")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "X-Strangler-Fence" not in answer.headers


def test_an_ownership_record_that_cannot_be_read_in_time_gives_503_in_bounded_time(site: Site) -> None:
    site.world.close()
    with psycopg.connect(site.world.url) as other:
        other.execute("LOCK TABLE strangler.ownership")
        started = time.monotonic()
        answer = site.post("/plain")
        took = time.monotonic() - started
    assert answer.status_code == 503
    assert 0.4 < took < 2.5
    assert site.post("/plain").status_code == 409, "the connection was replaced"


def test_a_fault_of_the_code_stays_a_500(site: Site) -> None:
    site.world.close()
    assert site.post("/faulty").status_code == 500


def test_the_request_id_is_kept_or_made_and_the_trace_is_continued(site: Site) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = site.http.get("/context", headers={"X-Request-Id": "mine-17", "traceparent": trace})
    assert answer.headers["X-Request-Id"] == "mine-17"
    assert answer.json()["X-Request-Id"] == "mine-17"
    told = answer.json()["traceparent"].split("-")
    assert told[1] == "0af7651916cd43dd8448eb211c80319c"
    assert told[2] != "b7ad6b7169203331"
    made = site.http.get("/context", headers={"X-Request-Id": "not allowed"})
    assert made.headers["X-Request-Id"] not in ("", "not allowed")


def test_each_request_is_one_line_and_is_counted(site: Site) -> None:
    site.http.get("/context", params={"token": "secret-of-a-query"}, headers={"X-Request-Id": "line-1"})
    (line,) = [line for line in site.lines("request.answered") if line["http"]["request"].get("id") == "line-1"]  # type: ignore[index]
    assert line["service"] == {"name": "parcels"}
    assert line["http"]["response"]["status_code"] == 200  # type: ignore[index]
    assert line["url"]["path"] == "/context"  # type: ignore[index]
    assert line["strangler"]["route"] == "context"  # type: ignore[index]
    assert line["trace"]["id"]  # type: ignore[index]
    assert "secret-of-a-query" not in site.log.read_text()
    page = site.http.get("/metrics").text
    assert 'http_server_requests_total{method="GET",route="context",service="parcels",status="2xx"}' in page


def test_a_fence_is_counted_and_logged_but_not_as_a_fault(site: Site) -> None:
    site.world.close()
    before = site.log.read_text()
    site.post("/uncaught")
    new = site.log.read_text()[len(before) :]
    assert '"fence.met"' in new
    assert "Traceback" not in new
    assert 'strangler_fence_met_total{flag="parcels",replay="safe"}' in site.http.get("/metrics").text


def test_readiness_asks_the_database_and_liveness_does_not(site: Site) -> None:
    assert site.http.get("/healthz").json() == {"status": "ok", "service": "parcels"}
    assert site.http.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (("monolith", True), {"owner": "monolith", "is_owner": True}),
        (("monolith", False), {"owner": "monolith", "is_owner": False}),
        (("extracted", False), {"owner": "extracted", "is_owner": False}),
    ],
)
def test_ownership_is_read_from_the_record(site: Site, state: tuple[str, bool], told: dict[str, object]) -> None:
    site.world.record(owner=state[0], epoch=9, open=state[1])
    assert site.http.get("/owner").json() == told


def test_a_capability_that_was_never_prepared_is_the_monoliths(site: Site) -> None:
    site.world.close()
    assert site.http.get("/owner", params={"flag": "other"}).json() == {"owner": "monolith", "is_owner": True}


def test_the_seam_is_local_for_the_owner_and_remote_otherwise(site: Site) -> None:
    assert site.post("/through-seam").json() == {"side": "local"}
    site.world.close()
    assert site.post("/through-seam", name="x").json() == {"side": "remote"}
    assert site.world.notes == ["after the call", "remote x", "after the call"]


def _just_before_a_cutover(site: Site) -> None:
    """The record still says "ours", the fence is on: what a call sees that asked a moment too early."""
    site.world.fence(on=True)


@pytest.mark.parametrize("use", ["send", "send_carelessly"])
def test_a_local_call_that_meets_the_fence_is_undone_and_made_remotely(site: Site, use: str) -> None:
    _just_before_a_cutover(site)
    answer = site.post("/through-seam", name="x", use=use)
    assert answer.json() == {"side": "remote"}
    assert site.world.parcels == []
    assert site.world.notes == ["remote x", "after the call"], "the request goes on writing"


def test_a_local_call_that_had_committed_a_part_lets_the_fence_stand(site: Site) -> None:
    _just_before_a_cutover(site)
    answer = site.post("/through-seam", name="x", use="send_in_parts")
    assert (answer.status_code, answer.headers.get("X-Strangler-Fence")) == (500, None)
    assert site.world.notes == ["x"]


def test_a_resumable_local_call_goes_on_remotely(site: Site) -> None:
    _just_before_a_cutover(site)
    answer = site.post("/through-seam", name="x", use="send_in_parts", resumable="1")
    assert answer.json() == {"side": "remote"}
    assert site.world.notes == ["x", "remote x"]


def test_a_fenced_local_call_inside_atomic_lets_the_fence_stand(site: Site) -> None:
    _just_before_a_cutover(site)
    answer = site.post("/through-seam", name="x", atomic="1")
    assert (answer.status_code, answer.headers["X-Strangler-Fence"].rpartition("=")[2]) == (409, "safe")
    assert site.world.notes == []


def test_a_remote_call_inside_atomic_is_refused_with_a_sentence(site: Site) -> None:
    site.world.close()
    answer = site.post("/through-seam", atomic="1")
    assert answer.status_code == 500
    assert "commit first, then call" in answer.json()["error"]
    assert site.post("/through-seam").json() == {"side": "remote"}


def test_a_row_that_is_on_its_way_is_waited_for(site: Site) -> None:
    site.world.close()
    site.world.fence(on=False)
    with psycopg.connect(site.world.url) as applier:
        applier.execute("INSERT INTO parcel (name) VALUES ('late')")
        timer = threading.Timer(0.3, applier.commit)
        timer.start()
        answer = site.http.get("/awaited", params={"name": "late"})
        timer.join()
    assert answer.status_code == 200


def test_a_row_that_does_not_come_gives_503_and_at_once_for_the_owner(site: Site) -> None:
    started = time.monotonic()
    assert site.http.get("/awaited", params={"name": "never"}).status_code == 503
    assert time.monotonic() - started < 0.5
    site.world.close()
    answer = site.http.get("/awaited", params={"name": "never"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert 0.5 < time.monotonic() - started < 3


def test_the_admin_is_read_only_with_a_sentence_while_another_system_owns_the_rows(site: Site) -> None:
    site.world.run("INSERT INTO parcel (name) VALUES ('one')")
    site.post("/sign-in")
    assert site.http.get("/admin/contrib_project/parcel/add/").status_code == 200
    assert "delete_selected" in site.http.get("/admin/contrib_project/parcel/").text

    site.world.close()

    page = site.http.get("/admin/contrib_project/parcel/").text
    assert "Another system owns these rows" in page
    assert "delete_selected" not in page
    form = site.http.get("/admin/contrib_project/parcel/1/change/").text
    assert "Another system owns these rows" in form
    assert "_save" not in form
    assert site.http.get("/admin/contrib_project/parcel/add/").status_code == 403
    assert site.post("/admin/contrib_project/parcel/1/delete/").status_code == 403


def test_a_message_is_in_the_outbox_if_and_only_if_its_transaction_is_committed(site: Site) -> None:
    site.world.run("TRUNCATE outbox_message")
    answer = site.http.post("/enqueued", params={"name": "x"}, headers={"X-Request-Id": "cause-1"})
    assert site.world.column("SELECT id::text FROM outbox_message") == [answer.json()["id"]]
    assert site.world.column("SELECT context ->> 'X-Request-Id' FROM outbox_message") == ["cause-1"]
    site.world.close()
    assert site.post("/enqueued").status_code == 409
    assert len(site.world.column("SELECT id FROM outbox_message")) == 1


def test_a_consumer_uses_the_orm_in_one_transaction_with_the_inbox_row(world: World, broker_url: str) -> None:
    world.reset()
    world.run("TRUNCATE outbox_message, inbox_message")
    with psycopg.connect(world.url) as connection:
        for number in range(3):
            messaging.enqueue(connection.cursor(), "parcel.made", {"name": str(number)})
    name = f"contrib.django.{uuid.uuid4().hex}"  # a queue that an earlier run left would take what comes too early
    done = subprocess.run(
        [sys.executable, "-m", f"{PACKAGE}.django_inbox", broker_url, name, name, "3"],
        env=environment(world.url), cwd=ROOT, timeout=40, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(world.notes) == ["0", "1", "2"]
    assert len(world.column("SELECT id FROM inbox_message")) == 3
    assert done.stdout.count("inbox.attempt_failed") >= 3
