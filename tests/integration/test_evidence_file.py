"""Evidence in an SQLite file: several processes at once, one that is killed, and files that are something else."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from strangler_proxy.core.errors import DeclarationError, StoreUnavailable, UnknownName
from strangler_proxy.store import migrate, open_store
from strangler_proxy.store.evidence_opened import open_evidence
from strangler_proxy.store.evidence_sqlite import SqliteEvidence
from tests.ports.evidence_samples import rule, sample, stratum, tally
from tests.ports.store_samples import applied

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.integration.test_evidence_file"])


def write(path: Path, writer: int, turns: int) -> None:
    """Publish and keep again and again."""

    async def run() -> None:
        async with SqliteEvidence(path, timeout_s=30.0) as book:
            for turn in range(1, turns + 1):
                await book.publish(f"w{writer}", tally(list=stratum(turn)))
                await book.keep([sample(writer * 1_000_000 + turn)])

    asyncio.run(run())


async def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "evidence.sqlite"
    running = [_FORKS.Process(target=write, args=(path, writer, 20)) for writer in range(4)]
    for each in running:
        each.start()
    for each in running:
        await asyncio.to_thread(each.join, 60)
        assert each.exitcode == 0
    async with SqliteEvidence(path, create=False) as book:
        (found,) = await book.tallies("catalog")
        assert (found.compared, found.eligible) == (80, 400)
        assert len(await book.samples("catalog", limit=999)) == 80
    assert sorted(each.name for each in path.parent.iterdir()) == ["evidence.sqlite"], "whole without its -wal"
    assert path.stat().st_mode & 0o077 == 0


async def test_a_writer_that_is_killed_leaves_evidence_that_reads(tmp_path: Path) -> None:
    path = tmp_path / "evidence.sqlite"
    writer = _FORKS.Process(target=write, args=(path, 1, 1_000_000))
    writer.start()
    async with SqliteEvidence(path) as book:
        deadline = time.monotonic() + 30
        while not await book.samples("catalog", limit=1) and time.monotonic() < deadline:  # noqa: ASYNC110 -- polled
            await asyncio.sleep(0.05)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(10)
        (found,) = await book.tallies("catalog")
        kept = len(await book.samples("catalog", limit=999_999))
        assert found.compared in (kept, kept + 1)
        await book.publish("w2", tally(list=stratum(1)))


async def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE writer (mine text)")
    connection.close()
    text = tmp_path / "notes.txt"
    text.write_text("no database at all, but longer than a header of SQLite is: " * 40)
    for path, says in ((other, "something else"), (text, "not a database")):
        before = path.read_bytes()
        async with SqliteEvidence(path) as book:
            with pytest.raises(StoreUnavailable, match=says):
                await book.publish("w", tally())
        assert path.read_bytes() == before


async def test_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "evidence.sqlite"
    async with SqliteEvidence(path) as book:
        await book.publish("w", tally())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    async with SqliteEvidence(path, create=False) as book:
        with pytest.raises(StoreUnavailable, match="has version 99, and this release reads 1"):
            await book.tallies("catalog")


async def test_looking_never_makes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "evidence.sqlite"
    async with open_evidence(f"sqlite://{path}", create=False) as book:
        with pytest.raises(StoreUnavailable, match="there is no evidence file"):
            await book.tallies("catalog")
    assert not path.exists()
    async with SqliteEvidence(Path("/proc/nowhere/evidence.sqlite")) as book:
        with pytest.raises(StoreUnavailable, match="/proc/nowhere"):
            await book.publish("w", tally())


async def test_a_lock_that_nobody_lets_go_costs_the_time_out_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "evidence.sqlite"
    async with SqliteEvidence(path, timeout_s=0.5) as book:
        await book.publish("w", tally())
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"locked|did not answer"):
            await book.publish("w", tally(list=stratum(1)))
        assert time.monotonic() - began < 10
        assert [each.compared for each in await book.tallies("catalog")] == [0], "readers go on"
        holder.execute("ROLLBACK")
        holder.close()
        await book.publish("w", tally(list=stratum(1)))


async def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "evidence.sqlite"
    async with SqliteEvidence(path) as book:
        await book.publish("w", tally(list=stratum(3)))
        for each in tmp_path.iterdir():
            each.unlink()
        await book.publish("w", tally(list=stratum(4)))
        assert path.exists()
        assert [each.compared for each in await book.tallies("catalog")] == [4]


async def test_cancelling_a_call_leaves_the_next_one_a_turn(tmp_path: Path) -> None:
    async with SqliteEvidence(tmp_path / "evidence.sqlite") as book:
        task = asyncio.create_task(book.publish("w", tally(list=stratum(3))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await book.publish("w", tally(list=stratum(4)))
        assert [each.compared for each in await book.tallies("catalog")] == [4]


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite:relative"])
def test_urls_of_no_evidence_are_refused(url: str) -> None:
    with pytest.raises(DeclarationError, match="expected a file"):
        open_evidence(url)


async def test_the_control_database_knows_its_flags_and_audits_rules(database: str) -> None:
    migrate(database)
    store = open_store(database)
    try:
        await applied(store)
        for call in (store.evidence.rules("nobody"), store.evidence.add_rule("nobody", rule("a"), by="ada"),
                     store.evidence.record("nobody", "shadow.import", {}, by="ada", reason="")):  # fmt: skip
            with pytest.raises(UnknownName):
                await call
        await store.evidence.add_rule("catalog", rule("a"), by="ada")
        (entry,) = await store.records.history("catalog", 1)
        assert (entry.actor, entry.verb, entry.after["absolute"]) == ("ada", "shadow.rule_add", "0.01")
        assert (await store.records.verify_audit()).broken_at is None
    finally:
        await store.close()
