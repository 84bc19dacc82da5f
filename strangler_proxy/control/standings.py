"""What the evidence of each flag amounts to, kept for some seconds: everybody who looks at a status asks for it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

from strangler_proxy.control.shadow import reckon
from strangler_proxy.core.errors import StranglerError
from strangler_proxy.core.evidence_gate import Standing, standing
from strangler_proxy.core.stage import STAGE_TABLE, Mirror
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store import Store

KEPT_S = 5.0


class Standings:
    """Standings by flag, at most 5 s old. Two calls at once may both make one; the later one stays."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Standing | None]] = {}

    async def of_mirrored(self, table: RoutingTable) -> dict[str, Standing | None]:
        """Of all flags whose stage mirrors; None where evidence cannot be read."""
        mirrored = [key for key, flag in table.flags.items() if STAGE_TABLE[flag.stage].mirror is not Mirror.NONE]
        return {key: await self._kept(key) for key in mirrored}

    async def _kept(self, key: str) -> Standing | None:
        now = time.monotonic()
        known = self._known.get(key)
        if known is not None and now - known[0] < KEPT_S:
            return known[1]
        try:
            found: Standing | None = await current(self._store, key)
        except StranglerError:
            found = None  # a status is worth more than the evidence in it
        self._known[key] = now, found
        return found


async def current(store: Store, key: str) -> Standing:
    """The standing of a flag's evidence now. Raises UnknownName, DeclarationError where evidence cannot be read."""
    now = dt.datetime.now(dt.UTC)
    judging = await store.manifests.judging(key)
    rules = await store.evidence.rules(key)
    found = await reckon(store.evidence, key, title=key, rules=rules, demands=judging.by_route, now=now)
    return await asyncio.to_thread(standing, found.report, found.tallies, now)
