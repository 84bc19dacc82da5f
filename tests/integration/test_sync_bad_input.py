"""What people point the toolkit at by mistake: each is told in a sentence, or is waited for; nothing half moves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.manifest import Manifest, Table
from strangler_proxy.core.stage import Origin
from strangler_proxy.local.postgres import binaries, unprivileged
from strangler_proxy.store import Store, migrate, open_store
from strangler_proxy.sync import recovery
from strangler_proxy.sync.link import NotFit, connect
from tests.integration.sync_rig import ask, cut_over, declared, in_step, ready, rig, start, status
from tests.integration.sync_world import MANIFEST, SYNC, World, as_role, build, columns, until
from tests.servers import ROOT, EmbeddedPostgres, free_port

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


@pytest.fixture
def world(make_database: Callable[[str], str]) -> Iterator[World]:
    made = build(make_database)
    yield made
    made.close()


def with_tables(*tables: Table) -> Manifest:
    return dataclasses.replace(MANIFEST, tables=tables)


async def refused_start(world: World) -> str:
    """What a start says; it must leave nothing behind."""
    async with rig(world) as store:
        done = await ask(store, "sync_start", "people", seconds=60)
        assert done.status in ("failed", "refused"), done
        assert await store.sync.wanted() == []
        for origin in Origin:
            triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'strangler%%'"
            assert world.value(origin, triggers) == 0, "nothing is half prepared"
        return done.detail


async def test_everything_that_does_not_fit_is_told_at_once_with_its_place(world: World) -> None:
    world.app(M).execute("CREATE TABLE keyless (id bigint, at point)")
    world.app(E).execute("CREATE TABLE keyless (id bigint PRIMARY KEY, at point)")
    world.app(M).execute("CREATE TABLE odd (id numeric PRIMARY KEY)")
    world.app(E).execute("CREATE TABLE odd (id numeric PRIMARY KEY)")
    world.manifest = with_tables(
        Table(monolith="keyless", extracted="keyless", key=("id",), columns=columns("id", "at")),
        Table(monolith="odd", extracted="odd", key=("id",), columns=columns("id")),
        Table(monolith="tally", extracted="tally", key=("place", "day"), columns=columns("place", "day", "nothing")),
        Table(monolith="nowhere", extracted="member", key=("id",), columns=columns("id:member_id")),
    )
    said = await refused_start(world)
    for words in (
        "table 'keyless' in database 'monolith' (monolith): key ['id'] has no unique index that is checked at once",
        "table 'odd' in database 'people' (extracted): key column 'id' is numeric; a key may hold",
        "table 'tally' in database 'people' (extracted): there is no column 'nothing'",
        "table 'nowhere' in database 'monolith' (monolith): there is no such table",
    ):
        assert words in said, said


async def test_a_role_that_may_not_is_told_what_to_grant(world: World) -> None:
    with psycopg.connect(world.urls[E], autocommit=True) as admin:
        database = admin.info.dbname
        admin.execute(f'REVOKE CREATE ON DATABASE "{database}" FROM {SYNC}'.encode())
        said = await refused_start(world)
        assert "database 'people' (extracted): permission denied for database" in said
        assert f'GRANT CREATE ON DATABASE "{database}" TO "{SYNC}"' in said
        admin.execute(f'GRANT CREATE ON DATABASE "{database}" TO {SYNC}'.encode())
        admin.execute("ALTER TABLE remark OWNER TO postgres")
    said = await refused_start(world)
    assert (
        "table 'remark' in database 'people' (extracted): the worker's role is not a member of the table's own" in said
    )


async def test_a_privilege_that_is_taken_away_pauses_the_stream_until_it_is_back(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        with psycopg.connect(world.urls[E], autocommit=True) as admin:
            owner = world.value(E, "SELECT tableowner FROM pg_tables WHERE tablename = 'member'")
            admin.execute("ALTER TABLE member OWNER TO postgres")

            async def why() -> str | None:
                paused = (await store.pauses.paused()).get("people")
                return None if paused is None else paused.reason

            assert "the worker's role is not a member of the table's owner" in await until(why, 30)
            world.app(M).execute("INSERT INTO person (email) VALUES ('meanwhile')")
            admin.execute(f"ALTER TABLE member OWNER TO {owner}".encode())
        await in_step(world)
        assert await store.pauses.paused() == {}


async def test_a_target_that_is_not_empty_is_not_emptied_unasked(world: World) -> None:
    world.app(M).execute("INSERT INTO person (id, email) VALUES (1, 'a')")
    world.app(E).execute("INSERT INTO member (address, display_name) VALUES ('only here', '')")
    said = await refused_start(world)
    assert "table 'member' in database 'people' (extracted) is not empty" in said
    assert "strangler sync start people --replace" in said
    assert world.value(E, "SELECT address FROM member") == "only here"
    async with rig(world) as store:
        done = await ask(store, "sync_start", "people", replace="yes")
        assert done.status == "done", done.detail
        await ready(store, "people")
        await in_step(world)
        again = await ask(store, "sync_start", "people")
        assert again.status == "done", "rows of its own are not in the way"


async def error_of(store: Store) -> str:
    async def told() -> str:
        return str((await status(store, "people")).get("error") or "")

    found: str = await until(told, 30)
    return found


async def test_a_disk_that_is_full_is_said_and_waited_for(world: World) -> None:
    """By a trigger that raises what PostgreSQL raises: SQLSTATE 53100."""
    async with rig(world) as store:
        await start(store, world)
        world.app(E).execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; "
            "CREATE TRIGGER full_disk BEFORE INSERT ON member FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        world.app(M).execute("INSERT INTO person (email) VALUES ('waits')")
        said = await error_of(store)
        assert said.startswith("extracted (database '"), said
        assert "could not extend file: No space left on device; free space on its disk: the stream goes on by" in said
        assert world.value(E, "SELECT count(*) FROM strangler.stuck") == 0, "it is not the row's fault"
        world.app(E).execute("DROP TRIGGER full_disk ON member")
        await in_step(world)
        assert (await ready(store, "people", seconds=60))["error"] == ""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 4 MB; the test is skipped where none may be mounted."""
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be mounted here: only root may")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=30)


async def test_a_disk_that_is_really_full_is_said_and_waited_for(world: World, tmp_path: Path) -> None:
    """A tablespace on a file system of 4 MB."""
    if unprivileged()[:1] == ("setpriv",):
        pytest.skip("the server of the tests runs as another user, who cannot reach the folder")
    with small_disk(tmp_path / "disk") as disk, psycopg.connect(world.urls[E], autocommit=True) as admin:
        space = tmp_path / "disk" / "space"
        space.mkdir(mode=0o700)
        name = f"small_{admin.info.dbname}"
        admin.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'".encode())
        try:
            admin.execute(f"ALTER TABLE member SET TABLESPACE {name}".encode())
            async with rig(world) as store:
                await start(store, world)
                with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                    while True:
                        filler.write(b"x" * 4096)
                world.app(M).execute(
                    "INSERT INTO person (email, name) SELECT 'p' || g, repeat('n', 900) FROM generate_series(1, 500) g"
                )
                assert "No space left on device; free space on its disk" in await error_of(store)
                (disk / "filler").unlink()
                await in_step(world)
                assert (await ready(store, "people", seconds=60))["stuck"] == 0
        finally:
            admin.execute(b"ALTER TABLE member SET TABLESPACE pg_default")
            admin.execute(f"DROP TABLESPACE {name}".encode())


@pytest.fixture
def replica(postgres: EmbeddedPostgres, world: World, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A standby of the session's server, with the databases of the world."""
    data = tmp_path / "replica"
    subprocess.run(
        [str(binaries() / "pg_basebackup"), "-h", postgres.host, "-p", str(postgres.port), "-U", "postgres",
         "-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    if unprivileged()[:1] == ("setpriv",):
        subprocess.run(["chown", "-R", "nobody:nogroup", str(data)], check=True)
    server = EmbeddedPostgres(data, settings={"max_connections": "300", "fsync": "off"}, timeout_s=60).start()
    yield server
    server.stop()


async def test_a_replica_is_refused_on_either_side(world: World, replica: EmbeddedPostgres) -> None:
    for origin in Origin:
        name = world.urls[origin].rpartition("/")[2]
        pointed = World(urls={**world.urls, origin: replica.url(name)})
        async with rig(pointed) as store:
            done = await ask(store, "sync_start", "people", seconds=60)
            assert done.status == "failed"
            assert done.detail == (
                f"database {name} is a replica, and nothing can be written there: STRANGLER_DATA_URL__NAME is to name "
                "its primary"
            )
            assert await store.sync.wanted() == []


@contextlib.contextmanager
def pooler(server: EmbeddedPostgres, folder: Path, extra: str) -> Iterator[int]:
    """PgBouncer in transaction mode before that server; its port."""
    port = free_port()
    (folder / "users").write_text(f'"{SYNC}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder / 'users'}\n"
        f"pool_mode = transaction\n{extra}\n"
    )
    for each in (folder, folder / "users", folder / "pgbouncer.ini"):
        each.chmod(0o755)
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [*unprivileged(), program, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(
    not (shutil.which("pgbouncer") or Path("/usr/sbin/pgbouncer").exists()), reason="PgBouncer is not installed"
)
@pytest.mark.parametrize("extra", ["", "ignore_startup_parameters = options,extra_float_digits"], ids=["plain", "lax"])
async def test_a_pooler_is_refused(postgres: EmbeddedPostgres, world: World, tmp_path: Path, extra: str) -> None:
    with pooler(postgres, tmp_path, extra) as port:
        name = world.urls[M].rpartition("/")[2]
        url = f"postgresql://{SYNC}@127.0.0.1:{port}/{name}"

        async def said() -> str | None:
            try:
                await (await connect(url, application="test")).close()
            except NotFit as error:
                return error.message
            except Exception as error:  # noqa: BLE001 - it may not listen yet
                return None if "refused" in str(error) else repr(error)
            return "connected"

        assert f"database {name} is reached through a pooler" in await until(said, 20)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
async def test_a_worker_whose_clock_is_an_hour_off_decides_by_the_databases(
    world: World, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    """Ahead: libfaketime cannot set a clock back without breaking `clock_nanosleep`."""
    async with off_by("+3600s", world, make_database("control"), tmp_path) as store:
        started = await ask(store, "sync_start", "people", seconds=60)
        assert started.status == "done", started.detail
        await ready(store, "people", seconds=60)
        world.app(M).execute("INSERT INTO person (email) VALUES ('x')")
        verified = await ask(store, "sync_verify", "people", seconds=60)
        assert verified.status == "done", verified.detail
        done = await cut_over(store, world, E, seconds=60)
        assert done.status == "done", done.detail
        await in_step(world)
        assert (await ready(store, "people"))["lag_seconds"] < 1


@contextlib.asynccontextmanager
async def off_by(shift: str, world: World, control: str, folder: Path) -> AsyncIterator[Store]:
    """A worker process whose wall clock is wrong; the monotonic one goes on as it should."""
    await asyncio.to_thread(migrate, control)
    store = await declared(open_store(control), world)
    names = {world.manifest.databases[origin]: as_role(url, SYNC) for origin, url in world.urls.items()}
    environment = {
        **os.environ,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": shift,
        "DONT_FAKE_MONOTONIC": "1",
        "STRANGLER_DATABASE_URL": control,
        **{f"STRANGLER_DATA_URL__{name.upper()}": url for name, url in names.items()},
    }
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is only started
            [str(Path(sys.executable).parent / "strangler"), "worker"],
            env=environment, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        yield store
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        await store.close()


def test_no_decision_in_the_toolkit_s_sync_is_by_this_machine_s_clock() -> None:
    written_down = {"dump.py", "retire_conditions.py"}  # for people, beside the dump; for a row that is always there
    for path in (ROOT / "strangler_proxy" / "sync").glob("*.py"):
        if path.name in written_down:
            continue
        for word in ("datetime.now", "time.time(", "utcnow", "date.today"):
            assert word not in path.read_text(), f"{path.name} has {word}"


async def test_a_cutover_whose_deadline_a_clock_moved_away_is_aborted_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's clock was set back by an hour after the record was written, and its worker died."""
    monkeypatch.setattr(recovery, "PATIENCE_S", 2.0)
    async with rig(world) as store:
        await start(store, world)
        with psycopg.connect(world.urls[M], autocommit=True) as admin:
            admin.execute(
                "INSERT INTO strangler.cutover (id, operation_id, flag, source, target, epoch, status, deadline_at, "
                "actor) VALUES ('c9', 99, 'people', 'monolith', 'extracted', 2, 'holding', now() + interval '1 h', 't')"
            )
        await until(lambda: world.value(M, "SELECT status FROM strangler.cutover") == "aborted", 30)
        assert world.value(M, "SELECT open FROM strangler.ownership")
        assert (await cut_over(store, world, E)).status == "done"
