"""Retiring on real databases: what refuses it, what is left of the old tables, the way back, and the drop."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.control import sync as verbs
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.sync.retire import retire as run_retire
from strangler_proxy.sync.statements import statement
from tests.integration.retire_world import (
    MANIFEST,
    as_worker,
    at_extracted,
    charges,
    constraints,
    manifest_of,
    retire,
    same,
    stage_of,
)
from tests.integration.sync_rig import ask, cut_over, proxy, rig, start
from tests.integration.sync_world import World, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED

REFERENCES = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'reference%'"


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = charges(make_database)
    yield made
    made.close()


async def test_the_old_tables_are_dumped_set_aside_and_can_only_be_read(world: World, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    async with rig(world) as store:
        await at_extracted(store, world)
        async with proxy(store, "people"):
            done = await retire(store, world, dump)
        assert done.status == "done", done.detail
        steps = [step["name"] for step in done.steps if step["name"] not in ("compare", "met", "dumped")]
        assert steps == ["verify", "dump", "route", "stop", "set aside", "settle", "triggers", "dump folder"]
        assert await stage_of(store, world) is Stage.RETIRED
        assert await store.sync.wanted() == []
        manifest = manifest_of(dump)
        assert [(each["table"], each["rows"]) for each in manifest["tables"]] == [("charge", 20), ("charge_back", 20)]
        for each in manifest["tables"]:
            content = (dump / each["file"]).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (each["sha256"], each["bytes"])
        with (dump / "charge.csv").open(newline="") as file:
            assert {row["id"]: row["note"] for row in csv.DictReader(file)}[str(uuid.UUID(int=1))] == "by the service"

        app = world.app(M)
        assert app.execute("SELECT count(*) FROM charge JOIN charge_back b ON b.charge_id = charge.id").fetchone() == (
            20,
        )
        assert app.execute("SELECT twice FROM charge WHERE id = %s", (uuid.UUID(int=5),)).fetchone() == (8,)
        for write in (
            "INSERT INTO charge (id, shopper_id, amount) VALUES (gen_random_uuid(), 1, 1)",
            "UPDATE charge SET note = 'x'",
            "DELETE FROM charge_back WHERE false",
            "UPDATE strangler_retired.charge SET note = 'x'",
        ):
            with pytest.raises(psycopg.Error) as refused:
                app.execute(write.encode())
            assert refused.value.sqlstate in ("MF001", "42501"), write
        with pytest.raises(psycopg.Error, match="can only be read") as refused:
            app.execute("UPDATE charge SET note = 'x'")
        assert "strangler retire people --undo" in str(refused.value.diag.message_hint)
        applier = as_worker(world, M)
        applier.execute("SELECT set_config('strangler.applier', 'people', false)")
        with pytest.raises(psycopg.Error, match="can only be read"):
            applier.execute("DELETE FROM strangler_retired.charge")
        assert constraints(world) == {}
        app.execute("DELETE FROM shopper WHERE id = 2")
        triggers = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^strangler_(fence|capture|report|truncate)'"
        assert (world.value(M, triggers), world.value(E, triggers)) == (0, 0)
        assert world.value(M, REFERENCES) == 0
        world.app(E).execute("UPDATE charge SET note = 'goes on'")
        again = await retire(store, world, dump)
        assert (again.status, "retired already" in again.detail) == ("done", True)


async def test_everything_that_refuses_is_told_at_once_and_a_dry_run_says_what_would_be_done(
    world: World, tmp_path: Path
) -> None:
    async with rig(world) as store:
        await start(store, world)
        told = '[{"met": false, "says": "the stage is canary", "command": "strangler flip people extracted"}]'
        done = await ask(
            store, "retire", "people", after_days="3", conditions=told, dump=str(tmp_path / "no"), dry_run="yes"
        )
        assert done.status == "refused"
        for says in (
            "the stage is canary (next: strangler flip people extracted)",
            "extracted is closed at epoch 1, the monolith open at epoch 1",
            "table 'charge' has no fence",
            "was never found equal",
            "the census was not on",
        ):
            assert says in done.detail
        would = [step["detail"] for step in done.steps if step["name"] == "would"]
        assert any("drop foreign key parcel_charge_id_fkey" in each for each in would), would
        assert any(f"checksums to {tmp_path / 'no'}" in each for each in would)
        assert not (tmp_path / "no").exists()
        assert world.value(M, "SELECT to_regclass('strangler.retired') IS NULL")
        assert await stage_of(store, world) is Stage.MONOLITH


async def test_a_stale_verification_and_columns_that_stay_refuse_it(
    make_database: Callable[[str], str], tmp_path: Path
) -> None:
    charge, back = MANIFEST.tables
    split = dataclasses.replace(
        charge, columns=tuple(each for each in charge.columns if each.monolith != "note"), soft_references=()
    )
    world = charges(make_database, dataclasses.replace(MANIFEST, tables=(split, back)))
    try:
        async with rig(world) as store:
            await start(store, world)
            assert (await cut_over(store, world, E)).status == "done"
            with psycopg.connect(world.urls[M], autocommit=True) as owner:
                owner.execute("UPDATE strangler.applied SET verified_at = verified_at - interval '25 hours'")
            done = await retire(store, world, tmp_path / "no", dry_run="yes")
    finally:
        world.close()
    assert done.status == "refused"
    assert "the copy was found equal 25.0 h ago, needed are less than 24 h" in done.detail
    assert "charge: some columns stay with the monolith, so the table cannot go" in done.detail


async def test_who_was_seen_at_the_old_tables_refuses_it_by_name(world: World, tmp_path: Path) -> None:
    async with rig(world) as store:
        await at_extracted(store, world)
        with as_worker(world, M) as admin:
            admin.execute(statement("census", "schema").replace(b"%%", b"%"))
            admin.execute(
                "INSERT INTO strangler.census_mode (flag, mode, tables, since) "
                "VALUES ('people', 'log', '{charge}', now() - interval '1 hour')"
            )
        short = await retire(store, world, tmp_path / "d", without_census="", after_days="14", dry_run="yes")
        assert "the census counts for 0.0 days, needed are 14" in short.detail
        quiet = await retire(store, world, tmp_path / "d", without_census="", dry_run="yes")
        assert quiet.status == "done", quiet.detail
        with as_worker(world, M) as admin:
            admin.execute(
                "INSERT INTO strangler.census (id, flag, tbl, access, kind, name, place, application, count) "
                "VALUES ('1', 'people', 'charge', 'read', 'task', 'nightly', 'shop/tasks.py:12', 'celery', 3)"
            )
        seen = await retire(store, world, tmp_path / "d", after_days="1")
        assert seen.status == "refused"
        assert "task nightly reads charge (shop/tasks.py:12) (next: strangler sync census people)" in seen.detail
        assert await stage_of(store, world) is Stage.EXTRACTED


async def test_what_is_written_between_the_dump_and_the_end_of_the_stream_is_dumped_as_well(
    world: World, tmp_path: Path
) -> None:
    said: dict[str, str] = {}

    async def tell(name: str, detail: str) -> None:
        said[name] = detail
        if name == "dump":
            world.app(E).execute("INSERT INTO charge (id, buyer, amount) VALUES (%s, 1, 7)", (uuid.UUID(int=99),))
            await until(lambda: same(world))

    async with rig(world) as store:
        await at_extracted(store, world)
        args = {"after_days": "0", "without_census": "yes", "dump": str(tmp_path / "dump")}
        operation = Operation(id=7, kind="retire", flag="people", args=args, by="test", reason="")
        done = await run_retire(world.manifest, world.sync_urls(), store.flags, store.sync, operation, step=tell)
        assert done.status == "done", done.detail
        assert said["settle"].startswith("dumped again: 41 rows")
        assert manifest_of(tmp_path / "dump")["tables"][0]["rows"] == 21


async def test_a_copy_that_is_kept_stays_in_step_and_only_the_way_back_ends(world: World, tmp_path: Path) -> None:
    world.manifest = dataclasses.replace(world.manifest, keep_copy=True)
    async with rig(world) as store:
        await at_extracted(store, world)
        done = await retire(store, world, tmp_path / "dump")
        assert done.status == "done", done.detail
        assert [s["name"] for s in done.steps if s["name"] not in ("compare", "met")] == ["verify", "route"]
        assert await stage_of(store, world) is Stage.RETIRED
        world.app(E).execute("UPDATE charge SET note = 'after it'")
        await until(lambda: same(world), 20)
        with pytest.raises(psycopg.Error, match="strangler fence"):
            world.app(M).execute("UPDATE charge SET note = 'x'")
        with pytest.raises(GateRefused, match="the writer stays where it is"):
            await verbs.rehearse(store, "people", by="test")
        kept = await ask(store, "retire_drop", "people")
        assert (kept.status, "kept for good" in kept.detail) == ("refused", True)
        assert not (tmp_path / "dump").exists()
        back = await ask(store, "retire_undo", "people")
        assert back.status == "done", back.detail
        assert await stage_of(store, world) is Stage.EXTRACTED


async def test_it_is_undone_with_names_foreign_keys_fence_and_stage_and_can_be_done_again(
    world: World, tmp_path: Path
) -> None:
    async with rig(world) as store:
        await at_extracted(store, world)
        assert (await retire(store, world, tmp_path / "dump")).status == "done"
        service = world.app(E)
        service.execute("DELETE FROM charge_back WHERE id = 1")
        service.execute("INSERT INTO charge (id, buyer, amount) VALUES (%s, 1, 7)", (uuid.UUID(int=77),))
        done = await ask(store, "retire_undo", "people", seconds=60)
        assert done.status == "done", done.detail
        assert await stage_of(store, world) is Stage.EXTRACTED
        assert constraints(world) == {"charge_shopper_id_fkey": True, "parcel_charge_id_fkey": True}
        assert world.value(M, REFERENCES) == 1
        with pytest.raises(psycopg.Error, match="strangler fence"):
            world.app(M).execute("UPDATE charge SET note = 'x'")
        assert (
            world.value(M, "SELECT count(*) FROM pg_class WHERE relnamespace = 'strangler_retired'::regnamespace") == 0
        )
        await start(store, world)
        await until(lambda: same(world), 30)
        again = await retire(store, world, tmp_path / "dump")
        assert again.status == "done", again.detail
        assert manifest_of(tmp_path / "dump")["tables"][0]["rows"] == 21
        assert len(list(tmp_path.glob("dump.before-*"))) == 1, "the earlier dump is kept beside it"


async def test_rows_that_no_longer_fit_a_foreign_key_are_named_with_the_statement_that_is_left(
    world: World, tmp_path: Path
) -> None:
    async with rig(world) as store:
        await at_extracted(store, world)
        assert (await retire(store, world, tmp_path / "dump")).status == "done"
        world.app(M).execute("DELETE FROM shopper WHERE id = 2")
        done = await ask(store, "retire_undo", "people", seconds=60)
        assert done.status == "done", done.detail
        assert 'ALTER TABLE "public"."charge" VALIDATE CONSTRAINT "charge_shopper_id_fkey"' in done.detail
        assert constraints(world) == {"charge_shopper_id_fkey": False, "parcel_charge_id_fkey": True}


async def test_tables_are_dropped_only_when_the_dump_holds_and_nobody_touched_them(
    world: World, tmp_path: Path
) -> None:
    dump = tmp_path / "dump"
    async with rig(world) as store:
        await at_extracted(store, world)
        early = await ask(store, "retire_drop", "people")
        assert (early.status, "was never retired" in early.detail) == ("refused", True)
        assert (await retire(store, world, dump)).status == "done"
        app = world.app(M)
        app.execute("SELECT count(*) FROM charge").fetchone()
        app.execute("SELECT 1 FROM charge_back LIMIT 1").fetchone()
        with pytest.raises(psycopg.Error):
            app.execute("DELETE FROM charge")
        app.close()
        whole = (dump / "charge.csv").read_bytes()
        (dump / "charge.csv").write_bytes(whole.replace(b"by the service", b"by the Service"))
        world.app(M).execute("CREATE VIEW reporting AS SELECT id FROM charge")

        async def refused() -> bool:
            found = await ask(store, "retire_drop", "people")
            assert found.status == "refused", found.detail
            assert "charge.csv is not what was dumped" in found.detail
            return "2 statements read the old tables and 1 writes were refused" in found.detail

        await until(refused, 20)  # statistics arrive within a second
        (dump / "charge.csv").write_bytes(whole)
        touched = await ask(store, "retire_drop", "people", accept_touches="yes", dry_run="yes")
        assert touched.status == "done", touched.detail
        assert world.value(M, "SELECT to_regclass('charge') IS NOT NULL")
        world.app(M).execute("DROP VIEW reporting")
        done = await ask(store, "retire_drop", "people", accept_touches="yes")
        assert done.status == "done", done.detail
        assert world.value(
            M, "SELECT to_regclass('charge') IS NULL AND to_regclass('strangler_retired.charge') IS NULL"
        )
        late = await ask(store, "retire_undo", "people")
        assert (late.status, str(dump) in late.detail) == ("refused", True)

        target = world.app(M, autocommit=False)
        for each in manifest_of(dump)["tables"]:
            for create in each["create"]:
                target.execute(create.encode())
            names = ", ".join(each["columns"])
            with (
                target.cursor() as cursor,
                cursor.copy(f"COPY {each['table']} ({names}) FROM STDIN (FORMAT csv, HEADER)".encode()) as copy,
            ):
                copy.write((dump / each["file"]).read_bytes())
        assert target.execute("SELECT count(*), count(note), sum(amount) FROM charge").fetchone() == (20, 7, 190)
        target.rollback()
