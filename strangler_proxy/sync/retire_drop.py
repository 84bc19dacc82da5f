"""The last step, and the only one without a way back: drop the tables that were set aside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import structlog

from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import Operation
from strangler_proxy.core.retire import Condition, condition_from, unmet
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import dump, retire_record
from strangler_proxy.sync.census import seen_since
from strangler_proxy.sync.cutover import Outcome, Step
from strangler_proxy.sync.ends import READ_TIMEOUT_S
from strangler_proxy.sync.link import Link, within
from strangler_proxy.sync.retire import DUMP_WITHIN_S, LOCKS_WITHIN_S, one_end
from strangler_proxy.sync.retire_record import Retirement
from strangler_proxy.sync.retire_tables import dependants, drop, touched

log = structlog.get_logger()


async def drop_tables(manifest: Manifest, urls: Mapping[Origin, str], operation: Operation, *, step: Step) -> Outcome:
    """Drop the old tables of a retired flag. Refused with every condition that is not met; idempotent.

    Arguments: `conditions` (JSON), `accept_touches` (reads and refused writes since are known and meant), `dry_run`.
    """
    flag = manifest.flag
    async with one_end(urls, Origin.MONOLITH, flag) as old:
        known = await within(READ_TIMEOUT_S, retire_record.load(old, flag), old)
        if known is not None and known.status == "dropped":
            return Outcome(status="done", detail=f"the old tables were dropped already; their dump is in {known.dump}")
        found = [condition_from(each) for each in json.loads(operation.args.get("conditions") or "[]")]
        found += await _conditions(flag, known, old, accept=operation.args.get("accept_touches") == "yes")
        for each in found:
            await step("met" if each.met else "not met", str(each))
        if missing := unmet(found):
            return Outcome(status="refused", detail="\n".join(missing))
        assert known is not None, "without a record a condition is not met"
        if operation.args.get("dry_run") == "yes":
            for table in known.tables:
                await step("would", f"drop view {table.view_regclass} and table {table.kept_regclass}")
            return Outcome(status="done", detail="every condition is met; nothing was done")
        await within(LOCKS_WITHIN_S, drop(old, known), old)
    await step("drop", f"{len(known.tables)} tables and their views")
    log.warning("sync.tables_dropped", flag=flag, tables=len(known.tables), dump=known.dump, by=operation.by)
    return Outcome(status="done", detail=f"{len(known.tables)} tables are dropped; their rows are in {known.dump}")


async def _conditions(flag: str, known: Retirement | None, old: Link, *, accept: bool) -> list[Condition]:
    if known is None or known.status != "retired":
        state = "was never retired" if known is None else f"is {known.status}"
        command = f"strangler retire {flag} --dry-run"
        return [Condition(met=False, says=f"{flag} {state}: there is nothing to drop", command=command)]
    if known.keep_copy:
        return [Condition(met=False, says=f"the copy of {flag} is kept for good (`keep_copy`), and in step")]
    return [
        await _untouched(flag, known, old, accept=accept),
        await _dump_holds(flag, known, old),
        *await _nothing_stands_on_them(known, old),
    ]


async def _untouched(flag: str, known: Retirement, old: Link, *, accept: bool) -> Condition:
    reads, refused, restarted = await within(READ_TIMEOUT_S, touched(old, known), old)
    places = await within(READ_TIMEOUT_S, seen_since(old, flag, known.retired_at), old)
    since = "" if known.retired_at is None else f" since {known.retired_at:%Y-%m-%d %H:%M} UTC"
    says = f"{reads} statements read the old tables and {refused} writes were refused{since}"
    if places:
        says += "; seen by the census: " + ", ".join(sorted({each.place or each.application for each in places})[:5])
    if restarted:
        says += "; the server was started since then, which may have lost some of that count"
    return Condition(
        met=accept or not (reads or refused or places),
        says=says,
        command=f"strangler sync census {flag}; if they may fail: --accept-touches",
    )


async def _dump_holds(flag: str, known: Retirement, old: Link) -> Condition:
    """Every file is there with its checksum, and the tables hold what the files hold."""
    folder = Path(known.dump)
    command = f"copy the dump back to {folder} on the worker's host, or strangler retire {flag} --undo"
    try:
        await asyncio.to_thread(dump.check, folder)
        dumped = dump.contents(folder)
    except dump.DumpFailed as error:
        return Condition(met=False, says=error.message, command=command)
    now = await within(DUMP_WITHIN_S, dump.read(old, [table.source for table in known.tables]), old)
    differing = sorted(name for name, content in now.items() if dumped.get(name) != content)
    if differing:
        says = f"the dump in {folder} does not hold what {', '.join(differing)} holds"
        return Condition(met=False, says=says, command=command)
    rows = sum(content[0] for content in now.values())
    return Condition(met=True, says=f"the dump in {folder} holds all {rows} rows, checksums are right")


async def _nothing_stands_on_them(known: Retirement, old: Link) -> list[Condition]:
    views = await within(READ_TIMEOUT_S, dependants(old, known.tables), old)
    return [
        Condition(met=False, says=f"view {each} reads an old table", command=f"psql -c 'DROP VIEW {each}'")
        for each in views
    ]
