"""A worker is gone between any two steps of retiring, or in the middle of one: the next one goes on from there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strangler_proxy.core.ports import Operation
from strangler_proxy.core.retire import STEPS
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store, migrate, open_store
from strangler_proxy.sync import retire_record
from strangler_proxy.sync.retire import retire as run_retire
from strangler_proxy.sync.retire_undo import undo as run_undo
from tests.integration.retire_world import at_extracted, charges, constraints, manifest_of, stage_of
from tests.integration.sync_rig import declared, rig
from tests.integration.sync_world import World, until
from tests.servers import ROOT

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED
POINTS = ("strangler_proxy.sync.dump.check", "advance:route", "strangler_proxy.sync.retire_tables._set_one_aside:2")
"""Where a real worker is killed: with the dump half there, with the stage just set, in the middle of the DDL."""


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = charges(make_database)
    yield made
    made.close()


class Gone(BaseException):
    """What stands for the end of a worker."""


async def untold(name: str, detail: str) -> None:
    """Nobody watches."""


def checked(world: World, dump: Path) -> None:
    """What retiring leaves, however often it was interrupted."""
    manifest = manifest_of(dump)
    assert [(each["table"], each["rows"]) for each in manifest["tables"]] == [("charge", 20), ("charge_back", 20)]
    assert [each.name for each in dump.parent.iterdir() if each.name.endswith(".partial")] == []
    assert len(manifest["foreign_keys"]) == 2
    assert world.value(M, "SELECT status FROM strangler.retired") == "retired"
    assert world.value(M, "SELECT count(*) FROM charge") == 20
    assert world.value(M, "SELECT relkind FROM pg_class WHERE oid = 'charge'::regclass") == "v"
    with pytest.raises(psycopg.Error, match="can only be read"):
        world.app(M).execute("DELETE FROM charge")


async def test_each_step_can_be_the_last_of_a_worker_before_or_after_it_is_noted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump, noted = tmp_path / "dump", retire_record.advance
    left = [(step, after) for step in STEPS for after in (False, True)]
    killed: list[tuple[str, bool]] = []

    async def advance(link: Any, flag: str, step: str) -> None:
        if (step, False) in left:
            left.remove((step, False))
            killed.append((step, False))
            raise Gone
        await noted(link, flag, step)
        if (step, True) in left:
            left.remove((step, True))
            killed.append((step, True))
            raise Gone

    monkeypatch.setattr(retire_record, "advance", advance)
    async with rig(world) as store:
        await at_extracted(store, world)
        given = {"after_days": "0", "without_census": "yes", "dump": str(dump)}
        operation = Operation(id=77, kind="retire", flag="people", args=given, by="test", reason="")
        ended = None
        for _ in range(40):
            with suppress(Gone):
                ended = await run_retire(
                    world.manifest, world.sync_urls(), store.flags, store.sync, operation, step=untold
                )
                break
        assert ended is not None
        assert ended.status == "done", ended.detail
        assert len(killed) == 2 * len(STEPS), left
        checked(world, dump)

        left += [("brought back", False), ("brought back", True)]
        operation = Operation(id=78, kind="retire_undo", flag="people", args={}, by="test", reason="")
        for _ in range(5):
            with suppress(Gone):
                ended = await run_undo(world.manifest, world.sync_urls(), store.flags, operation, step=untold)
                break
        assert ended.status == "done", ended.detail
        assert not left
        assert await stage_of(store, world) is Stage.EXTRACTED
        assert constraints(world) == {"charge_shopper_id_fkey": True, "parcel_charge_id_fkey": True}
        with pytest.raises(psycopg.Error, match="strangler fence"):
            world.app(M).execute("DELETE FROM charge")


KILLED_WORKER = """
import importlib, os, signal, sys
from strangler_proxy.cli.main import main
from strangler_proxy.sync import retire_record

point = os.environ["KILL_AT"]

def dying(inner, when, count):
    calls = 0
    def run(*args, **options):
        nonlocal calls
        if when(*args):
            calls += 1
            if calls == count:
                os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **options)
    return run

if point.startswith("advance:"):
    step = point.partition(":")[2]
    retire_record.advance = dying(retire_record.advance, lambda *args: args[2] == step, 1)
elif point:
    path, _, count = point.partition(":")
    module, _, name = path.rpartition(".")
    home = importlib.import_module(module)
    setattr(home, name, dying(getattr(home, name), lambda *args: True, int(count or 1)))
sys.argv = ["strangler", "worker"]
main()
"""


async def test_a_worker_that_is_killed_for_good_is_followed_by_one_that_goes_on(
    world: World, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    control = make_database("control")
    await asyncio.to_thread(migrate, control)
    store = await declared(open_store(control), world)
    dump = tmp_path / "dump"
    names = {world.manifest.databases[origin]: url for origin, url in world.sync_urls().items()}
    environment = {
        **os.environ,
        "STRANGLER_DATABASE_URL": control,
        "STRANGLER_WORKER_ID": "w1",
        **{f"STRANGLER_DATA_URL__{name.upper()}": url for name, url in names.items()},
    }

    def start(point: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", KILLED_WORKER],
                env=environment | {"KILL_AT": point},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    process = start(POINTS[0])
    try:
        await at_extracted(store, world)
        given = {"after_days": "0", "without_census": "yes", "dump": str(dump)}
        asked = await store.switches.request("retire", "people", given, by="test", reason="")
        for following in (*POINTS[1:], ""):
            assert await asyncio.to_thread(process.wait, 60) == -9
            assert not dump.exists() or manifest_of(dump)["flag"] == "people", "whole, or not there"
            with psycopg.connect(control, autocommit=True) as admin:  # its leases run out
                admin.execute("UPDATE strangler.operation SET lease_until = now() WHERE status = 'running'")
            process = start(following)

        async def ended() -> Operation | None:
            found = next(each for each in await store.records.operations("people", 10) if each.id == asked.id)
            return found if found.status not in ("queued", "running") else None

        done: Operation = await until(ended, 90)
        assert done.status == "done", done.detail
        checked(world, dump)
        await _audited(store)
    finally:
        process.kill()
        process.wait(10)
        await store.close()


async def _audited(store: Store) -> None:
    entries = await store.records.history("people", 50)
    assert any(entry.after.get("stage") == "retired" for entry in entries)
    verdict = await store.records.verify_audit()
    assert (verdict.broken_at, verdict.problem) == (None, "")
