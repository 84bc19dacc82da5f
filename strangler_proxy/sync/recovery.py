"""What any worker does for a cutover that nobody runs any more: abort it past its deadline, or finish it for ever."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Mapping, MutableMapping

import psycopg
import structlog

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import record, vacuum
from strangler_proxy.sync.ends import Both, both_ends
from strangler_proxy.sync.link import DataUnavailable, first_line, within
from strangler_proxy.sync.ownership import open_ownership, read_grants
from strangler_proxy.sync.record import Record
from strangler_proxy.sync.returned_owner import close_returned

STEP_TIMEOUT_S = 5.0
PATIENCE_S = 60.0
"""No cutover may take as long (its deadline is 30 s at most)."""

_CLOSE_TIMEOUT_S = 60.0
_FORGET_S = 3_600.0
_LOCK_TIMEOUT_MS = 500
_LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

log = structlog.get_logger()


async def complete(
    manifest: Manifest,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    decided: Record,
    *,
    by: str,
    connected: Both | None = None,
) -> float:
    """Open the target, release, finish the record: idempotent, tried for ever. The monotonic time of the release.

    `connected` is used for the first try, which saves connecting while requests are held.
    """
    opened = False
    released_at: float | None = None
    while True:
        try:
            async with _given_or_new(connected, manifest, urls) as both:
                connected = None
                if not opened:
                    await within(STEP_TIMEOUT_S, _open(both, decided), *both.all)
                    opened = True
                if released_at is None:
                    await _release(flags, decided, by=by)
                    released_at = time.monotonic()
                await within(STEP_TIMEOUT_S, _finish(both, decided), *both.all)
                await restore_vacuum(both)
                return released_at
        except (DataUnavailable, StoreUnavailable, psycopg.Error) as error:
            log.warning("cutover.completion_delayed", flag=manifest.flag, error=first_line(error))
            await asyncio.sleep(random.uniform(0.05, 0.3))


@contextlib.asynccontextmanager
async def _given_or_new(given: Both | None, manifest: Manifest, urls: Mapping[Origin, str]) -> AsyncGenerator[Both]:
    if given is not None:
        yield given
        return
    async with both_ends(manifest, urls, f"strangler cutover {manifest.flag}"[:63]) as both:
        yield both


async def _open(both: Both, decided: Record) -> None:
    target = both.links[decided.plan.target]
    while True:
        try:
            opened = await record.open_target(target, both.layout, decided, lock_timeout_ms=_LOCK_TIMEOUT_MS)
            break
        except _LOCKED:
            await asyncio.sleep(random.uniform(0.01, 0.05))
    if opened:
        log.info("cutover.opened", flag=decided.plan.flag, owner=decided.plan.target.value, epoch=decided.epoch)
    for link in both.links.values():
        await record.wake(link, decided.plan.flag)


async def _release(flags: FlagBoard, decided: Record, *, by: str) -> None:
    plan = decided.plan
    await flags.release(
        plan.flag,
        Ownership(owner=plan.target, epoch=decided.epoch),
        stage=plan.stage or None,
        weight=plan.weight if plan.stage else None,
        by=plan.actor or by,
        reason=plan.reason or f"cutover to {plan.target.value}",
    )


async def _finish(both: Both, decided: Record) -> None:
    await record.finish(both.links[decided.plan.source], decided.plan.cutover_id)


async def abort_for_ever(both: Both, intended: Record, reason: str) -> None:
    """Abort unless it was decided; locks of others are waited for as long as it takes (5 s a call)."""
    source = both.links[intended.plan.source]

    async def tries() -> None:
        while True:
            try:
                if await record.abort(source, both.layout, intended, reason, lock_timeout_ms=_LOCK_TIMEOUT_MS):
                    log.warning("cutover.aborted", flag=intended.plan.flag, epoch=intended.epoch, reason=reason)
                return
            except _LOCKED:
                await asyncio.sleep(random.uniform(0.01, 0.05))

    await within(STEP_TIMEOUT_S, tries(), source)
    await restore_vacuum(both)


async def release_aborted(both: Both, flags: FlagBoard, cutover_id: str, *, by: str) -> None:
    """End the hold of an aborted cutover with the grant that holds now. A store that is away is left to `recover`."""
    grants = await within(STEP_TIMEOUT_S, read_grants(both.links, both.manifest.flag), *both.all)
    ownership = None if grants is None else open_ownership(grants)
    if ownership is None:
        return
    with contextlib.suppress(StoreUnavailable):
        await flags.release(
            both.manifest.flag,
            ownership,
            stage=None,
            weight=None,
            by=by,
            reason=f"cutover {cutover_id} aborted",
        )


async def restore_vacuum(both: Both, *, older_than_s: float = 0.0) -> None:
    """Autovacuum as it was, on both sides; what cannot be done now is done by a later call."""
    for origin, link in both.links.items():
        try:
            await within(STEP_TIMEOUT_S, vacuum.restore(link, both.layout, origin, older_than_s=older_than_s), link)
        except (psycopg.Error, DataUnavailable) as error:
            log.warning("cutover.vacuum_unrestored", flag=both.manifest.flag, error=first_line(error))


async def recover(
    both: Both,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    *,
    by: str,
    at_start: bool,
    seen: MutableMapping[str, float],
) -> None:
    """One look at a flag: abort what is past its deadline, finish what is committed, end holds that nobody ends.

    A coordinator that is still alive finishes a committed one within the second that it gets; `at_start` gives none.
    `seen`: when this worker saw each record first (monotonic), kept by the caller from look to look: where that
    database's clock was set back, its own deadline would come too late.
    """
    flag = both.manifest.flag
    grants = await within(STEP_TIMEOUT_S, read_grants(both.links, flag), *both.all)
    if grants is not None:
        await within(_CLOSE_TIMEOUT_S, close_returned(both, grants), *both.all)
    for link in both.links.values():
        for known in await within(STEP_TIMEOUT_S, record.open_records(link, flag), link):
            if known.status == "committed" and (known.decided_long_ago or at_start):
                log.warning("cutover.recovered", flag=flag, epoch=known.epoch, action="complete")
                await complete(both.manifest, urls, flags, known, by=by)
            elif known.status == "holding" and (known.overdue or _waited(seen, known)):
                log.warning("cutover.recovered", flag=flag, epoch=known.epoch, action="abort")
                await abort_for_ever(both, known, "past its deadline: the worker that ran it is gone")
                await release_aborted(both, flags, known.plan.cutover_id, by=by)
                seen.pop(known.plan.cutover_id, None)
    await _reconcile(both, flags, by=by)
    await restore_vacuum(both, older_than_s=vacuum.ABANDONED_S)


def _waited(seen: MutableMapping[str, float], known: Record) -> bool:
    now = time.monotonic()
    for cutover_id in [each for each, at in seen.items() if now - at > _FORGET_S]:
        del seen[cutover_id]
    return now - seen.setdefault(known.plan.cutover_id, now) > PATIENCE_S


async def _reconcile(both: Both, flags: FlagBoard, *, by: str) -> None:
    """The flag table's copy follows the records beside the data; a hold without a record under way ends."""
    flag, _ = await flags.flag(both.manifest.flag)
    if flag.hold is not None:
        for link in both.links.values():
            status = await within(STEP_TIMEOUT_S, record.status_of(link, flag.hold.cutover_id), link)
            if status in ("holding", "committed"):
                return
    grants = await within(STEP_TIMEOUT_S, read_grants(both.links, flag.key), *both.all)
    truth = None if grants is None else open_ownership(grants)
    if truth is None or (flag.hold is None and truth.epoch <= flag.owner_epoch):
        return
    log.warning("cutover.flag_reconciled", flag=flag.key, owner=truth.owner.value, epoch=truth.epoch)
    await flags.release(flag.key, truth, stage=None, weight=None, by=by, reason="the record beside the data")
