"""`strangler sync pause | resume | preflight` by the real command line, and how a pause is shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.control_rig import Rig, Worker, control_rig, live_stream
from tests.servers import EmbeddedPostgres, create_database, drop_database

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def rig(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One control plane with the example's files applied and both streams fit."""
    url = create_database(postgres, "cli_pause")
    with control_rig(url, tmp_path_factory.mktemp("cli_pause")) as made:
        assert made.run("apply").code == 0
        made.back_to_monolith()
        yield made
    drop_database(postgres, url)


def test_a_pause_is_shown_everywhere_refuses_what_needs_the_copy_and_ends(rig: Rig) -> None:
    done = rig.run("sync", "pause", "auth", "--no-wait", "--reason", "a [bold] move", "-o", "json")
    assert done.code == 0, done.err
    assert (done.document["paused"]["reason"], done.document["paused"]["drift"]) == ("a [bold] move", False)
    assert "next: strangler sync resume auth" in done.err
    late = rig.run("sync", "pause", "auth", "--timeout", "0.3")
    assert late.code == 5
    assert "no worker has taken it" in late.err
    paused = live_stream(flag="auth", mode="paused", lag_seconds=None, dirty_keys=60_000)
    rig.with_store(lambda store: store.sync.publish("auth", paused))
    assert rig.run("sync", "pause", "auth", "--reason", "again").code == 0
    by = done.document["paused"]["by"]
    for words in (("status",), ("watch", "--count", "1"), ("sync", "status", "auth")):
        shown = " ".join(rig.run(*words).out.split())
        assert f"by {by}, 60000 changes wait: a [bold] move" in shown, shown
    said = rig.run("sync", "status", "auth").err
    assert '60000 or more changes of "auth" wait while its stream is paused' in said
    assert "next: strangler sync resume auth" in said
    for words in (("flip", "auth", "shadow"), ("sync", "rehearse", "auth"), ("sync", "verify", "auth")):
        refused = rig.run(*words)
        assert (refused.code, refused.out) == (3, ""), refused
        assert f"by {by}: a [bold] move" in refused.err
        assert "next: strangler sync resume auth" in refused.err
    with Worker(rig.database_url, "done", "the stream goes on"):
        done = rig.run("sync", "resume", "auth", "-o", "json")
    assert (done.code, done.document["operation"]["kind"]) == (0, "sync_resume"), done.err
    assert "next: strangler sync status auth --watch" in done.err


def test_a_preflight_that_refuses_says_all_of_it(rig: Rig) -> None:
    with Worker(rig.database_url, "refused", "lag is 3 s\n2 keys are stuck"):
        done = rig.run("sync", "preflight", "payments")
    assert done.code == 3
    assert "- lag is 3 s" in done.err
    assert "- 2 keys are stuck" in done.err
    with Worker(rig.database_url, "done", "monolith -> extracted: nothing refuses"):
        done = rig.run("sync", "preflight", "payments")
    assert (done.code, "nothing refuses" in done.out) == (0, True)
