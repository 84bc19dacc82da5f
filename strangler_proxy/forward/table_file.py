"""The routing table on disk, so that a proxy starts and serves with the control database away.

One line with version and signature, then the table as JSON. Written to a new file that takes the old one's name; the
one before is kept and read where the newest is torn, tampered with or does not compile. What fences taught is in the
table that is saved, so that a proxy does not forget a newer owner by starting again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.signing import Signer
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.documents import table_document, table_from

_MAGIC: Final = b"strangler-table 1 "
_PURPOSE: Final = "table-file"
_FRESH: Final = ".new"
_LOCK_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was on disk: a table or None, and a sentence for each file that could not be used."""

    table: RoutingTable | None
    problems: tuple[str, ...] = ()


class TableFile:
    """`table.json` in the state folder, and `table.previous.json`, the one before.

    Proxies of one host may share the folder. Without a signer the files carry a checksum only: torn ones are found,
    tampered ones are not. A file of the other kind is not read.
    """

    def __init__(self, state_dir: Path, signer: Signer | None) -> None:
        self.path = state_dir / "table.json"
        self.previous = state_dir / "table.previous.json"
        self._signer = signer

    def save(self, table: RoutingTable) -> bool:
        """Keep a table; False where the same one is there already. Blocks on the disk; raises OSError."""
        body = json.dumps(table_document(table), separators=(",", ":"), sort_keys=True).encode()
        content = _MAGIC + self._seal(body).encode() + b"\n" + body
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path.with_suffix(".lock")):
            if _read(self.path) == content:
                return False
            fresh = self.path.with_suffix(_FRESH)
            _write_through(fresh, content)
            if self._usable(self.path):
                link = self.previous.with_suffix(_FRESH)
                link.unlink(missing_ok=True)
                link.hardlink_to(self.path)
                link.replace(self.previous)
            fresh.replace(self.path)
            _sync_folder(self.path.parent)
        return True

    def load(self) -> Found:
        """The newest table that can be used. Never raises for what the files hold."""
        problems: list[str] = []
        for path in (self.path, self.previous):
            try:
                return Found(table=self._table(path), problems=tuple(problems))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, DeclarationError) as error:
                problems.append(f"{path.name}: {error}")
        return Found(table=None, problems=tuple(problems))

    def _table(self, path: Path) -> RoutingTable:
        head, _, body = path.read_bytes().partition(b"\n")
        if not head.startswith(_MAGIC):
            raise ValueError("not a table file, or torn")
        if not self._sealed(body, head.removeprefix(_MAGIC).decode("ascii", "replace")):
            raise ValueError("torn, or its signature is not ours")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        return table_from(document)

    def _usable(self, path: Path) -> bool:
        try:
            self._table(path)
        except (OSError, ValueError, DeclarationError):
            return False
        return True

    def _seal(self, body: bytes) -> str:
        return hashlib.sha256(body).hexdigest() if self._signer is None else self._signer.sign(_PURPOSE, body)

    def _sealed(self, body: bytes, seal: str) -> bool:
        return seal == self._seal(body) if self._signer is None else self._signer.verify(_PURPOSE, body, seal)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write_through(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        written = 0
        while written < len(content):
            written += os.write(file, content[written:])
        os.fsync(file)
    finally:
        os.close(file)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Other proxies of this host wait; one that is stopped in between costs the others their save, not a hang."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_S
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(file)
