"""Goes on with captures and refunds whose outcome is missing: a process died, an answer never came.

On the owner only, and by claiming them with a write that the fence refuses elsewhere. Any number may run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from prometheus_client import Counter
from psycopg_pool import PoolTimeout, TooManyRequests

from extracted.payments.card_processor import CardProcessor, ProcessorUnavailable
from extracted.payments.outcome import record_charge, record_refund
from extracted.payments.store import Store

FENCED = "MF001"
AT_ONCE = 20
"""Claimed in one round, and then asked for one after the other."""

SWEPT = Counter("payments_swept_total", "Captures and refunds in doubt that were gone on with.", ("kind", "outcome"))

log = structlog.get_logger()


class Sweeper:
    """`older_s`: how long an outcome may be missing before it is asked for again."""

    def __init__(self, *, store: Store, processor: CardProcessor, older_s: float) -> None:
        self._store = store
        self._processor = processor
        self._older_s = older_s

    async def run(self, *, interval_s: float, stopped: Callable[[], bool]) -> None:
        """A round each `interval_s` seconds until `stopped()` or cancelled; a database that is away is waited for."""
        while not stopped():
            try:
                await self.sweep()
            except (PoolTimeout, TooManyRequests, psycopg.Error) as error:
                # The fence is an error of its own class: this side is not the owner any more.
                fenced = getattr(error, "sqlstate", None) == FENCED
                log.warning("sweep.stopped", reason="fenced" if fenced else type(error).__name__)
            await asyncio.sleep(interval_s)

    async def sweep(self) -> int:
        """One round; how many were recorded. Raises psycopg's errors, also the fence's."""
        if not await self._store.is_owner():
            return 0
        return await self._captures() + await self._refunds()

    async def _captures(self) -> int:
        async with self._store.transaction() as books:
            claimed = await books.claim_captures_in_doubt(older_s=self._older_s, limit=AT_ONCE)
        recorded = 0
        for intent in claimed:
            try:
                outcome = await self._processor.charge(intent)
            except ProcessorUnavailable:
                SWEPT.labels("capture", "unknown").inc()
                continue
            async with self._store.transaction() as books:
                status = (await record_charge(books, intent.id, outcome)).status
            SWEPT.labels("capture", "recorded").inc()
            log.info("capture.swept", intent_id=str(intent.id), status=status.value)
            recorded += 1
        return recorded

    async def _refunds(self) -> int:
        async with self._store.transaction() as books:
            claimed = await books.claim_refunds_in_doubt(older_s=self._older_s, limit=AT_ONCE)
        recorded = 0
        for intent, refund in claimed:
            try:
                outcome = await self._processor.refund(intent, refund)
            except ProcessorUnavailable:
                SWEPT.labels("refund", "unknown").inc()
                continue
            async with self._store.transaction() as books:
                status = (await record_refund(books, intent.id, refund.id, outcome)).status
            SWEPT.labels("refund", "recorded").inc()
            log.info("refund.swept", refund_id=str(refund.id), status=status.value)
            recorded += 1
        return recorded
