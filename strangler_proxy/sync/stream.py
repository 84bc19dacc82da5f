"""The stream of one flag: keeps rows flowing whichever way, whatever dies, and says how it is doing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Mapping

import psycopg
import structlog

from strangler_proxy.core.errors import StoreUnavailable, StranglerError
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Pauses, SyncBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import metrics
from strangler_proxy.sync.batch import NotTarget
from strangler_proxy.sync.drift import Drifted, SchemaMoved, SchemaWatch, fitting_layout
from strangler_proxy.sync.flow import Flow
from strangler_proxy.sync.install import note_every_change
from strangler_proxy.sync.layout import Layout
from strangler_proxy.sync.link import DataUnavailable, Link, close, connect, first_line, within
from strangler_proxy.sync.ownership import read_grants, source_of
from strangler_proxy.sync.pace import Mode
from strangler_proxy.sync.status import StreamStatus
from strangler_proxy.sync.trouble import said

PUBLISH_S = 0.5
REPLICATED_S = 0.2
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_READ_TIMEOUT_S = 10.0

log = structlog.get_logger()


class Stream:
    """Run with `run()`, end by cancelling it. One per flag at a time under a lease; two do no harm, only waste."""

    def __init__(
        self,
        manifest: Manifest,
        urls: Mapping[Origin, str],
        flags: FlagBoard,
        board: SyncBoard,
        pauses: Pauses,
        *,
        worker: str,
        batch_target_s: float = 0.1,
    ) -> None:
        self.status = StreamStatus(flag=manifest.flag, worker=worker)
        self._manifest = manifest
        self._urls = urls
        self._flags = flags
        self._board = board
        self._pauses = pauses
        self._layout: Layout | None = None
        self._batch_target_s = batch_target_s

    async def run(self) -> None:
        """Connect, find the direction, carry rows; begin again with back-off when something breaks.

        Ends by itself only when it has paused itself, as a schema does not fit any more.
        """
        publisher = asyncio.create_task(self._publish_for_ever())
        wait = _SHORTEST_WAIT_S
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._session()
                except NotTarget as error:
                    self.status.error = str(error)
                except SchemaMoved:
                    log.info("sync.schema_moved", flag=self._manifest.flag)
                except Drifted as error:
                    self._failed(error)
                    if await self._paused(error):
                        return
                except (StranglerError, psycopg.Error) as error:
                    self._failed(error)
                if time.monotonic() - began > 10:
                    wait = _SHORTEST_WAIT_S
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT_S, wait * 2)
        finally:
            publisher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publisher
            self.status.mode = Mode.STOPPED
            metrics.LIVE.labels(self._manifest.flag).set(0)

    async def _paused(self, drifted: Drifted) -> bool:
        """Paused for good, by this worker; False while the control database is away."""
        flag = self._manifest.flag
        try:
            await self._pauses.pause(flag, by=self.status.worker, reason=drifted.message[:2000], drift=True)
        except StoreUnavailable:
            return False
        log.error("sync.stream_paused", flag=flag, problems=drifted.problems)
        return True

    def _failed(self, error: StranglerError | psycopg.Error) -> None:
        message = said(error) if isinstance(error, psycopg.Error) else error.message
        if message != self.status.error:
            log.warning("sync.stream_failed", flag=self._manifest.flag, error=message)
        self.status.error = message
        self.status.mode = Mode.STOPPED
        metrics.ERRORS.labels(self._manifest.flag).inc()

    async def _session(self) -> None:
        links: dict[Origin, Link] = {}
        listener: Link | None = None
        application = f"strangler sync {self._manifest.flag}"[:63]
        try:
            for origin in Origin:
                links[origin] = await connect(self._urls[origin], application=application)
            while True:
                source = await within(_READ_TIMEOUT_S, self._direction(links), *links.values())
                await close(listener)
                listener = await connect(self._urls[source], application=application)
                try:
                    await self._flow_from(source, links, listener)
                except Drifted:
                    await self._keep_noting(links, source)
                    raise
        finally:
            await close(listener, *links.values())

    async def _flow_from(self, source: Origin, links: Mapping[Origin, Link], listener: Link) -> None:
        fitting = fitting_layout(self._manifest, links, source)
        self._layout = layout = await within(_READ_TIMEOUT_S, fitting, *links.values())
        flow = Flow(
            layout,
            links,
            listener,
            source,
            self.status,
            watch=SchemaWatch(self._manifest, layout, links, source),
            batch_target_s=self._batch_target_s,
        )
        self.status.error = ""
        try:
            await flow.run()
        except NotTarget:
            await asyncio.sleep(0.02)  # the direction is looked up again; it changes once per cutover
        log.info("sync.flow_ended", flag=self._manifest.flag, source=source.value)

    async def _keep_noting(self, links: Mapping[Origin, Link], source: Origin) -> None:
        """Keep writers of the source from failing on columns that are gone."""
        if self._layout is None:
            return
        try:
            await within(_READ_TIMEOUT_S, note_every_change(links[source], self._layout, source), links[source])
        except (DataUnavailable, psycopg.Error) as error:
            log.warning("sync.capture_unmended", flag=self._manifest.flag, error=first_line(error))

    async def _direction(self, links: Mapping[Origin, Link]) -> Origin:
        grants = await read_grants(links, self._manifest.flag)
        source = None if grants is None else source_of(grants)
        if source is None:
            raise NotTarget(f"flag {self._manifest.flag!r} has no ownership records that say where rows flow from")
        return source

    async def _publish_for_ever(self) -> None:
        publish_at, told = 0.0, None
        while True:
            try:
                told = await self._tell_replicated(told)
                if self.status.awaited or time.monotonic() >= publish_at:
                    self.status.awaited = False
                    publish_at = time.monotonic() + PUBLISH_S
                    await self._publish()
            except StoreUnavailable as error:
                log.debug("sync.status_unpublished", flag=self._manifest.flag, error=error.message)
            await asyncio.sleep(REPLICATED_S)

    async def _tell_replicated(self, told: dt.datetime | None) -> dt.datetime | None:
        through = self.status.through
        if through is None or through == told:
            return told
        await self._flags.replicated(self._manifest.flag, through)
        return through

    async def _publish(self) -> None:
        fresh_at = self.status.fresh_at
        self.status.lag_s = None if fresh_at is None else time.monotonic() - fresh_at
        flag = self._manifest.flag
        metrics.DIRTY.labels(flag).set(self.status.dirty_keys)
        metrics.STUCK.labels(flag).set(self.status.stuck)
        metrics.LIVE.labels(flag).set(self.status.mode is Mode.LIVE)
        metrics.LAG.labels(flag).set(float("nan") if self.status.lag_s is None else self.status.lag_s)
        await self._board.publish(flag, self.status.to_json())
