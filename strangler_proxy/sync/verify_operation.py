"""The operations that ask a stream for a whole verification and wait for what it finds."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping
from typing import Any

from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import SyncBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.cutover import Outcome, Step
from strangler_proxy.sync.ends import READ_TIMEOUT_S
from strangler_proxy.sync.flow import ASKED
from strangler_proxy.sync.link import Link, close, connect, within
from strangler_proxy.sync.ownership import read_grants, source_of
from strangler_proxy.sync.pace import Mode
from strangler_proxy.sync.record import wake
from strangler_proxy.sync.statements import statement

PASSES = 5
"""A repair looks so many times whether the copy is equal by now."""

LIMIT_S = 6 * 3600.0
_POLL_S = 0.1
_SILENT_S = 30.0
_TELL_S = 2.0


async def verify_now(
    manifest: Manifest, urls: Mapping[Origin, str], board: SyncBoard, *, repair: bool, step: Step
) -> Outcome:
    """Have the stream compare everything from now on; `done` if all is equal.

    What differs is carried over once more by the stream itself. A repair looks again until a pass is clean.
    """
    asked = await _ask(manifest, urls)
    if asked is None:
        return Outcome(status="failed", detail=f"there is no stream: strangler sync start {manifest.flag}")
    repaired = mismatched = 0
    for _ in range(PASSES if repair else 1):
        found = await _pass_since(manifest.flag, board, asked, step)
        if isinstance(found, str):
            return Outcome(status="failed", detail=found)
        if not found["mismatched"]:
            again = f", {repaired} keys carried over again" if repaired else ""
            return Outcome(status="done", detail=f"equal: {found['rows']} rows of {found['tables']} tables{again}")
        mismatched = int(found["mismatched"])
        repaired += mismatched
        for each in found["differing"]:
            await step("differs", str(each))
        asked = dt.datetime.fromisoformat(found["began_at"]) + dt.timedelta(microseconds=1)
    return Outcome(
        status="failed",
        detail=f"{mismatched} keys differed; they are being carried over again: "
        + (f"strangler sync status {manifest.flag}" if repair else f"strangler sync repair {manifest.flag}"),
    )


async def _ask(manifest: Manifest, urls: Mapping[Origin, str]) -> dt.datetime | None:
    """When it was asked, by the clock of the target, where passes get their times from."""
    links: dict[Origin, Link] = {}
    try:
        for origin in Origin:
            links[origin] = await connect(urls[origin], application=f"strangler verify {manifest.flag}"[:63])
        grants = await within(READ_TIMEOUT_S, read_grants(links, manifest.flag), *links.values())
        source = None if grants is None else source_of(grants)
        if source is None:
            return None
        target = links[source.other]
        given = {"flag": manifest.flag}
        cursor = await within(READ_TIMEOUT_S, target.execute(statement("batch", "ask_verification"), given), target)
        row = await cursor.fetchone()
        await within(READ_TIMEOUT_S, wake(links[source], ASKED), links[source])
        return None if row is None else row[0]
    finally:
        await close(*links.values())


async def _pass_since(flag: str, board: SyncBoard, asked: dt.datetime, step: Step) -> dict[str, Any] | str:
    """What the first whole pass that began at `asked` or later found; a sentence where it cannot be waited for."""
    until, tell_at, told = time.monotonic() + LIMIT_S, 0.0, ""
    while time.monotonic() < until:
        known = await board.status(flag)
        status: Mapping[str, Any] = {} if known is None else known[0]
        if known is None or known[1] > _SILENT_S:
            return f"no worker reports on the stream: strangler sync status {flag}"
        if status.get("mode") == Mode.PAUSED.value:
            return f"the stream is paused: strangler sync resume {flag}"
        if status.get("stuck"):
            return f"{status['stuck']} keys are stuck, and nothing is verified meanwhile: strangler sync status {flag}"
        seen: Mapping[str, Any] = status.get("verification") or {}
        for ended in seen.get("ended", ()):
            if ended["began_at"] and dt.datetime.fromisoformat(ended["began_at"]) >= asked:
                return {**ended, "tables": seen["tables"]}
        going = seen.get("going")
        words = f"table {going['table']} of {seen['tables']}, {going['rows']} rows" if going else ""
        if words and words != told and time.monotonic() >= tell_at:
            await step("compare", words)
            told, tell_at = words, time.monotonic() + _TELL_S
        await asyncio.sleep(_POLL_S)
    return f"no pass ended within {LIMIT_S / 3600:g} h"
