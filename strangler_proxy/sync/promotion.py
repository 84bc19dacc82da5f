"""The day the owner's database is gone: open the copy as it is, past every epoch that the owner can have reached.

What follows when the lost database comes back is in `returned_owner.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Operation, SyncBoard
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.sync.cutover import Outcome, Step
from strangler_proxy.sync.ends import READ_TIMEOUT_S
from strangler_proxy.sync.install import set_fence
from strangler_proxy.sync.layout import Layout, read_one_side
from strangler_proxy.sync.link import DataUnavailable, Link, NotFit, close, connect, name_of, within
from strangler_proxy.sync.rows import rows_of
from strangler_proxy.sync.statements import statement

EPOCHS_AHEAD = 2
"""An aborted cutover takes two epochs: its own, and the one that reopens."""

SEQUENCE_GAP = 10_000
"""Numbers left out, because rows that were lost may have had them."""

OPEN_TIMEOUT_S = 30.0
_TRIES = 3
_LOCK_TIMEOUT_MS = 5_000
_STAGES = {Origin.MONOLITH: Stage.MONOLITH, Origin.EXTRACTED: Stage.EXTRACTED}

log = structlog.get_logger()


async def promote(
    manifest: Manifest,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    board: SyncBoard,
    operation: Operation,
    *,
    step: Step,
) -> Outcome:
    """Open the side that is not the owner. Refused while the owner's database answers. Idempotent.

    Raises DataUnavailable where the copy's database does not answer either, NotFit where a pooler or replica does.
    """
    flag, _ = await flags.flag(manifest.flag)
    copy = flag.owner.other
    if operation.args.get("copy") != copy.value:
        return Outcome(status="refused", detail=f"{flag.owner.value} is the owner by now: nothing was done")
    silence = await _silence(urls[flag.owner])
    if not silence:
        return Outcome(
            status="refused",
            detail=f"{name_of(urls[flag.owner])} of the owner answers: nothing has to be lost, "
            f"use strangler flip {manifest.flag} {_STAGES[copy].value}",
        )
    await step("owner away", silence)
    link = await connect(urls[copy], application=f"strangler promote {manifest.flag}"[:63])
    try:
        layout = await within(READ_TIMEOUT_S, read_one_side(manifest, link, copy), link)
        epoch = await within(OPEN_TIMEOUT_S, _open(link, layout, flag, copy), link)
    finally:
        await close(link)
    await step("open", f"{copy.value} epoch={epoch}")
    await flags.release(
        flag.key,
        Ownership(owner=copy, epoch=epoch),
        stage=_STAGES[copy].value,
        weight=0,
        by=operation.by,
        reason=operation.reason or "the owner's database is gone: its copy was promoted",
    )
    log.warning("sync.copy_promoted", flag=flag.key, owner=copy.value, epoch=epoch, by=operation.by)
    return Outcome(status="done", detail=f"{copy.value} owns at epoch={epoch}; {await _lost(flag, board)}")


async def _silence(url: str) -> str:
    """Why no connection can be had, for the person who decides; empty where the database answers."""
    said = ""
    for _ in range(_TRIES):
        try:
            await close(await connect(url, application="strangler promote"))
            return ""
        except NotFit:
            raise  # somebody answers: nothing says that the owner is gone
        except DataUnavailable as error:
            said = error.message
    return said


async def _open(link: Link, layout: Layout, flag: Flag, copy: Origin) -> int:
    async with link.transaction():
        await link.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        await link.execute(statement("promotion", "lock"), {"flag": layout.flag})
        row = await (await link.execute(statement("promotion", "grant"), {"flag": layout.flag})).fetchone()
        if row is None:
            raise DataUnavailable(f"flag {layout.flag!r} was never prepared here: there is no copy to promote")
        epoch, is_open = row
        if is_open:
            return int(epoch)
        epoch = max(int(epoch), flag.owner_epoch) + EPOCHS_AHEAD
        given = {"flag": layout.flag, "owner": copy.value, "epoch": epoch}
        await link.execute(statement("promotion", "open"), given)
        await set_fence(link, layout, copy, up=False)
        await _leave_a_gap(link, layout, copy)
    return epoch


async def _leave_a_gap(link: Link, layout: Layout, copy: Origin) -> None:
    for moved in layout.tables:
        column = moved.table.sequence
        if column is None:
            continue
        position = moved.table.column_names(Origin.MONOLITH).index(column)
        side = moved.sides[copy]
        given = {"table": side.regclass, "column": side.columns[position].name}
        row = await (await link.execute(statement("cutover", "sequence_of"), given)).fetchone()
        if row is not None and row[0] is not None:
            highest = await rows_of(moved, copy).highest(link, position)
            await link.execute(
                statement("promotion", "leave_gap"), {"sequence": row[0], "last": highest + SEQUENCE_GAP}
            )


async def _lost(flag: Flag, board: SyncBoard) -> str:
    """What the last reports say of what had not been carried over."""
    known = await board.status(flag.key)
    status: Mapping[str, Any] = {} if known is None else known[0]
    through = flag.replicated_through or status.get("replicated_through") or "an unknown time"
    waiting = status.get("dirty_keys", "?")
    return (
        f"the copy is complete through {through}, with {waiting} keys waiting at the last report; "
        "what was written after that is missing, until the old database is back and it is reconciled"
    )
