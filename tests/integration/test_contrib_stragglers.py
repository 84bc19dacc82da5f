"""The fence met where code hides it or where a part was committed before: 409 is told only if nothing was."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.contrib_project.world import World
from tests.integration.contrib_rig import FENCED, Site, migrated, serving
from tests.servers import EmbeddedPostgres

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres) -> Iterator[World]:
    with migrated(postgres, "stragglers") as world:
        yield world


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def running(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    with serving(world, request.param, folder, settings="straggler_settings") as site:
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    running.world.reset()
    running.http.cookies.clear()
    return running


@pytest.mark.parametrize(
    "path", ["/on-commit-of-nothing", "/nested-atomics", "/in-a-pool", "/asynchronous", "/handled"]
)
def test_a_fence_that_the_code_hides_is_answered_where_nothing_was_committed(site: Site, path: str) -> None:
    assert site.post(path, name="before").status_code in (200, 201)
    assert site.world.parcels == ["before"]
    notes = site.world.notes
    site.world.close()

    answer = site.post(path, name="after")

    assert (answer.status_code, answer.headers.get("X-Strangler-Fence")) == (409, FENCED + "safe"), answer.text
    assert site.world.parcels == ["before"]
    assert site.world.notes == notes


@pytest.mark.parametrize(
    ("path", "commits"),
    [
        ("/committed-before", {"default": 1}),
        ("/on-commit-of-a-write", {"default": 1}),
        ("/in-a-pool-after-a-commit", {"default": 1}),
        ("/asynchronous-after-a-commit", {"default": 1}),
        ("/streamed-after-a-commit", {"default": 1}),
        ("/committed-elsewhere", {"second": 2}),
    ],
)
def test_a_fence_after_a_commit_is_an_answer_that_nobody_replays(
    site: Site, path: str, commits: dict[str, int]
) -> None:
    site.world.close()
    told = len(site.lines("fence.met_after_commit"))

    answer = site.post(path, name="after")

    assert (answer.status_code, answer.headers.get("X-Strangler-Fence")) == (500, None), answer.text
    assert "Retry-After" not in answer.headers
    assert answer.json()["code"] == "fenced-in-part"
    assert site.world.parcels == []
    assert site.world.notes == ["after"] * sum(commits.values())
    (line,) = site.lines("fence.met_after_commit")[told:]
    facts = line["strangler"]
    assert isinstance(facts, dict)
    assert (facts["flag"], facts["table"], facts["commits"]) == ("parcels", "parcel", commits)
    assert facts["route"] == path.strip("/")
    assert line["log.level"] == "error"


def test_a_form_of_the_admin_that_meets_the_fence_is_answered_by_it(site: Site) -> None:
    site.post("/sign-in")
    path = "/admin/contrib_project/parcel/add/"
    page = site.http.get(path).text
    form = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert form is not None, page
    site.world.fence(on=True)  # the record still says "ours": the form was opened, and is sent, a moment too early

    answer = site.http.post(path, data={"name": "late", "csrfmiddlewaretoken": form[1]})

    assert (answer.status_code, answer.headers.get("X-Strangler-Fence")) == (
        409,
        "flag=parcels; epoch=2; owner=monolith; replay=safe",
    ), answer.text
    assert site.world.parcels == []
    assert site.world.column("SELECT count(*) FROM django_admin_log") == [0]


def test_after_all_of_these_the_connections_serve_the_next_request(site: Site) -> None:
    paths = ("/in-a-pool", "/nested-atomics", "/committed-elsewhere", "/handled")
    site.world.close()
    refused: list[httpx.Response] = [site.post(path) for path in paths]
    assert [answer.status_code for answer in refused] == [409, 409, 500, 409]
    site.world.reset()
    assert {site.post(path).status_code for path in paths} == {200, 201}
    assert len(site.world.parcels) == 4
