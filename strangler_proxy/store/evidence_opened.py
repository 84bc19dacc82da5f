"""Evidence by its URL: `sqlite:///path` (or a plain path), `postgresql://...`, `memory:`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import unquote

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.evidence import EvidenceBook, RuleBook
from strangler_proxy.store.evidence_memory import MemoryEvidence
from strangler_proxy.store.evidence_sqlite import SqliteEvidence

_SCHEME = re.compile(r"([a-z][a-z0-9+]*):")


class Evidence(EvidenceBook, RuleBook, Protocol):
    """Both books in one. An async context manager: leaving it closes what it holds open."""

    async def flags(self) -> Sequence[str]:
        """Flags of which there is evidence, by name; empty stands for a proxy without a table."""
        ...

    async def record(self, flag: str, verb: str, detail: Mapping[str, object], *, by: str, reason: str) -> None:
        """An audit entry about the evidence of a flag. Raises UnknownName."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_evidence(url: str, *, create: bool = True, timeout_s: float = 5.0) -> Evidence:
    """Evidence at a URL. Nothing is opened before it is used; `create=False` never makes a file.

    `memory:` is new each time. Raises DeclarationError for a URL of another kind. `timeout_s` bounds each call.
    """
    scheme = _SCHEME.match(url)
    match scheme.group(1) if scheme else "":
        case "memory":
            return MemoryEvidence()
        case "postgresql" | "postgres":
            from strangler_proxy.store.database import Database
            from strangler_proxy.store.evidence_postgres import PostgresEvidence

            database = Database(url, size=2, timeout_s=timeout_s, application="strangler evidence")
            return PostgresEvidence(database, shut=database.close)
        case "sqlite" if url.startswith("sqlite:///"):
            return SqliteEvidence(Path(unquote(url.removeprefix("sqlite://"))), create=create, timeout_s=timeout_s)
        case "" if url:
            return SqliteEvidence(Path(url), create=create, timeout_s=timeout_s)
    raise DeclarationError(
        [f"evidence {url!r}: expected a file, sqlite:///ABSOLUTE/PATH or postgresql://HOST/DATABASE"]
    )
