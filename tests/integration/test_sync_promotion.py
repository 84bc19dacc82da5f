"""The owner's database is gone: its copy is opened; when it comes back it is closed, and what only it had is kept."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strangler_proxy.control import sync as verbs
from strangler_proxy.core.errors import GateRefused
from strangler_proxy.core.stage import Origin, Stage
from tests.integration.sync_rig import ask, ready, rig, start
from tests.integration.sync_world import World, until

pytestmark = pytest.mark.long

M, E = Origin.MONOLITH, Origin.EXTRACTED


def admit(world: World, origin: Origin, *, yes: bool) -> None:
    """Let a database take connections, or end all and take none."""
    name = str(conninfo_to_dict(world.urls[origin])["dbname"])
    with psycopg.connect(make_conninfo(world.urls[origin], dbname="postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(yes))
        )
        if not yes:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


async def test_a_copy_is_not_promoted_while_the_owner_answers_or_nobody_accepts_the_loss(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        with pytest.raises(GateRefused, match="complete through"):
            await verbs.promote_copy(store, "people", accept_loss=True, confirmed=False, by="test")
        refused = await ask(store, "promote_copy", "people", copy="extracted")
        assert refused.status == "refused"
        assert "nothing has to be lost" in refused.detail
        flag, _ = await store.flags.flag("people")
        assert flag.owner is M


async def test_the_copy_owns_and_the_old_owner_is_closed_and_filled_when_it_is_back(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        world.app(M).execute("UPDATE person SET name = 'carried over' WHERE id = 1")
        await until(world.same)
        await ready(store, "people")
        highest = world.value(M, "SELECT max(id) FROM person")
        admit(world, M, yes=False)

        done = await ask(store, "promote_copy", "people", copy="extracted", seconds=40)
        assert done.status == "done", done.detail
        assert "the copy is complete through" in done.detail
        why = next(step["detail"] for step in done.steps if step["name"] == "owner away")
        assert "not currently accepting connections" in why
        flag, _ = await store.flags.flag("people")
        assert (flag.owner, flag.stage) == (E, Stage.EXTRACTED)
        again = await ask(store, "promote_copy", "people", copy="extracted", seconds=40)
        assert (again.status, "is the owner by now" in again.detail) == ("refused", True)
        app = world.app(E)
        number = app.execute("INSERT INTO member (address, display_name) VALUES ('n@x', 'n') RETURNING member_id")
        row = number.fetchone()
        assert row is not None
        assert row[0] > highest + 9_000, "numbers that lost rows may have had are left out"

        admit(world, M, yes=True)
        await until(lambda: world.value(M, "SELECT NOT open FROM strangler.ownership"), 30)
        with pytest.raises(psycopg.Error, match="strangler fence"):
            world.app(M).execute("UPDATE person SET name = 'x' WHERE id = 1")
        await until(world.same, 30)
        await ready(store, "people", seconds=30)


async def test_what_only_the_old_owner_had_is_kept_as_it_was(world: World) -> None:
    async with rig(world) as store:
        await start(store, world)
        await until(world.same)
        admit(world, M, yes=False)
        done = await ask(store, "promote_copy", "people", copy="extracted", seconds=40)
        assert done.status == "done", done.detail
        await store.sync.want("people", False)  # no worker looks while the lost side writes once more
        admit(world, M, yes=True)
        lost = world.app(M)
        lost.execute("INSERT INTO person (id, email, name) VALUES (7777, 'only@here', 'only here')")
        lost.execute("DELETE FROM person WHERE id = 2")
        await store.sync.want("people", True)
        await until(lambda: world.value(M, "SELECT NOT open FROM strangler.ownership"), 30)
        await until(world.same, 30)
        assert world.value(M, "SELECT count(*) FROM person WHERE id = 7777") == 0
        kept = world.value(M, "SELECT row_here ->> 'name' FROM strangler.unreplicated WHERE pk = '{7777}'")
        assert kept == "only here"
        assert world.value(M, "SELECT count(*) FROM strangler.unreplicated WHERE pk = '{2}' AND row_here IS NULL") == 1
        assert world.value(M, "SELECT count(*) FROM person WHERE id = 2") == 1, "the new owner has it"
