"""EvidenceBook and RuleBook in one SQLite file, for a proxy without a control database.

Several processes may write to one file at once. See `sqlite_file` for how it is opened and waited for.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.evidence import GONE_S, Bounds
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.tally import Tally
from strangler_proxy.store.evidence_rows import (
    FAR,
    MERGES_AT_ONCE,
    PRUNED_AT_ONCE,
    RULE_ADDED,
    RULE_EXPIRED,
    SAMPLES_AT_ONCE,
    STRATA_AT_ONCE,
    batches,
    check_rule,
    digest,
    gone_together,
    merged_values,
    packed,
    path_values,
    rule_of,
    rule_text,
    sample_values,
    samples_of,
    stratum_values,
    tallies_of,
    unknown_rule,
    writer_values,
)
from strangler_proxy.store.queries import queries
from strangler_proxy.store.sqlite_file import SqliteFile

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class SqliteEvidence:
    """Evidence in the file at `path`, made (mode 0600) when it is first used unless `create` is False.

    `timeout_s` bounds each call, waiting for other writers included; past it StoreUnavailable is raised. `clock` gives
    Unix seconds. Close it, so that the file is whole without its `-wal` beside it.
    """

    def __init__(
        self, path: Path, *, timeout_s: float = 5.0, create: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._clock = clock
        self._file = SqliteFile(path, timeout_s=timeout_s, create=create)

    async def __aenter__(self) -> SqliteEvidence:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the file; whoever closes it last folds the `-wal` file into it."""
        await self._file.close()

    async def publish(self, writer: str, tally: Tally) -> None:
        """In transactions of 200 strata, the totals in each."""
        values = writer_values(writer, tally)
        strata = [stratum_values(key, one) for key, one in tally.strata.items()]
        for batch in batches(strata, STRATA_AT_ONCE) or [[]]:
            await self._file.write(_publish({**values, "published": self._clock()}, batch))

    async def keep(self, samples: Sequence[Sample], *, instead_of: Sequence[str] = ()) -> None:
        """In transactions of 100 samples; what is replaced goes with the first."""
        for place, batch in enumerate(batches(samples, SAMPLES_AT_ONCE) or [[]]):
            await self._file.write(_keep(batch, () if place else tuple(instead_of)))

    async def tallies(self, flag: str, *, since: dt.datetime | None = None) -> Sequence[Tally]:
        """Merged on reading."""
        values = {"flag": flag, "since": 0.0 if since is None else since.timestamp()}

        def work(connection: sqlite3.Connection) -> list[Tally]:
            writers = connection.execute(_sql("writers"), values).fetchall()
            return tallies_of(flag, writers, connection.execute(_sql("strata"), values).fetchall())

        return await self._file.read(work)

    async def samples(
        self,
        flag: str,
        *,
        limit: int,
        path: str = "",
        sample_id: str = "",
        before: tuple[dt.datetime, str] | None = None,
    ) -> Sequence[Sample]:
        """By the index of paths, or of ids."""
        name = "sample" if sample_id else "samples_of_path" if path else "samples"
        at, after = before or (FAR, "")
        values: dict[str, object] = {
            "flag": flag,
            "limit": limit,
            "path": digest(path),
            "id": sample_id,
            "at": at.timestamp(),
            "after": after,
        }

        def work(connection: sqlite3.Connection) -> list[Sample]:
            return samples_of(row["document"] for row in connection.execute(_sql(name), values))

        found = await self._file.read(work)
        return [each for each in found if not path or any(one.path == path for one in each.differences)]

    async def prune(self, flag: str, bounds: Bounds, now: dt.datetime) -> int:
        """In transactions of 2000 samples."""
        oldest = (now - dt.timedelta(days=bounds.days)).timestamp()
        values = {
            "flag": flag,
            "oldest": oldest,
            "samples": bounds.samples,
            "sample_bytes": bounds.sample_bytes,
            "batch": PRUNED_AT_ONCE,
        }
        await self._file.write(lambda connection: connection.execute(_sql("prune_writers"), values).rowcount)
        for _ in range(MERGES_AT_ONCE):
            if not await self._file.write(_merge(flag, now.timestamp() - GONE_S)):
                break
        gone = 0
        while True:
            now_gone = await self._file.write(
                lambda connection: connection.execute(_sql("prune_samples"), values).rowcount
            )
            gone += now_gone
            if now_gone < PRUNED_AT_ONCE:
                return gone

    async def flags(self) -> Sequence[str]:
        """Flags of which there is evidence, by name (empty: a proxy without a table)."""
        return await self._file.read(lambda connection: [row["flag"] for row in connection.execute(_sql("flags"))])

    async def rules(self, flag: str) -> Sequence[Rule]:
        """Those added by hand, by id: a file knows no flags and no declared rules."""
        return await self._file.read(lambda connection: list(_rules(connection, flag).values()))

    async def add_rule(self, flag: str, rule: Rule, *, by: str) -> None:
        """The change is noted in the file (table `change_log`)."""

        def work(connection: sqlite3.Connection) -> None:
            check_rule(flag, rule, _rules(connection, flag).values())
            self._change(connection, flag, None, rule, by=by, reason=rule.reason)

        await self._file.write(work)

    async def expire_rule(self, flag: str, rule_id: str, on: dt.date, *, by: str, reason: str) -> None:
        """The change is noted in the file (table `change_log`)."""

        def work(connection: sqlite3.Connection) -> None:
            known = _rules(connection, flag).get(rule_id)
            if known is None:
                raise unknown_rule(flag, rule_id)
            self._change(connection, flag, known, dataclasses.replace(known, expires_on=on), by=by, reason=reason)

        await self._file.write(work)

    async def record(self, flag: str, verb: str, detail: Mapping[str, object], *, by: str, reason: str) -> None:
        """Noted in the file (table `change_log`)."""
        after = packed(dict(detail))
        await self._file.write(
            lambda connection: self._log(connection, flag, verb, before="{}", after=after, by=by, reason=reason)
        )

    def _change(
        self, connection: sqlite3.Connection, flag: str, before: Rule | None, after: Rule, *, by: str, reason: str
    ) -> None:
        connection.execute(_sql("rule"), {"flag": flag, "id": after.id, "document": rule_text(after)})
        verb = RULE_ADDED if before is None else RULE_EXPIRED
        old = "{}" if before is None else rule_text(before)
        self._log(connection, flag, verb, before=old, after=rule_text(after), by=by, reason=reason)

    def _log(
        self, connection: sqlite3.Connection, flag: str, verb: str, *, before: str, after: str, by: str, reason: str
    ) -> None:
        entry = {"at": self._clock(), "actor": by, "verb": verb, "flag": flag, "reason": reason}
        connection.execute(_sql("change_log"), entry | {"before": before, "after": after})


def _sql(name: str) -> str:
    return queries("evidence_sqlite")[name].decode()


def _publish(values: dict[str, Any], strata: Sequence[dict[str, Any]]) -> Work[None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute(_sql("publish"), values)
        number = connection.execute(_sql("number"), values).fetchone()["number"]
        connection.executemany(_sql("stratum"), [{**each, "number": number} for each in strata])

    return work


def _merge(flag: str, before: float) -> Work[bool]:
    def work(connection: sqlite3.Connection) -> bool:
        rows = gone_together(connection.execute(_sql("gone_writers"), {"flag": flag, "before": before}).fetchall())
        if not rows:
            return False
        numbers = [{"number": row["number"]} for row in rows]
        strata = [each for number in numbers for each in connection.execute(_sql("strata_of"), number)]
        try:
            totals, merged = merged_values(flag, rows, strata)
        except DeclarationError:  # of another form: it stays as it is
            return False
        connection.executemany(_sql("forget_writer"), numbers)
        _publish(totals, merged)(connection)
        return True

    return work


def _keep(samples: Sequence[Sample], gone: Sequence[str]) -> Work[None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.executemany(_sql("forget"), [{"id": each} for each in (*gone, *(one.id for one in samples))])
        by_id = {one.id: one for one in samples}
        for sample in by_id.values():
            values = sample_values(sample)
            connection.execute(_sql("keep"), {**values, "at": sample.at.timestamp()})
            connection.executemany(_sql("path"), path_values(sample))

    return work


def _rules(connection: sqlite3.Connection, flag: str) -> dict[str, Rule]:
    return {row["id"]: rule_of(row["document"]) for row in connection.execute(_sql("rules"), {"flag": flag})}
