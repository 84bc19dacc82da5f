"""The way back from retiring, until the old tables are dropped: names, foreign keys, fence, stage; then a new copy."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Operation
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.sync import retire_record
from strangler_proxy.sync.cutover import Outcome, Step
from strangler_proxy.sync.ends import READ_TIMEOUT_S
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import Link, close, connect, within
from strangler_proxy.sync.retire import LOCKS_WITHIN_S, forget_stream, one_end
from strangler_proxy.sync.retire_record import Retirement
from strangler_proxy.sync.retire_tables import bring_back, forget_counters, validate

_VALIDATED_WITHIN_S = 3600.0

log = structlog.get_logger()


async def undo(
    manifest: Manifest,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    operation: Operation,
    *,
    step: Step,
) -> Outcome:
    """Back to `extracted`, the service owning as before. Idempotent; refused where nothing is retired.

    The old tables hold what they held when they were set aside: the stream into them is to be started anew.
    """
    flag = manifest.flag
    async with one_end(urls, Origin.MONOLITH, flag) as old:
        known = await within(READ_TIMEOUT_S, retire_record.load(old, flag), old)
        if known is None or known.status == "undone" or (known.status == "retiring" and not known.began):
            return Outcome(status="refused", detail=f"{flag} is not retired: there is nothing to undo")
        if known.status == "dropped":
            return Outcome(
                status="refused",
                detail=f"the old tables are dropped: their rows are in {known.dump}, whose manifest.json says how to "
                "load them",
            )
        left: list[str] = []
        if known.tables:
            left = await _tables(manifest, urls, old, known, step)
    await flags.release(
        flag,
        Ownership(owner=Origin.EXTRACTED, epoch=known.epoch),
        stage=Stage.EXTRACTED.value,
        weight=0,
        by=operation.by,
        reason=operation.reason or "retiring was undone",
    )
    await step("route", "the stage is extracted again")
    async with one_end(urls, Origin.MONOLITH, flag) as old:
        await within(READ_TIMEOUT_S, retire_record.set_status(old, flag, "undone"), old)
    log.warning("sync.retiring_undone", flag=flag, by=operation.by)
    if known.keep_copy:
        return Outcome(status="done", detail="the way back is open: the copy was kept in step all the time")
    detail = f"the copy is as it was when it was set aside: strangler sync start {flag} brings it in step"
    return Outcome(status="done", detail="\n".join([detail, *left]))


async def _tables(
    manifest: Manifest, urls: Mapping[Origin, str], old: Link, known: Retirement, step: Step
) -> list[str]:
    """Bring the tables back, fenced; what is left to be done about foreign keys."""
    if known.step != "brought back":
        await within(LOCKS_WITHIN_S, bring_back(old, known), old)
    await step("tables", f"{len(known.tables)} tables have their names again")
    new = await connect(urls[Origin.EXTRACTED], application=f"strangler retire {known.flag}"[:63])
    try:
        links = {Origin.MONOLITH: old, Origin.EXTRACTED: new}
        await within(LOCKS_WITHIN_S, install(manifest, links), *links.values())
        for link in links.values():
            await within(READ_TIMEOUT_S, forget_stream(link, known.flag), link)
    finally:
        await close(new)
    await step("fence", "capture and fence are in place on both sides, the monolith stays closed")
    await within(READ_TIMEOUT_S, forget_counters(old, known), old)
    left = await within(_VALIDATED_WITHIN_S, validate(old, known), old)
    good = len(known.foreign_keys) - len(left)
    await step("foreign keys", f"{good} of {len(known.foreign_keys)} are back and valid")
    return left
