"""The census in a real Django project: views, admin, tasks, commands and shells are counted by file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from strangler_proxy.core.census import Mode
from tests.integration.census_rig import Project, census_project
from tests.integration.contrib_rig import PACKAGE, Site, serving
from tests.servers import ROOT, EmbeddedPostgres, EmbeddedValkey

pytestmark = pytest.mark.long

SETUP = "import django; django.setup(); from tests.integration.contrib_project.models import Parcel"
VIEWS = "tests/integration/contrib_project/census_views.py"


@pytest.fixture(scope="module")
def project(postgres: EmbeddedPostgres) -> Iterator[Project]:
    with census_project(postgres, "census") as made:
        made.set_mode(Mode.LOG)
        yield made


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def running(
    request: pytest.FixtureRequest, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    with serving(project.world, request.param, folder, settings="census_settings", url=project.url) as site:
        yield site


@pytest.fixture
def site(running: Site, project: Project) -> Site:
    running.world.reset()
    project.forget()
    return running


@pytest.fixture
def fresh(project: Project) -> Project:
    project.world.reset()
    project.forget()
    return project


def line_of(code: str) -> str:
    """`FILE:LINE` of a line of the views."""
    lines = (ROOT / VIEWS).read_text().splitlines()
    return f"{VIEWS}:{next(number for number, line in enumerate(lines, 1) if code in line)}"


def test_a_view_is_counted_with_its_route_file_and_line(site: Site, project: Project) -> None:
    for _ in range(3):
        assert site.http.get("/books/7/").status_code == 200
    assert site.post("/add/").status_code in (200, 403), "CSRF is not on here"
    assert site.http.get("/other/").status_code == 200
    wrote = project.reported("view", "write")
    assert (wrote.table, wrote.place) == ("parcel", line_of("Parcel.objects.create"))
    read = project.reported("view", "read", named="book", count=3)
    assert read.count == 3
    assert (read.name, read.place, read.application) == (
        "book /books/<int:number>/",
        line_of("filter(id__gte"),
        "parcels",
    )
    assert read.first_seen <= read.last_seen
    assert len(project.places()) == 2, "what stays is not counted"


@pytest.mark.parametrize(
    ("way", "code"),
    [("raw", "FROM public.Parcel"), ("iterated", ".iterator()"), ("rendered", '{"rows"'), ("second", "FROM parcel")],
)
def test_other_ways_to_the_rows_are_counted_too(site: Site, project: Project, way: str, code: str) -> None:
    assert site.http.get(f"/through/{way}/").status_code == 200
    found = project.reported("view", named="through")
    first = int(line_of(code).rpartition(":")[2])
    assert found.place.startswith(VIEWS)
    assert abs(int(found.place.rpartition(":")[2]) - first) <= 1


def test_a_view_that_awaits_is_counted(site: Site, project: Project) -> None:
    assert site.http.get("/awaited/").status_code == 200
    found = project.reported("view", named="awaited")
    assert found.name == f"{PACKAGE}.census_views.awaited /awaited/"


def test_the_admin_is_counted_by_its_page(site: Site, project: Project) -> None:
    project.python(
        "-c",
        "import django; django.setup(); from django.contrib.auth.models import User;"
        "User.objects.filter(username='ann').delete(); User.objects.create_superuser('ann', password='pw')",
    )
    page = site.http.get("/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    fields = {"username": "ann", "password": "pw", "csrfmiddlewaretoken": token[1], "next": "/other/"}
    assert site.http.post("/admin/login/", data=fields).status_code == 302
    assert site.http.get("/admin/contrib_project/parcel/").status_code == 200
    found = project.reported("admin")
    assert (found.name, found.place) == ("admin:contrib_project_parcel_changelist", "")


def test_a_command_is_counted_though_it_ends_at_once(fresh: Project) -> None:
    fresh.python("-m", "django", "close_books")
    (place,) = fresh.places()
    assert (place.kind.value, place.name) == ("command", "close_books")
    assert place.place.startswith(f"{PACKAGE.replace('.', '/')}/management/commands/close_books.py:")


def test_a_shell_and_a_script_are_counted(fresh: Project) -> None:
    read = "from tests.integration.contrib_project.models import Parcel; Parcel.objects.count()"
    fresh.forget()
    fresh.python("-m", "django", "shell", "-c", read)
    (shell,) = fresh.places()
    assert (shell.kind.value, shell.name, shell.place) == ("shell", "shell", "")
    fresh.forget()
    fresh.python("-c", f"import django; django.setup(); {read}")
    (script,) = fresh.places()
    assert (script.kind.value, script.name) == ("other", "-c")


def test_a_task_in_a_prefork_worker_is_counted_by_its_name(fresh: Project, valkey: EmbeddedValkey) -> None:
    fresh.forget()
    fresh.python("-m", f"{PACKAGE}.census_tasks", valkey.url(5))
    found = {(place.access.value, place.name) for place in fresh.places() if place.kind.value == "task"}
    assert found == {("read", "books.close"), ("write", "books.close")}


def test_processes_say_that_they_count(fresh: Project) -> None:
    fresh.forget()
    fresh.python("-m", "django", "close_books")
    ((program, lost),) = _processes(fresh)
    assert (program, lost) == ("__main__.py", 0)


def test_a_write_that_the_fence_refused_is_counted_as_refused(fresh: Project) -> None:
    fresh.world.close()
    fresh.python("-c", f"{SETUP}\ntry: Parcel.objects.create(name='late')\nexcept Exception as error: print(error)")
    (place,) = fresh.places()
    assert (place.access.value, place.count, place.refused) == ("write", 1, 1)


def test_reports_that_fail_are_in_no_request_s_way_and_arrive_later(site: Site, project: Project) -> None:
    function = "FUNCTION strangler.census_note(jsonb)"
    project.world.run(f"REVOKE EXECUTE ON {function} FROM PUBLIC")
    try:
        for _ in range(5):
            assert site.http.get("/through/second/").status_code == 200
        lines = project.eventually(lambda: site.lines("census.report_failed"))
        assert "permission denied" in str(lines[0])
        assert project.places() == []
    finally:
        project.world.run(f"GRANT EXECUTE ON {function} TO PUBLIC")
    assert project.reported("view", named="through", count=5).count == 5
    assert len(site.lines("census.report_failed")) == 1, "told once, not every five seconds"


def test_the_census_being_off_counts_nothing(fresh: Project, tmp_path: Path) -> None:
    fresh.set_mode(Mode.OFF)
    try:
        fresh.forget()
        fresh.python("-m", "django", "close_books")
        assert (fresh.places(), _processes(fresh)) == ([], [])
    finally:
        fresh.set_mode(Mode.LOG)


def _processes(project: Project) -> list[tuple[str, int]]:
    programs = project.world.column("SELECT program FROM strangler.census_process")
    return list(zip(programs, project.world.column("SELECT lost FROM strangler.census_process"), strict=True))
