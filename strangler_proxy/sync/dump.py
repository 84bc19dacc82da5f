"""A dump of tables that can be trusted later: one CSV file a table, and a manifest with rows and checksums.

It is written under another name beside its own, every byte forced to the disk, read back and compared; only then does
it get its name. Whatever goes wrong before leaves what was there, and nothing that looks like a dump.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from psycopg import AsyncCopy, sql

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.sync.link import Link, within
from strangler_proxy.sync.statements import statement, template

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
STALL_S = 600.0
"""A table that sends nothing for so long ends the dump."""

TELL_S = 10.0
"""How often a table that takes long says how far it is."""

_BLOCK_BYTES = 1 << 20

Tell = Callable[[str], Awaitable[None]]


class DumpFailed(StranglerError):
    """The dump could not be written, or is not what its manifest says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A table to dump, where it is now. `name` is the one it is known by, and the name of its file."""

    name: str
    schema: str
    relation: str
    key: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name."""
        return sql.Identifier(self.schema, self.relation)

    @property
    def regclass(self) -> str:
        """The qualified name as text, for `::regclass`."""
        return ".".join('"' + part.replace('"', '""') + '"' for part in (self.schema, self.relation))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDump:
    """What is in one file; `create` are the statements that make an empty table for it."""

    name: str
    file: str
    rows: int
    size: int
    sha256: str
    columns: tuple[str, ...]
    create: tuple[str, ...]

    @property
    def content(self) -> tuple[int, str]:
        """Equal where the rows are."""
        return self.rows, self.sha256

    def to_json(self) -> dict[str, Any]:
        """Its entry in the manifest."""
        load = f"\\copy {self.name} ({', '.join(self.columns)}) FROM '{self.file}' (FORMAT csv, HEADER true)"
        return {
            "table": self.name,
            "file": self.file,
            "rows": self.rows,
            "bytes": self.size,
            "sha256": self.sha256,
            "columns": list(self.columns),
            "create": list(self.create),
            "load": load,
        }


async def silent(words: str) -> None:
    """Nobody watches."""


async def take(
    link: Link, sources: Sequence[Source], folder: Path, about: Mapping[str, Any], tell: Tell = silent
) -> tuple[TableDump, ...]:
    """Dump tables as of one moment into `folder`; `about` goes into the manifest as it is.

    An earlier dump of the same flag in that place is kept beside it. Raises DumpFailed.
    """
    try:
        await asyncio.to_thread(_check_place, folder, str(about["flag"]))
        partial = folder.with_name(folder.name + ".partial")
        try:
            dumped = await _write(link, sources, partial, about, tell)
            await asyncio.to_thread(check, partial)
            await asyncio.to_thread(_give_name, partial, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
    except OSError as error:
        raise DumpFailed(f"the dump cannot be written to {folder}: {error.strerror or error}") from error
    return dumped


async def read(link: Link, sources: Sequence[Source]) -> dict[str, tuple[int, str]]:
    """Rows and checksum of tables as they are now, by name: what their dump has to hold."""
    async with link.transaction():
        await link.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await link.execute(b"SET LOCAL statement_timeout = 0")
        return {source.name: (await _copied(link, source, None, silent)).content for source in sources}


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Rows and checksum by table, as the manifest has them. Raises DumpFailed."""
    return {str(each["table"]): (int(each["rows"]), str(each["sha256"])) for each in manifest_of(folder)["tables"]}


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a dump. Raises DumpFailed where there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
        if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
            raise DumpFailed(f"{folder / MANIFEST} is not the manifest of a dump")
        return found
    except (OSError, ValueError) as error:
        raise DumpFailed(f"there is no dump in {folder}: {error}") from error


def check(folder: Path) -> dict[str, Any]:
    """Read a dump back, whole, and compare it with its manifest. Raises DumpFailed with the first that differs."""
    manifest = manifest_of(folder)
    for each in manifest["tables"]:
        path = folder / str(each["file"])
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise DumpFailed(f"{path} cannot be read: {error.strerror or error}") from error
        if (size, found) != (each["bytes"], each["sha256"]):
            raise DumpFailed(f"{path} is not what was dumped: {size} bytes, the manifest says {each['bytes']}")
    return manifest


async def _write(
    link: Link, sources: Sequence[Source], folder: Path, about: Mapping[str, Any], tell: Tell
) -> tuple[TableDump, ...]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    dumped = []
    async with link.transaction():
        await link.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await link.execute(b"SET LOCAL statement_timeout = 0")
        await link.execute(b"SET LOCAL idle_in_transaction_session_timeout = 0")  # a disk may take long to sync
        row = await (await link.execute(b"SELECT current_setting('server_version'), current_database()")).fetchone()
        for source in sources:
            with (folder / f"{source.name}.csv").open("xb", buffering=0) as file:
                dumped.append(await _copied(link, source, file, tell))
                await asyncio.to_thread(os.fsync, file.fileno())
            done = dumped[-1]
            await tell(f"{done.name}: {done.rows} rows, {done.size} bytes, sha256 {done.sha256[:12]}")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        **about,
        "dumped_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "server_version": row[0] if row else "",
        "database": row[1] if row else "",
        "tables": [each.to_json() for each in dumped],
    }
    with (folder / MANIFEST).open("x") as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    _sync_folder(folder)
    return tuple(dumped)


async def _copied(link: Link, source: Source, file: BinaryIO | None, tell: Tell) -> TableDump:
    """Read one table whole, in the order of its key; write it to a file if there is one."""
    row = await (await link.execute(statement("retire", "described"), {"table": source.regclass})).fetchone()
    if row is None:
        raise DumpFailed(f"there is no table {source.regclass}")
    columns, create = tuple(row[0]), tuple(row[1])
    query = template(
        "retire",
        "copy_out",
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        table=source.identifier,
        key=sql.SQL(", ").join(map(sql.Identifier, source.key)),
    )
    digest, size, lines, told_at = hashlib.sha256(), 0, -1, time.monotonic()
    async with aclosing(_blocks(link, query)) as blocks:
        async for block, rows in blocks:
            digest.update(block)
            size += len(block)
            lines += rows
            if file is not None:
                await asyncio.to_thread(_write_all, file, block)
            if time.monotonic() - told_at > TELL_S:
                told_at = time.monotonic()
                await tell(f"{source.name}: {lines} rows so far, {size} bytes")
    return TableDump(
        name=source.name,
        file=f"{source.name}.csv",
        rows=lines,
        size=size,
        sha256=digest.hexdigest(),
        columns=columns,
        create=create,
    )


async def _blocks(link: Link, query: sql.Composed) -> AsyncGenerator[tuple[bytes, int]]:
    """Blocks of about a megabyte, and the lines of COPY (the header is one) in each."""
    async with link.cursor() as cursor, cursor.copy(query) as copy:
        while True:
            block, rows = await within(STALL_S, _block(copy), link)
            if not rows:
                return
            yield block, rows


async def _block(copy: AsyncCopy) -> tuple[bytes, int]:
    block, rows = bytearray(), 0
    while len(block) < _BLOCK_BYTES and (data := await copy.read()):
        block += data
        rows += 1
    return bytes(block), rows


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _check_place(folder: Path, flag: str) -> None:
    """The place has to be free, or to hold an earlier dump of this flag."""
    if folder.exists() and any(folder.iterdir()) and (found := manifest_of(folder).get("flag")) != flag:
        raise DumpFailed(f"{folder} holds the dump of flag {found!r}: give another --dump-dir")


def _give_name(partial: Path, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        stamp = str(manifest_of(folder).get("dumped_at", "")).translate({ord(each): None for each in "-:"})
        before = folder.with_name(f"{folder.name}.before-{stamp}")
        while before.exists():
            before = before.with_name(before.name + "-again")
        folder.rename(before)
    partial.rename(folder)  # replaces an empty folder
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
