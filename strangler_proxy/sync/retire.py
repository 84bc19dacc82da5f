"""Retiring a flag, as an operation: verify, dump, route, stop, set aside, settle, drop triggers.

Each step is noted in the monolith's database when it is complete, and can be done twice: a worker that is killed
anywhere is followed by another one that goes on where it was. Nothing is deleted here (see `retire_drop.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Operation, SyncBoard
from strangler_proxy.core.retire import Condition, condition_from, planned, steps_of, unmet
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.sync import dump, retire_record
from strangler_proxy.sync.cutover import Outcome, Step
from strangler_proxy.sync.dump import Source
from strangler_proxy.sync.ends import READ_TIMEOUT_S, both_ends
from strangler_proxy.sync.layout import Layout, read_one_side
from strangler_proxy.sync.link import Link, close, connect, within
from strangler_proxy.sync.retire_conditions import conditions_of_data
from strangler_proxy.sync.retire_record import Retirement
from strangler_proxy.sync.retire_tables import drop_triggers, foreign_keys, set_aside, with_tries
from strangler_proxy.sync.statements import statement
from strangler_proxy.sync.verify_operation import verify_now

ACKNOWLEDGED_WITHIN_S = 30.0
LOCKS_WITHIN_S = 120.0
DUMP_WITHIN_S = 24 * 3600.0
_SILENT_S = 1.5
_SILENT_WITHIN_S = 20.0
_POLL_S = 0.1
_FORGET = ("forget_dirty", "forget_progress", "forget_applied", "forget_touched", "forget_stuck")

log = structlog.get_logger()


class Stopped(Exception):
    """A step that cannot be done now; what was done stays, and the next try goes on from there."""

    def __init__(self, detail: str, *, status: str = "failed") -> None:
        super().__init__(detail)
        self.outcome = Outcome(status=status, detail=detail)


@asynccontextmanager
async def one_end(urls: Mapping[Origin, str], origin: Origin, flag: str) -> AsyncGenerator[Link]:
    """A connection to one side. Raises DataUnavailable."""
    link = await connect(urls[origin], application=f"strangler retire {flag}"[:63])
    try:
        yield link
    finally:
        await close(link)


async def retire(
    manifest: Manifest,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    board: SyncBoard,
    operation: Operation,
    *,
    step: Step,
) -> Outcome:
    """Retire a flag, or go on with it. Refused with every condition that is not met; then nothing was changed.

    Arguments: `conditions` (JSON, what the control plane found), `after_days`, `without_census`, `dump`, `dry_run`.
    Raises DataUnavailable, DumpFailed: the next try goes on.
    """
    async with one_end(urls, Origin.MONOLITH, manifest.flag) as old:
        known = await within(READ_TIMEOUT_S, retire_record.load(old, manifest.flag), old)
    folder = dump_folder(operation)
    if known is not None and known.status in ("retired", "dropped"):
        return Outcome(status="done", detail=f"{manifest.flag} is retired already")
    if known is not None and known.status == "undoing":
        return Outcome(status="refused", detail=f"it is being undone: strangler retire {manifest.flag} --undo")
    if known is None or not known.began:
        refused = await _begin(manifest, urls, flags, operation, folder, step=step)
        if refused is not None:
            return refused
    elif operation.args.get("dry_run") == "yes":
        return Outcome(status="done", detail=f"it was begun, and would go on after the step {known.step!r}")
    work = Retiring(manifest, urls, flags, board, operation, folder, step=step)
    try:
        return await work.run()
    except Stopped as stopped:
        return stopped.outcome


def dump_folder(operation: Operation) -> Path:
    """Where the dump goes on this host: as asked, else below `STRANGLER_VAR` (else `var`)."""
    asked = operation.args.get("dump") or ""
    root = Path(os.environ.get("STRANGLER_VAR") or "var")
    return (Path(asked) if asked else root / "retired" / operation.flag).absolute()


async def _begin(
    manifest: Manifest,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    operation: Operation,
    folder: Path,
    *,
    step: Step,
) -> Outcome | None:
    """Look at all conditions; write the record if they are met. The end, where there is nothing to go on with."""
    flag, _ = await flags.flag(manifest.flag)
    given = json.loads(operation.args.get("conditions") or "[]")
    found: list[Condition] = [condition_from(each) for each in given]
    days = float(operation.args.get("after_days") or manifest.retire_after_days)
    waived = operation.args.get("without_census") == "yes"
    async with both_ends(manifest, urls, f"strangler retire {manifest.flag}"[:63]) as both:
        looked = conditions_of_data(both, flag, after_days=days, without_census=waived)
        found += await within(READ_TIMEOUT_S, looked, *both.all)
        old = both.links[Origin.MONOLITH]
        for each in found:
            await step("met" if each.met else "not met", str(each))
        if operation.args.get("dry_run") == "yes":
            await _tell_plan(manifest, old, both.layout, folder, step)
        if missing := unmet(found):
            return Outcome(status="refused", detail="\n".join(missing))
        if operation.args.get("dry_run") == "yes":
            return Outcome(status="done", detail="every condition is met; nothing was done")
        await within(READ_TIMEOUT_S, retire_record.prepare(old), old)
        record = retire_record.begin(old, operation, epoch=flag.owner_epoch, keep_copy=manifest.keep_copy)
        await within(READ_TIMEOUT_S, record, old)
    return None


async def _tell_plan(manifest: Manifest, old: Link, layout: Layout, folder: Path, step: Step) -> None:
    for name, says in planned(keep_copy=manifest.keep_copy, dump=str(folder)):
        await step("would", f"{name}: {says}")
    if not manifest.keep_copy:
        for key, _ in await within(READ_TIMEOUT_S, foreign_keys(old, layout), old):
            await step("would", f"drop foreign key {key.name} of {key.table}: {key.definition}")


class Retiring:
    """The steps of one flag, from the first that is not complete."""

    def __init__(
        self,
        manifest: Manifest,
        urls: Mapping[Origin, str],
        flags: FlagBoard,
        board: SyncBoard,
        operation: Operation,
        folder: Path,
        *,
        step: Step,
    ) -> None:
        self._manifest = manifest
        self._urls = urls
        self._flags = flags
        self._board = board
        self._operation = operation
        self._folder = folder
        self._step = step

    async def run(self) -> Outcome:
        """Do what is left. Raises Stopped."""
        steps: dict[str, Callable[[], Awaitable[str]]] = {
            "verify": self._verify,
            "dump": self._dump,
            "route": self._route,
            "stop": self._stop,
            "set aside": self._set_aside,
            "settle": self._settle,
            "triggers": self._triggers,
        }
        names = steps_of(keep_copy=self._manifest.keep_copy)
        known = await self._known()
        if known.step in names and known.step != "verify":
            names = names[names.index(known.step) + 1 :]
            await self._step("resume", f"the step {known.step!r} was complete")
        for name in names:
            says = await steps[name]()
            async with self._old() as old:
                await within(READ_TIMEOUT_S, retire_record.advance(old, self._manifest.flag, name), old)
            await self._step(name, says)
        async with self._old() as old:
            await within(READ_TIMEOUT_S, retire_record.set_status(old, self._manifest.flag, "retired"), old)
        return await self._done()

    async def _done(self) -> Outcome:
        known = await self._known()
        flag = self._manifest.flag
        log.warning("sync.flag_retired", flag=flag, epoch=known.epoch, dump=known.dump, by=self._operation.by)
        if known.keep_copy:
            return Outcome(status="done", detail=f"retired at epoch={known.epoch}; the copy stays and is kept in step")
        await self._step("dump folder", known.dump)
        return Outcome(status="done", detail=f"retired at epoch={known.epoch}; the old tables can be read, not written")

    async def _verify(self) -> str:
        found = await verify_now(self._manifest, self._urls, self._board, repair=False, step=self._step)
        if found.status != "done":
            async with self._old() as old:
                await within(READ_TIMEOUT_S, retire_record.forget(old, self._manifest.flag), old)
            raise Stopped(f"nothing was changed: {found.detail}")
        return found.detail

    async def _dump(self) -> str:
        async with self._old() as old:
            layout = await within(READ_TIMEOUT_S, read_one_side(self._manifest, old, Origin.MONOLITH), old)
            keys = await within(READ_TIMEOUT_S, foreign_keys(old, layout), old)
            sources = [_source(layout, index) for index in range(len(layout.tables))]
            return await self._take(old, sources, [key.add() for key, _ in keys])

    async def _take(self, old: Link, sources: list[Source], statements: list[str]) -> str:
        about: dict[str, Any] = {
            "flag": self._manifest.flag,
            "operation": self._operation.id,
            "epoch": (await self._known()).epoch,
            "by": self._operation.by,
            "reason": self._operation.reason,
            "foreign_keys": statements,
        }
        began = time.monotonic()
        work = dump.take(old, sources, self._folder, about, lambda words: self._step("dumped", words))
        taken = await within(DUMP_WITHIN_S, work, old)
        await within(READ_TIMEOUT_S, retire_record.note_dump(old, self._manifest.flag, str(self._folder)), old)
        rows, size = sum(each.rows for each in taken), sum(each.size for each in taken)
        return f"{rows} rows, {size} bytes in {time.monotonic() - began:.1f} s, read back: {self._folder}"

    async def _route(self) -> str:
        """The stage goes first, while the copy is still in step: nobody is ever sent to rows that stand still."""
        flag = self._manifest.flag
        known = await self._known()
        await self._flags.release(
            flag,
            Ownership(owner=Origin.EXTRACTED, epoch=known.epoch),
            stage=Stage.RETIRED.value,
            weight=0,
            by=self._operation.by,
            reason=self._operation.reason or "retired",
        )
        _, revision = await self._flags.flag(flag)
        began = time.monotonic()
        while late := [each.proxy_id for each in await self._flags.live_proxies() if each.revision < revision]:
            if time.monotonic() - began > ACKNOWLEDGED_WITHIN_S:
                raise Stopped(
                    f"{', '.join(late)} did not take revision {revision} within {ACKNOWLEDGED_WITHIN_S:g} s: mend or "
                    f"end that proxy, then strangler retire {flag} --confirm {flag} goes on"
                )
            await asyncio.sleep(_POLL_S)
        return f"retired at revision {revision}, every live proxy has it"

    async def _stop(self) -> str:
        """No stream any more: one that was told to stop publishes nothing for a while."""
        flag = self._manifest.flag
        await self._board.want(flag, False)
        until = time.monotonic() + _SILENT_WITHIN_S
        while (known := await self._board.status(flag)) is not None and known[1] < _SILENT_S:
            if time.monotonic() > until:
                raise Stopped(f"a worker goes on with the stream: strangler sync status {flag}")
            await asyncio.sleep(_POLL_S)
        return "the reverse stream has ended"

    async def _set_aside(self) -> str:
        known = await self._known()
        if not known.tables:
            async with self._old() as old:
                layout = await within(READ_TIMEOUT_S, read_one_side(self._manifest, old, Origin.MONOLITH), old)
                await within(LOCKS_WITHIN_S, set_aside(old, layout), old)
            known = await self._known()
        return f"{len(known.tables)} tables, {len(known.foreign_keys)} foreign keys dropped and noted"

    async def _settle(self) -> str:
        """What was written between the dump and the setting aside is in the tables only: then they are dumped again."""
        known = await self._known()
        sources = [table.source for table in known.tables]
        async with self._old() as old:
            now = await within(DUMP_WITHIN_S, dump.read(old, sources), old)
            if now == await asyncio.to_thread(_contents, Path(known.dump)):
                return "the dump holds what the tables hold"
            self._folder = Path(known.dump) if known.dump else self._folder
            return "dumped again: " + await self._take(old, sources, [key.add() for key in known.foreign_keys])

    async def _triggers(self) -> str:
        """Capture and fence of the new owner, and what both sides keep of the stream."""
        async with one_end(self._urls, Origin.EXTRACTED, self._manifest.flag) as new:
            layout = await within(READ_TIMEOUT_S, read_one_side(self._manifest, new, Origin.EXTRACTED), new)
            for moved in layout.tables:
                dropped = with_tries(new, lambda moved=moved: drop_triggers(new, moved, Origin.EXTRACTED))  # type: ignore[misc]
                await within(LOCKS_WITHIN_S, dropped, new)
        for origin in Origin:
            async with one_end(self._urls, origin, self._manifest.flag) as link:
                await within(READ_TIMEOUT_S, forget_stream(link, self._manifest.flag), link)
        return "capture and fence are gone on both sides"

    async def _known(self) -> Retirement:
        async with self._old() as old:
            known = await within(READ_TIMEOUT_S, retire_record.load(old, self._manifest.flag), old)
        if known is None:
            raise Stopped("the record of this retirement is gone from the monolith's database")
        return known

    def _old(self) -> Any:
        return one_end(self._urls, Origin.MONOLITH, self._manifest.flag)


async def forget_stream(link: Link, flag: str) -> None:
    """Queue, progress and verification of a stream that ended: the next one begins with a new copy."""
    async with link.transaction():
        for name in _FORGET:
            await link.execute(statement("promotion", name), {"flag": flag})


def _source(layout: Layout, index: int) -> Source:
    moved = layout.tables[index]
    side = moved.sides[Origin.MONOLITH]
    key = tuple(side.columns[position].name for position in side.key)
    return Source(name=moved.name, schema=side.schema, relation=side.name, key=key)


def _contents(folder: Path) -> dict[str, tuple[int, str]]:
    """What a dump holds; nothing where it is not whole any more."""
    try:
        dump.check(folder)
        return dump.contents(folder)
    except dump.DumpFailed:
        return {}
