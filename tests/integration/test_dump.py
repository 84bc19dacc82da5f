"""Dumps: whole or not there, right to the byte, and never over what was there before."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.sync import dump
from strangler_proxy.sync.dump import DumpFailed, Source
from strangler_proxy.sync.link import connect
from tests.servers import ROOT

pytestmark = pytest.mark.long

ROWS = 30_000
SOURCE = Source(name="thing", schema="public", relation="thing", key=("id",))
ABOUT = {"flag": "things", "epoch": 2}


@pytest.fixture
def url(make_database: Callable[[str], str]) -> str:
    made = make_database("dump")
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("CREATE TABLE thing (id bigint PRIMARY KEY, said text)")
        connection.execute(
            "INSERT INTO thing SELECT n, CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'a\\n\"b\",c' "
            f"ELSE repeat('x', 90) END FROM generate_series(1, {ROWS}) AS n"
        )
    return made


async def test_a_dump_is_what_a_later_reading_finds_until_a_row_changes(url: str, tmp_path: Path) -> None:
    link = await connect(url, application="test")
    try:
        (taken,) = await dump.take(link, [SOURCE], tmp_path / "d", ABOUT)
        assert (taken.rows, taken.size) == (ROWS, (tmp_path / "d" / "thing.csv").stat().st_size)
        assert dump.check(tmp_path / "d")["flag"] == "things"
        assert await dump.read(link, [SOURCE]) == dump.contents(tmp_path / "d") == {"thing": taken.content}
        await link.execute(b"UPDATE thing SET said = '' WHERE id = 4")
        assert await dump.read(link, [SOURCE]) != dump.contents(tmp_path / "d"), "null is not empty"
    finally:
        await link.close()


async def test_a_damaged_or_foreign_folder_is_told_and_left_as_it_is(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    link = await connect(url, application="test")
    try:
        await dump.take(link, [SOURCE], folder, ABOUT)
        content = bytearray((folder / "thing.csv").read_bytes())
        content[-2] ^= 1
        (folder / "thing.csv").write_bytes(content)
        with pytest.raises(DumpFailed, match=r"thing\.csv is not what was dumped"):
            dump.check(folder)
        (folder / "thing.csv").unlink()
        with pytest.raises(DumpFailed, match="cannot be read"):
            dump.check(folder)
        other = tmp_path / "other"
        other.mkdir()
        (other / "letter.txt").write_text("mine")
        with pytest.raises(DumpFailed, match="there is no dump in"):
            await dump.take(link, [SOURCE], other, ABOUT)
        with pytest.raises(DumpFailed, match="holds the dump of flag 'things'"):
            await dump.take(link, [SOURCE], folder, {"flag": "else"})
        assert [each.name for each in other.iterdir()] == ["letter.txt"]
        with pytest.raises(DumpFailed, match=r"cannot be written to /proc/none"):
            await dump.take(link, [SOURCE], Path("/proc/none/d"), ABOUT)
    finally:
        await link.close()


FULL_DISK = """
import asyncio, pathlib, resource, sys
from strangler_proxy.sync import dump
from strangler_proxy.sync.link import connect

async def main():
    link = await connect(sys.argv[1], application="test")
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
    try:
        source = dump.Source(name="thing", schema="public", relation="thing", key=("id",))
        await dump.take(link, [source], pathlib.Path(sys.argv[2]), {"flag": "things"})
    except dump.DumpFailed as error:
        print(error.message)
    finally:
        await link.close()

asyncio.run(main())
"""


async def test_a_disk_that_is_full_leaves_the_earlier_dump_and_nothing_half_there(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    link = await connect(url, application="test")
    try:
        await dump.take(link, [SOURCE], folder, ABOUT)
    finally:
        await link.close()
    before = json.loads((folder / "manifest.json").read_text())
    command = [sys.executable, "-c", FULL_DISK, url, str(folder)]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "the dump cannot be written to" in done.stdout, done.stdout + done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["d"]
    assert dump.check(folder) == before
