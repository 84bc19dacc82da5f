"""`strangler flip` where the writer moves, and `strangler sync`: what workers do, followed by the real command line."""

from __future__ import annotations

import datetime as dt
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store
from tests.integration.control_rig import Rig, Worker, control_rig, live_stream
from tests.servers import EmbeddedPostgres, create_database, drop_database


@pytest.fixture(scope="module")
def rig(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One control plane for this file, with the example's files applied and both streams fit."""
    url = create_database(postgres, "cli_cutover")
    with control_rig(url, tmp_path_factory.mktemp("cli_cutover")) as made:
        assert made.run("apply").code == 0
        yield made
    drop_database(postgres, url)


@pytest.fixture(autouse=True)
def at_monolith(rig: Rig) -> None:
    """Every test starts with both flags at monolith, and streams that are fit."""
    rig.back_to_monolith()


def test_a_cutover_is_followed_step_by_step(rig: Rig) -> None:
    rig.set_stage("payments", Stage.SHADOW)
    rig.set_stage("payments", Stage.CANARY, 10_000)
    with Worker(rig.database_url, "done", "held_ms=213 epoch=1", ("hold", "fence", "release"), stage="extracted"):
        done = rig.run("flip", "payments", "extracted", "-o", "json")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.err.splitlines() if line.startswith("  ")][:3] == [
        "hold",
        "fence",
        "release",
    ]
    document = done.document
    assert (document["before"]["owner"], document["after"]["owner"]) == ("monolith", "extracted")
    assert document["after"]["stage"] == "extracted"
    assert document["operation"]["detail"] == "held_ms=213 epoch=1"
    assert "next: strangler flip payments canary --weight 100%" in done.err

    assert "the way back is open" in done.err
    with Worker(rig.database_url, "done", "", ("hold",), stage="monolith"):
        back = rig.run("flip", "payments", "monolith")
    assert back.code == 0, back.err
    assert "extracted -> monolith" in back.out
    assert rig.stage_of("payments") == ("monolith", 0)


@pytest.mark.parametrize(
    ("status", "detail", "code", "says"),
    [
        ("refused", "lag is 3 s\nan idle transaction holds a lock", 3, "- an idle transaction holds a lock"),
        ("aborted", "the deadline passed", 1, "was aborted (the owner is the same as before): the deadline passed"),
        ("failed", "lost", 1, "failed"),
    ],
)
def test_a_cutover_that_does_not_happen_says_why(rig: Rig, status: str, detail: str, code: int, says: str) -> None:
    rig.set_stage("auth", Stage.SHADOW)
    rig.set_stage("auth", Stage.CANARY, 100)
    with Worker(rig.database_url, status, detail):
        done = rig.run("flip", "auth", "extracted")
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert rig.stage_of("auth") == ("canary", 100)


def test_a_cutover_that_nobody_does_is_a_time_out_and_keeps_other_flips_out(rig: Rig) -> None:
    rig.set_stage("auth", Stage.SHADOW)
    rig.set_stage("auth", Stage.CANARY, 100)
    done = rig.run("flip", "auth", "extracted", "--timeout", "0.3")
    assert done.code == 5
    assert "it goes on without this command" in done.err
    assert "next: strangler watch" in done.err
    second = rig.run("flip", "auth", "extracted")
    assert second.code == 3
    assert re.search(r"operation \d+ \(cutover, queued, by .+\) is not over yet", second.err)
    other = rig.run("flip", "auth", "shadow")
    assert other.code == 3
    assert rig.stage_of("auth") == ("canary", 100)


def test_ctrl_c_detaches_from_a_cutover_which_goes_on(rig: Rig) -> None:
    rig.set_stage("auth", Stage.SHADOW)
    rig.set_stage("auth", Stage.CANARY, 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "strangler_proxy.cli.main", "flip", "auth", "extracted"],
        cwd=rig.folder,
        env=rig.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "cutover of auth to extracted" in line
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "detached: operation" in err
    assert "Traceback" not in err

    async def open_ones(store: Store) -> list[str]:
        return [each.status for each in await store.records.operations("auth", 1)]

    assert rig.with_store(open_ones) == ["queued"]


def test_following_a_cutover_outlives_the_control_plane(database: str, tmp_path: Path) -> None:
    with control_rig(database, tmp_path) as fresh:
        assert fresh.run("apply").code == 0
        fresh.with_store(lambda store: store.sync.want("auth", True))
        fresh.with_store(lambda store: store.sync.publish("auth", live_stream()))
        fresh.set_stage("auth", Stage.SHADOW)
        fresh.set_stage("auth", Stage.CANARY, 100)
        process = subprocess.Popen(
            [sys.executable, "-m", "strangler_proxy.cli.main", "flip", "auth", "extracted"],
            cwd=fresh.folder,
            env=fresh.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "cutover of auth to extracted" in process.stderr.readline()
        fresh.stop()
        assert "does not answer" in process.stderr.readline()
        with Worker(fresh.database_url, "done", "", ("hold", "release"), stage="extracted"):
            fresh.start()
            out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "monolith -> extracted" in out
        assert "release" in err


def test_sync_start_follows_the_worker_and_stop_asks_where_copies_are_in_use(rig: Rig) -> None:
    async def unwanted(store: Store) -> None:
        await store.sync.want("auth", False)

    rig.with_store(unwanted)
    refused = rig.run("flip", "auth", "shadow")
    assert refused.code == 3
    assert "next: strangler sync start auth" in refused.err
    with Worker(rig.database_url, "done", "", ("prepared",)):
        done = rig.run("sync", "start", "auth")
    assert done.code == 0, done.err
    assert "prepared" in done.err
    assert "live and verified" in done.out
    assert "already" in rig.run("sync", "start", "auth").out

    async def unverified(store: Store) -> None:
        await store.sync.publish("auth", live_stream(verified=None))

    rig.with_store(unverified)
    waiting = rig.run("sync", "start", "auth", "--timeout", "0.3")
    assert (waiting.code, "it goes on: not verified yet" in waiting.err) == (5, True)
    shown = rig.run("sync", "status", "auth")
    assert "monolith -> extracted" in shown.out
    assert "500 of about 500" in shown.out
    assert "accounts_user" in shown.out
    assert rig.run("sync", "status", "auth", "-o", "json").document["stream"]["mode"] == "live"
    rig.set_stage("auth", Stage.SHADOW)
    rig.set_stage("auth", Stage.CANARY, 100)
    stop = rig.run("sync", "stop", "auth")
    assert stop.code == 3
    assert "next: strangler sync stop auth --confirm auth" in stop.err
    assert rig.run("sync", "stop", "auth", "--confirm", "auth", "--no-wait").code == 0


def test_a_verification_and_a_rehearsal_are_followed_and_their_result_is_told(rig: Rig) -> None:
    with Worker(rig.database_url, "done", "equal: 12 rows of 3 tables", ("compare",)):
        verified = rig.run("sync", "verify", "auth")
    assert verified.code == 0, verified.err
    assert "equal: 12 rows of 3 tables" in verified.out
    with Worker(rig.database_url, "failed", "3 keys differed", ("differs",)):
        differs = rig.run("sync", "repair", "auth")
    assert differs.code == 1
    assert "3 keys differed" in differs.err
    with Worker(rig.database_url, "done", "rehearsed held_ms=120: nothing was moved", ("hold", "abort")):
        rehearsed = rig.run("sync", "rehearse", "auth", "-o", "json")
    assert rehearsed.code == 0, rehearsed.err
    assert rehearsed.document["operation"]["args"] == {"to": "extracted", "rehearse": "yes"}
    assert rig.stage_of("auth") == ("monolith", 0)


def test_a_rehearsal_is_refused_with_every_reason(rig: Rig) -> None:
    async def spoil(store: Store) -> None:
        await store.sync.publish("auth", live_stream(verified=None, stuck=2))

    rig.with_store(spoil)
    refused = rig.run("sync", "rehearse", "auth")
    assert refused.code == 3
    assert "- 2 stuck keys, needed are 0" in refused.err


def test_a_cutover_that_no_worker_takes_is_withdrawn(rig: Rig) -> None:
    rig.set_stage("auth", Stage.SHADOW)
    rig.set_stage("auth", Stage.CANARY, 100)
    asked = rig.run("flip", "auth", "extracted", "--no-wait", "-o", "json").document["operation"]
    number = str(asked["id"])
    listed = rig.run("operation", "list", "--flag", "auth", "-o", "json").document["operations"]
    assert listed[0]["id"] == asked["id"]
    shown = rig.run("operation", "show", number)
    assert f"next: strangler operation withdraw {number}" in shown.err
    assert rig.run("flip", "auth", "shadow").code == 3
    gone = rig.run("operation", "withdraw", number, "--reason", "too early")
    assert gone.code == 0, gone.err
    assert "aborted" in gone.out
    assert rig.run("flip", "auth", "shadow").code == 0
    again = rig.run("operation", "withdraw", number)
    assert again.code == 3
    assert "it is over (aborted)" in again.err
    assert rig.run("operation", "withdraw", "999999").code == 2


def test_nothing_can_be_flipped_while_a_cutover_holds(rig: Rig) -> None:
    rig.set_stage("auth", Stage.SHADOW)

    async def hold(store: Store) -> None:
        await store.flags.hold("auth", "cutover-1", dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3), by="worker")

    async def release(store: Store) -> None:
        flag, _ = await store.flags.flag("auth")
        grant = Ownership(owner=flag.owner, epoch=flag.owner_epoch)
        await store.flags.release("auth", grant, stage=None, weight=None, by="worker", reason="aborted")

    rig.with_store(hold)
    try:
        done = rig.run("flip", "auth", "monolith")
        assert (done.code, "cutover cutover-1 holds requests" in done.err) == (3, True)
    finally:
        rig.with_store(release)
