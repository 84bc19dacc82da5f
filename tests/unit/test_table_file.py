"""The table on disk: signed, atomic, with the one before; and kill switches as files."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.errors import UnknownName
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.kill import read_kills, switch_off, switch_on
from strangler_proxy.forward.table_file import TableFile
from strangler_proxy.store.memory import memory_store
from tests.ports.store_samples import applied

SIGNER = Signer(b"a secret of enough bytes")


@pytest.fixture
async def table() -> RoutingTable:
    store = memory_store()
    await applied(store)
    return await store.tables.load()


def at_revision(table: RoutingTable, revision: int) -> RoutingTable:
    return RoutingTable.compile(
        revision=revision,
        flags=table.flags.values(),
        routes=table.routes,
        clusters=table.clusters.values(),
        default_cluster=table.default_cluster.name,
    )


@pytest.mark.parametrize("signer", [SIGNER, None])
def test_a_saved_table_comes_back_whole(tmp_path: Path, table: RoutingTable, signer: Signer | None) -> None:
    learned = table.with_ownership("ledger", Ownership(owner=Origin.EXTRACTED, epoch=4))
    assert TableFile(tmp_path, signer).save(learned)
    found = TableFile(tmp_path, signer).load()
    assert found.problems == ()
    assert found.table is not None
    assert (found.table.revision, found.table.routes, found.table.clusters) == (1, table.routes, table.clusters)
    assert found.table.flags == learned.flags
    assert found.table.flags["ledger"].owner is Origin.EXTRACTED
    assert found.table.default_cluster == table.default_cluster
    assert TableFile(tmp_path, signer).path.stat().st_mode & 0o777 == 0o600


def test_the_same_table_is_not_written_again(tmp_path: Path, table: RoutingTable) -> None:
    file = TableFile(tmp_path, SIGNER)
    assert file.save(table)
    assert not file.save(table)
    assert not file.previous.exists()


def test_no_file_is_no_table_and_no_problem(tmp_path: Path) -> None:
    found = TableFile(tmp_path / "nowhere", SIGNER).load()
    assert (found.table, found.problems) == (None, ())


def damage(content: bytes, how: str) -> bytes:
    head, _, body = content.partition(b"\n")
    return {
        "torn": content[: len(content) // 2],
        "empty": b"",
        "tampered": content.replace(b'"monolith"', b'"extracted"', 1),
        "other secret": b"strangler-table 1 " + Signer(b"another secret, long enough").sign("table-file", body).encode()
        + b"\n" + body,
        "unsigned": head[:18] + b"0" * 64 + b"\n" + body,
        "not text": bytes(range(256)),
    }[how]  # fmt: skip


@pytest.mark.parametrize("how", ["torn", "empty", "tampered", "other secret", "unsigned", "not text"])
def test_a_damaged_file_leaves_the_one_before_and_then_none(tmp_path: Path, table: RoutingTable, how: str) -> None:
    file = TableFile(tmp_path, SIGNER)
    file.save(table)
    file.save(at_revision(table, 2))
    file.path.write_bytes(damage(file.path.read_bytes(), how))
    found = file.load()
    assert found.table is not None
    assert found.table.revision == 1
    assert found.problems[0].startswith("table.json: ")
    file.save(at_revision(table, 3))
    assert TableFile(tmp_path, SIGNER).load().table.revision == 3  # type: ignore[union-attr]
    assert file.previous.exists(), "a damaged file does not push the good one before it out"
    for path in (file.path, file.previous):
        path.write_bytes(damage(path.read_bytes(), how))
    nothing = file.load()
    assert nothing.table is None
    assert len(nothing.problems) == 2


def test_an_unsigned_file_is_not_read_where_a_secret_is_configured(tmp_path: Path, table: RoutingTable) -> None:
    TableFile(tmp_path, None).save(table)
    found = TableFile(tmp_path, SIGNER).load()
    assert found.table is None
    assert "signature" in found.problems[0]


def test_a_proxy_that_is_stopped_while_it_saves_costs_others_seconds_only(tmp_path: Path, table: RoutingTable) -> None:
    file = TableFile(tmp_path, SIGNER)
    file.save(table)
    with (tmp_path / "table.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            file.save(at_revision(table, 2))
    assert file.save(at_revision(table, 2))


def test_kill_switches_are_files(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    assert read_kills(state_dir) == frozenset()
    assert switch_on(state_dir, "ledger", text="ada").read_text() == "ada"
    (state_dir / "kill-").write_text("")
    (state_dir / "kill-.hidden").write_text("")
    (state_dir / "table.json").write_text("")
    assert read_kills(state_dir) == {"ledger"}
    switch_on(state_dir, "all")
    assert read_kills(state_dir) == {"ledger", "*"}
    assert switch_off(state_dir, "ledger")
    assert not switch_off(state_dir, "ledger")
    assert read_kills(state_dir) == {"*"}


@pytest.mark.parametrize("flag", ["", "../x", "a/b", ".", "a b", "x" * 64])
def test_a_kill_switch_needs_the_key_of_a_flag(tmp_path: Path, flag: str) -> None:
    with pytest.raises(UnknownName):
        switch_on(tmp_path, flag)
