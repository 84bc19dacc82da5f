"""A mirrored request to a Django project leaves nothing, whatever it does; a recorded one says what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.capture_rig import Site, World
from tests.servers import EmbeddedPostgres, EmbeddedValkey

pytestmark = pytest.mark.long

WAYS = {"wsgi": ("wsgi", "0"), "wsgi-atomic": ("wsgi", "1"), "asgi": ("asgi", "0")}
DEEDS = [
    "autocommit", "in-atomic", "bulk", "durable", "durable-inside-atomic", "savepoints",
    "error-in-autocommit", "rolled-back", "deferred-constraint", "locking", "by-hand", "below-django",
    "closing", "on-commit", "other-databases", "mail", "tasks", "publishing", "caching", "clearing",
    "signing-in", "files", "fault-after-writing", "fault-in-atomic", "replicas-and-raw-sql", "streamed",
    "streamed-async", "asynchronous", "enqueued", "closing-later",
]  # fmt: skip

UNCHANGING = {"durable-inside-atomic", "rolled-back"}
"""What leaves nothing in any case."""


@pytest.fixture(scope="module")
def world(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    world = World(postgres, valkey, tmp_path_factory.mktemp("capture")).make()
    yield world
    world.close()


@pytest.fixture(scope="module", params=sorted(WAYS))
def running(request: pytest.FixtureRequest, world: World) -> Iterator[Site]:
    server, atomic = WAYS[request.param]
    site = Site(world, server, atomic=atomic == "1").wait()
    yield site
    site.stop()


@pytest.fixture
def site(running: Site) -> Site:
    running.reset()
    return running


def plain(effects: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Effects without the keys that a sequence made: it goes on where a mirrored request has been."""
    found = []
    for effect in effects:
        detail = dict(effect["detail"])
        if effect["kind"] == "row":
            detail.pop("key")
            detail["values"] = {name: value for name, value in detail["values"].items() if name != "id"}
        found.append((effect["kind"], detail))
    return found


@pytest.mark.parametrize("deed", DEEDS)
def test_a_mirrored_request_answers_as_the_real_one_and_leaves_nothing(site: Site, deed: str) -> None:
    before, locmem = site.world.sums(), site.http.get("/state").json()

    mirrored = [site.ask("mirror", f"/do/{deed}", name=f"n{number}") for number in range(3)]

    assert site.world.sums() == before
    assert site.http.get("/state").json() == locmem

    recorded = site.ask("record", f"/do/{deed}", name="n0")

    assert all(answer.proven for answer in (*mirrored, recorded)), recorded.response.headers
    assert mirrored[0].status == recorded.status, recorded.response.text
    assert mirrored[0].response.content == recorded.response.content
    assert plain(mirrored[0].effects) == plain(recorded.effects)
    if recorded.status < 400 and deed not in UNCHANGING and not (site.atomic and deed in ("by-hand", "closing")):
        assert site.world.sums() != before, "the recorded one was to do it really"
