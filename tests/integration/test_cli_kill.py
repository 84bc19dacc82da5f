"""`strangler kill` on a host where neither database nor control plane answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strangler_proxy.core.flag import Flag
from strangler_proxy.core.route import Cluster, Endpoint, Route
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.forward.kill import read_kills
from strangler_proxy.forward.table_file import TableFile
from tests.integration.cli_process import Done, run_command
from tests.servers import free_port

SECRET = "a-secret-of-this-host"
Kill = Callable[..., Done]


def table(*flags: Flag) -> RoutingTable:
    cluster = Cluster(name="c", endpoints=(Endpoint(host="127.0.0.1", port=1),))
    return RoutingTable.compile(
        revision=7,
        flags=flags,
        routes=[Route(name=f.key, flag=f.key, path=f"/{f.key}", clusters=dict.fromkeys(Origin, "c")) for f in flags],
        clusters=[cluster],
        default_cluster="c",
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """State folder of a proxy that serves two flags: extracted owns `moved`, the monolith `stayed`."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    moved = Flag(key="moved", stage=Stage.EXTRACTED, owns_data=True, owner=Origin.EXTRACTED, owner_epoch=3)
    stayed = Flag(key="stayed", stage=Stage.CANARY, weight=100, owns_data=True)
    TableFile(folder, Signer(SECRET.encode())).save(table(moved, stayed))
    return folder


@pytest.fixture
def kill(state: Path, tmp_path: Path) -> Kill:
    """`strangler kill ...` with everything but this host away."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRANGLER_")} | {
        "STRANGLER_STATE_DIR": str(state),
        "STRANGLER_SIGNING_SECRET": SECRET,
        "STRANGLER_CONTROL_URL": f"http://127.0.0.1:{free_port()}",
        "STRANGLER_DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/none",
    }

    def run(*words: str, **more: str) -> Done:
        return run_command(("kill", *words), environment | more, tmp_path, timeout_s=20)

    return run


def test_a_kill_while_extracted_owns_says_what_becomes_of_writes_and_the_way_back(kill: Kill, state: Path) -> None:
    done = kill("moved", "--reason", "wrong totals", "-o", "json")
    assert done.code == 0
    assert done.document["unsafe_refused"] == ["moved"]
    assert done.document["owners"] == {"moved": "extracted"}
    assert read_kills(state) == {"moved"}
    assert (state / "kill-moved").read_text() == "wrong totals\n"
    assert 'extracted owns the data of "moved": its unsafe requests get 503 with Retry-After' in done.err
    assert "next: strangler kill moved --off" in done.err
    assert "  or: strangler flip moved monolith" in done.err


def test_a_kill_while_the_monolith_owns_refuses_nothing(kill: Kill, state: Path) -> None:
    done = kill("stayed")
    assert (done.code, "503" in done.err) == (0, False)
    assert read_kills(state) == {"stayed"}
    assert kill("stayed", "--off").code == 0
    assert read_kills(state) == frozenset()
    assert "was on here" in kill("stayed", "--off").err


def test_all_flags_are_killed_at_once(kill: Kill, state: Path) -> None:
    done = kill("all", "-o", "json")
    assert done.document["unsafe_refused"] == ["moved"]
    assert read_kills(state) == {"*"}


@pytest.mark.parametrize("flag", ["nobody", "../escape", "", "a b"])
def test_an_unknown_flag_is_refused_and_nothing_is_written(kill: Kill, state: Path, flag: str) -> None:
    done = kill(flag)
    assert (done.code, done.out) == (2, "")
    assert "next: strangler" in done.err
    assert read_kills(state) == frozenset()


def test_a_folder_that_no_proxy_uses_is_refused(kill: Kill, tmp_path: Path) -> None:
    done = kill("moved", "--state-dir", str(tmp_path / "elsewhere"))
    assert done.code == 1
    assert "nothing was killed" in done.err
    assert not (tmp_path / "elsewhere").exists()


def test_several_proxies_of_a_host_are_told_at_once(kill: Kill, state: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    done = kill("moved", "--state-dir", str(state), "--state-dir", str(second), "-o", "json")
    assert len(done.document["files"]) == 2
    assert read_kills(second) == {"moved"}


def test_without_a_table_that_can_be_read_it_kills_all_the_same_and_says_what_it_does_not_know(
    kill: Kill, state: Path
) -> None:
    done = kill("moved", STRANGLER_SIGNING_SECRET="another-secret-here")
    assert done.code == 0
    assert read_kills(state) == {"moved"}
    assert "it is not known whether the flag exists and who owns its data" in done.err
    assert "unsafe requests get 503 with Retry-After until the writer is moved back" in done.err
