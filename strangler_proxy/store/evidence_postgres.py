"""EvidenceBook and RuleBook on the control database. Rules are changed under the lock of all changes, and audited."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.evidence import GONE_S, Bounds
from strangler_proxy.core.rule_form import rule_document
from strangler_proxy.core.rules import Rule
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.tally import Tally
from strangler_proxy.store.change import Change
from strangler_proxy.store.database import Connection, Database, Row
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
    path_values,
    readable,
    rule_of,
    rule_text,
    sample_values,
    samples_of,
    stratum_values,
    tallies_of,
    unknown_rule,
    writer_values,
)
from strangler_proxy.store.judging_documents import judging_from
from strangler_proxy.store.queries import queries
from strangler_proxy.store.switching import unknown_flag

Work = Callable[[Connection], Awaitable[None]]


class PostgresEvidence:
    """Evidence in the schema `strangler`. Each transaction has the database's time-out; `shut` is called on leaving."""

    def __init__(self, database: Database, *, shut: Callable[[], Awaitable[None]] | None = None) -> None:
        self._database = database
        self._shut = shut

    async def __aenter__(self) -> PostgresEvidence:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shut is not None:
            await self._shut()

    async def publish(self, writer: str, tally: Tally) -> None:
        """In transactions of 200 strata, the totals in each."""
        values = writer_values(writer, tally)
        strata = [stratum_values(key, one) for key, one in tally.strata.items()]
        for batch in batches(strata, STRATA_AT_ONCE) or [[]]:
            await self._database.run(_publish(values, batch))

    async def keep(self, samples: Sequence[Sample], *, instead_of: Sequence[str] = ()) -> None:
        """In transactions of 100 samples; what is replaced goes with the first."""
        for place, batch in enumerate(batches(samples, SAMPLES_AT_ONCE) or [[]]):
            await self._database.run(_keep(batch, () if place else instead_of))

    async def tallies(self, flag: str, *, since: dt.datetime | None = None) -> Sequence[Tally]:
        """Merged on reading, off the event loop."""

        async def work(connection: Connection) -> tuple[list[Row], list[Row]]:
            await connection.execute(queries("table")["snapshot"])
            writers = await _rows(connection, "writers", {"flag": flag, "since": since})
            numbers = [row["number"] for row in writers]
            return writers, await _rows(connection, "strata", {"numbers": numbers})

        writers, strata = await self._database.run(work)
        return await asyncio.to_thread(tallies_of, flag, writers, strata)

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
        values = {"flag": flag, "limit": limit, "path": digest(path), "id": sample_id, "at": at, "after": after}

        async def work(connection: Connection) -> list[str]:
            return [row["document"] for row in await _rows(connection, name, values)]

        found = await asyncio.to_thread(samples_of, await self._database.run(work))
        return [each for each in found if not path or any(one.path == path for one in each.differences)]

    async def prune(self, flag: str, bounds: Bounds, now: dt.datetime) -> int:
        """In transactions of 2000 samples; nothing goes while another process prunes the same flag."""
        values = {
            "flag": flag,
            "oldest": now - dt.timedelta(days=bounds.days),
            "samples": bounds.samples,
            "sample_bytes": bounds.sample_bytes,
            "batch": PRUNED_AT_ONCE,
        }

        async def work(connection: Connection) -> int:
            (alone,) = await _rows(connection, "prune_alone", values)
            if not alone["mine"]:
                return 0
            await connection.execute(queries("evidence")["prune_writers"], values)
            for _ in range(MERGES_AT_ONCE):
                if not await _merge(connection, flag, now - dt.timedelta(seconds=GONE_S)):
                    break
            return (await connection.execute(queries("evidence")["prune_samples"], values)).rowcount

        gone = 0
        while True:
            now_gone = await self._database.run(work)
            gone += now_gone
            if now_gone < PRUNED_AT_ONCE:
                return gone

    async def flags(self) -> Sequence[str]:
        """Flags of which there is evidence, by name."""

        async def work(connection: Connection) -> list[str]:
            return [row["flag"] for row in await _rows(connection, "flags", {})]

        return await self._database.run(work)

    async def rules(self, flag: str) -> Sequence[Rule]:
        """Declared ones first, as the file orders them, then those added by hand, by id. Raises UnknownName."""

        async def work(connection: Connection) -> list[Rule]:
            added = await _added(connection, flag)
            return [*await _declared(connection, flag), *added.values()]

        return await self._database.run(work)

    async def add_rule(self, flag: str, rule: Rule, *, by: str) -> None:
        """Audited at the current revision: proxies have nothing to load."""

        async def work(connection: Connection) -> None:
            change = await Change.begin(connection, None)
            known = [*await _declared(connection, flag), *(await _added(connection, flag)).values()]
            check_rule(flag, rule, known)
            await _change(change, flag, None, rule, by=by, reason=rule.reason)

        await self._database.run(work)

    async def expire_rule(self, flag: str, rule_id: str, on: dt.date, *, by: str, reason: str) -> None:
        """Audited at the current revision."""

        async def work(connection: Connection) -> None:
            change = await Change.begin(connection, None)
            await _declared(connection, flag)
            known = (await _added(connection, flag)).get(rule_id)
            if known is None:
                raise unknown_rule(flag, rule_id)
            await _change(change, flag, known, dataclasses.replace(known, expires_on=on), by=by, reason=reason)

        await self._database.run(work)

    async def record(self, flag: str, verb: str, detail: Mapping[str, object], *, by: str, reason: str) -> None:
        """An audit entry at the current revision. Raises UnknownName."""

        async def work(connection: Connection) -> None:
            change = await Change.begin(connection, None)
            await _declared(connection, flag)
            await change.record(
                actor=by, verb=verb, subject=flag, reason=reason, before={}, after=dict(detail),
                revision=change.revision,
            )  # fmt: skip
            await change.close(change.revision)

        await self._database.run(work)


async def _merge(connection: Connection, flag: str, before: dt.datetime) -> bool:
    """Put tallies of some writers that have ended together; False where there are none."""
    rows = gone_together(await _rows(connection, "gone_writers", {"flag": flag, "before": before}))
    if not rows:
        return False
    numbers = {"numbers": [row["number"] for row in rows]}
    try:
        totals, strata = merged_values(flag, rows, await _rows(connection, "strata", numbers))
    except DeclarationError:  # of another form: it stays as it is
        return False
    await connection.execute(queries("evidence")["forget_writers"], numbers)
    await _publish(totals, strata, "merged")(connection)
    return True


def _publish(values: Mapping[str, object], strata: Sequence[Mapping[str, object]], query: str = "publish") -> Work:
    async def work(connection: Connection) -> None:
        (row,) = await _rows(connection, query, values)
        if strata:
            async with connection.cursor() as cursor:
                rows = [{**each, "number": row["number"]} for each in strata]
                await cursor.executemany(queries("evidence")["stratum"], rows)

    return work


def _keep(samples: Sequence[Sample], gone: Sequence[str]) -> Work:
    by_id = {each.id: each for each in samples}

    async def work(connection: Connection) -> None:
        await connection.execute(queries("evidence")["forget"], {"ids": [*gone, *by_id]})
        if by_id:
            async with connection.cursor() as cursor:
                kept = [sample_values(each) for each in by_id.values()]
                await cursor.executemany(queries("evidence")["keep"], kept)
                paths = [values for each in by_id.values() for values in path_values(each)]
                await cursor.executemany(queries("evidence")["path"], paths)

    return work


async def _declared(connection: Connection, flag: str) -> list[Rule]:
    found = await _rows(connection, "declared", {"flag": flag})
    if not found and not flag:
        return []  # a proxy without a table has evidence of no flag, and nobody declares any
    if not found:
        raise unknown_flag(flag)
    declared = readable(f"what flag {flag!r} declares", lambda: judging_from(json.loads(found[0]["judging"])))
    return list(declared.rules)


async def _added(connection: Connection, flag: str) -> dict[str, Rule]:
    return {row["id"]: rule_of(row["document"]) for row in await _rows(connection, "rules", {"flag": flag})}


async def _change(change: Change, flag: str, before: Rule | None, after: Rule, *, by: str, reason: str) -> None:
    values = {"flag": flag, "id": after.id, "document": rule_text(after)}
    await change.connection.execute(queries("evidence")["rule"], values)
    await change.record(
        actor=by,
        verb=RULE_ADDED if before is None else RULE_EXPIRED,
        subject=flag,
        reason=reason,
        before={} if before is None else rule_document(before),
        after=rule_document(after),
        revision=change.revision,
    )
    await change.close(change.revision)


async def _rows(connection: Connection, name: str, values: Mapping[str, object]) -> list[Row]:
    return list(await (await connection.execute(queries("evidence")[name], values)).fetchall())
