"""`strangler retire` as a person meets it: what refuses it, the words, the exit codes, the documents, `status`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store
from tests.integration.control_rig import Proxy, Rig, Worker, control_rig, live_stream
from tests.servers import EmbeddedPostgres, create_database, drop_database

pytestmark = pytest.mark.long

DUMP = "/backup/retired/payments"


@pytest.fixture(scope="module")
def rig(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One control plane for this file, `payments` moved and its reverse stream fit."""
    url = create_database(postgres, "cli_retire")
    with control_rig(url, tmp_path_factory.mktemp("cli_retire")) as made:
        assert made.run("apply").code == 0
        made.back_to_monolith()
        made.set_stage("payments", Stage.SHADOW)
        made.set_stage("payments", Stage.CANARY, 10_000)
        with Worker(url, "done", "held_ms=1 epoch=1", ("release",), stage="extracted"):
            assert made.run("flip", "payments", "extracted").code == 0
        yield made
    drop_database(postgres, url)


@pytest.fixture(autouse=True)
def at_extracted(rig: Rig) -> None:
    """Every test starts with `payments` at extracted, its stream fit, and nothing open."""

    async def work(store: Store) -> None:
        while (operation := await store.operations.claim("tidy")) is not None:
            await store.operations.finish(operation.id, "tidy", "aborted", "")
        await store.sync.want("payments", True)
        await store.sync.publish("payments", live_stream(flag="payments", source="extracted"))

    rig.with_store(work)
    rig.set_stage("payments", Stage.EXTRACTED)


def test_without_a_confirmation_nothing_is_asked_for(rig: Rig) -> None:
    done = rig.run("retire", "payments")
    assert (done.code, done.out) == (3, "")
    assert "ends the way back to the monolith" in done.err
    assert "next: strangler retire payments --dry-run" in done.err
    wrong = rig.run("retire", "payments", "--drop-tables", "--confirm", "payment")
    assert wrong.code == 3
    assert "cannot be undone: only the dump is left then" in wrong.err
    assert rig.run("retire", "payments", "--undo").code == 3
    assert rig.run("retire", "payments", "--undo", "--drop-tables").code == 3


def test_what_the_control_plane_knows_goes_with_the_request_and_all_is_told_at_once(rig: Rig) -> None:
    with Worker(
        rig.database_url,
        "refused",
        "extracted serves for 0.0 days, needed are 14 (next: strangler retire payments --dry-run --after-days 0)\n"
        "the census was not on (next: strangler sync census payments)",
        ("not met", "would"),
    ):
        done = rig.run("retire", "payments", "--dry-run", "-o", "json")
    assert done.code == 3, done.err
    assert "- the census was not on (next: strangler sync census payments)" in done.err
    document = done.document
    assert document["conditions"] == [{"met": False, "says": "detail of not met"}]
    assert document["would"] == ["detail of would"]
    told = document["operation"]["args"]
    assert told["after_days"] == "14"
    assert '"extracted serves for 0.0 days, needed are 14"' in told["conditions"]
    assert "routes go to extracted, no list sends anybody back" in told["conditions"]


def test_without_a_worker_it_is_refused_at_once_with_what_is_known(rig: Rig) -> None:
    async def silent(store: Store) -> None:
        await store.sync.want("auth", False)

    rig.with_store(silent)
    done = rig.run("retire", "auth", "--confirm", "auth")
    assert done.code == 3
    assert "- the stage is monolith, the owner is monolith (next: strangler flip auth extracted)" in done.err
    assert "- extracted does not serve yet" in done.err
    assert "what the databases say was not asked" in done.err
    assert "next: strangler flip auth extracted" in done.err


def test_it_is_followed_acknowledged_and_shown_by_status(rig: Rig) -> None:
    with Proxy(rig.database_url, "p1"):
        rig.set_stage("payments", Stage.RETIRED)  # as the worker does it at `route`
        with Worker(rig.database_url, "done", "retired at epoch=2", ("verify", "route", "dump folder")):
            done = rig.run("retire", "payments", "--confirm", "payments", "-o", "json", "--reason", "twenty days")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.err.splitlines() if line.startswith("  ")][:2] == ["verify", "route"]
    assert done.document["dump"] == "detail of dump folder"
    assert "acknowledged by 1 of 1 live proxies" in done.err
    assert "next: strangler retire payments --drop-tables --dry-run" in done.err
    assert "  or: strangler retire payments --undo --confirm payments" in done.err
    status = rig.run("status")
    assert "detail of dump folder" in status.out
    assert "read-only" in status.out
    shown = rig.run("status", "-o", "json").document
    known = next(flag for flag in shown["flags"] if flag["key"] == "payments")["retired"]
    assert (known["dump"], known["tables"]) == ("detail of dump folder", "read-only")
    assert next(flag for flag in shown["flags"] if flag["key"] == "auth")["retired"] is None
    flipped = rig.run("flip", "payments", "canary")
    assert (flipped.code, "no flip leads out of that" in flipped.err) == (3, True)
    started = rig.run("sync", "rehearse", "payments")
    assert (started.code, "the writer stays where it is" in started.err) == (3, True)

    with Worker(rig.database_url, "done", "dropped"):
        assert rig.run("retire", "payments", "--drop-tables", "--confirm", "payments").code == 0
    assert "dropped" in rig.run("status").out


def test_undoing_says_what_is_left_to_be_done(rig: Rig) -> None:
    detail = "brought back\nALTER TABLE x VALIDATE CONSTRAINT y;"
    with Worker(rig.database_url, "done", detail):
        done = rig.run("retire", "payments", "--undo", "--confirm", "payments")
    assert done.code == 0, done.err
    assert "ALTER TABLE x VALIDATE CONSTRAINT y;" in done.out
    assert "next: strangler sync start payments" in done.err


def test_a_migration_is_written_for_the_models_of_the_old_tables(rig: Rig, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_initial.py").write_text('dependencies = [("orders", "0001_initial")]\n')
    (folder / "0002_more.py").write_text('dependencies = [("payments", "0001_initial")]\n')
    with Worker(rig.database_url, "done", "retired"):
        done = rig.run(
            "retire", "payments", "--confirm", "payments", "--migration-dir", str(folder),
            "--django", "monolith.config.settings", timeout_s=60, SHOP_DEBUG="1",
        )  # fmt: skip
    assert done.code == 0, done.err
    text = (folder / "0003_retire_payments.py").read_text()
    assert 'DeleteModel(name="Refund")' in text
    assert text.index("Refund") < text.index('"Intent"'), "what refers to it goes first"
    assert "wrote " in done.err
    with Worker(rig.database_url, "done", "is retired already"):
        unread = rig.run("retire", "payments", "--confirm", "payments", "--migration-dir", str(folder))
    assert (unread.code, "needs --django SETTINGS" in unread.err) == (2, True), unread.err
    assert "the same command writes the migration alone" in unread.err
    checked = subprocess.run([sys.executable, "-m", "py_compile", str(folder / "0003_retire_payments.py")], timeout=20)
    assert checked.returncode == 0
