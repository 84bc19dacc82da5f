"""Reads that are refused: at the side that is not the owner only, and never those that are allowed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest

from strangler_proxy.core.census import Mode
from strangler_proxy.core.shadow_wire import SHADOW_HEADER, ShadowKeys, digest_of, request_value
from tests.integration.census_rig import Project, census_project
from tests.integration.contrib_rig import Site, serving
from tests.servers import EmbeddedPostgres

pytestmark = pytest.mark.long

READ = "from tests.integration.contrib_project.models import Parcel; Parcel.objects.count()"
CAUGHT = f"""
import django; django.setup()
from strangler_proxy.contrib.django.census import TableRefused
try:
    exec({READ!r})
    print("READ")
except TableRefused as error:
    print("REFUSED", error)
"""


@pytest.fixture(scope="module")
def made(postgres: EmbeddedPostgres) -> Iterator[Project]:
    with census_project(postgres, "census_refuse") as project:
        yield project


@pytest.fixture
def project(made: Project) -> Project:
    made.world.reset()
    made.set_mode(Mode.REFUSE)
    made.forget()
    return made


@pytest.fixture(scope="module")
def serving_site(made: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made.set_mode(Mode.REFUSE)
    folder = tmp_path_factory.mktemp("refuse")
    with serving(made.world, "wsgi", folder, settings="census_settings", url=made.url) as site:
        yield site


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "held for a cutover"])
def test_the_owner_reads_whatever_the_mode_says(project: Project, is_open: bool) -> None:
    project.world.record(owner="monolith", epoch=4, open=is_open)
    assert "READ" in project.python("-c", CAUGHT)


def test_a_read_is_refused_where_the_rows_moved_away_and_says_who_and_what_to_do(project: Project) -> None:
    project.world.close()
    said = project.python("-c", CAUGHT)
    assert 'REFUSED table "parcel" of flag "parcels" is not read here any more' in said
    assert "strangler sync census parcels --mode refuse --allow" in said
    (place,) = project.places()
    assert (place.count, place.refused) == (1, 1)


@pytest.mark.parametrize("pattern", ["other:*", "table:parcel"])
def test_what_is_allowed_reads_on(project: Project, pattern: str) -> None:
    project.world.close()
    project.set_mode(Mode.REFUSE, allow=("view:nobody", pattern))
    assert "READ" in project.python("-c", CAUGHT)
    (place,) = project.places()
    assert (place.count, place.refused) == (1, 0), "it is counted all the same"


def test_a_refused_read_leaves_the_transaction_whole_and_ends_when_the_writer_is_back(
    project: Project, serving_site: Site
) -> None:
    world = project.world
    world.close()

    def refused() -> bool:
        return serving_site.http.get("/books/1/").status_code == 500

    project.eventually(refused)
    assert serving_site.http.get("/broken/").status_code == 200
    assert [text.split(",")[0] for text in world.notes] == [
        "before",
        'table "parcel" of flag "parcels" is not read here any more',
    ]
    world.record(owner="monolith", epoch=5, open=True)
    world.fence(on=False)
    assert serving_site.http.get("/books/1/").status_code == 200, "at once: the record decides, not what is cached"


def test_writes_are_left_to_the_fence(project: Project, serving_site: Site) -> None:
    project.world.close()
    answer = serving_site.post("/add/")
    assert (answer.status_code, "X-Strangler-Fence" in answer.headers) == (409, True)


def test_a_refused_flag_costs_the_rest_nothing(project: Project, serving_site: Site) -> None:
    project.world.close()
    assert serving_site.http.get("/other/").status_code == 200


def test_a_mirrored_request_is_told_apart_and_never_refused(project: Project, serving_site: Site) -> None:
    project.world.close()
    project.eventually(lambda: serving_site.http.get("/books/1/").status_code == 500)
    keys, id_ = ShadowKeys(b"of-the-mirror-of-a-test-0123456789"), secrets.token_hex(16)
    mark = request_value(keys, role="mirror", id=id_, at=time.time(), flag="parcels", body_sha256=digest_of(b""))
    assert serving_site.http.get("/through/raw/", headers={SHADOW_HEADER: mark}).status_code == 200
    place = project.reported("mirror", named="through")
    assert (place.count, place.refused) == (1, 0)
