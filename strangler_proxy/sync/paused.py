"""The stream of a flag that is paused: nothing is carried over; it says how much waits, and sees a schema mended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import psycopg
import structlog

from strangler_proxy.core.errors import StoreUnavailable, StranglerError
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.pause import Pause
from strangler_proxy.core.ports import Pauses, SyncBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import metrics
from strangler_proxy.sync.batch import TableProgress
from strangler_proxy.sync.drift import Drifted, blocking, fitting_layout, readable_layout
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import Link, close, connect, first_line, within
from strangler_proxy.sync.ownership import read_grants, source_of
from strangler_proxy.sync.pace import CATCH_UP_BACKLOG, Mode
from strangler_proxy.sync.statements import statement
from strangler_proxy.sync.status import StreamStatus

LARGE_QUEUE = CATCH_UP_BACKLOG
"""From so many keys on, the stream will have to catch up before it is live again."""

LOOK_S = 1.0
LOOK_AGAIN_AT_SCHEMA_S = 5.0
_AWAY_S = 2.0
_READ_TIMEOUT_S = 10.0
_MEND_TIMEOUT_S = 60.0

log = structlog.get_logger()


class PausedStream:
    """Run with `run()`, end by cancelling it; it ends by itself once a pause of a worker's own is over."""

    def __init__(
        self,
        manifest: Manifest,
        urls: Mapping[Origin, str],
        board: SyncBoard,
        pauses: Pauses,
        pause: Pause,
        *,
        worker: str,
    ) -> None:
        self.status = StreamStatus(flag=manifest.flag, worker=worker, mode=Mode.PAUSED)
        self._manifest = manifest
        self._urls = urls
        self._board = board
        self._pauses = pauses
        self._pause = pause
        self._schema_at = time.monotonic() + LOOK_AGAIN_AT_SCHEMA_S
        self._told_large = False

    async def run(self) -> None:
        """Look once a second and tell; databases that are away are waited for."""
        metrics.PAUSED.labels(self._manifest.flag).set(1)
        try:
            while True:
                try:
                    if await self._session():
                        return
                except (StranglerError, psycopg.Error) as error:
                    self.status.error = str(error) if isinstance(error, StranglerError) else first_line(error)
                await self._publish()
                await asyncio.sleep(_AWAY_S)
        finally:
            metrics.PAUSED.labels(self._manifest.flag).set(0)

    async def _session(self) -> bool:
        """True once the pause is over."""
        links: dict[Origin, Link] = {}
        try:
            for origin in Origin:
                links[origin] = await connect(
                    self._urls[origin], application=f"strangler paused {self._manifest.flag}"[:63]
                )
            while True:
                source = await within(_READ_TIMEOUT_S, self._look(links), *links.values())
                self.status.error = ""
                if self._pause.drift and time.monotonic() >= self._schema_at:
                    self._schema_at = time.monotonic() + LOOK_AGAIN_AT_SCHEMA_S
                    if await within(_MEND_TIMEOUT_S, self._mended(links, source), *links.values()):
                        return True
                await self._publish()
                await asyncio.sleep(LOOK_S)
        finally:
            await close(*links.values())

    async def _look(self, links: Mapping[Origin, Link]) -> Origin:
        flag = self._manifest.flag
        grants = await read_grants(links, flag)
        source = None if grants is None else source_of(grants)
        if source is None:
            raise Drifted([f"flag {flag!r} has no ownership records that say where rows flow from"])
        given = {"flag": flag, "source": source.value}
        target = links[source.other]
        backlog = await (await links[source].execute(statement("batch", "backlog"), given)).fetchone()
        known = await (await target.execute(statement("preflight", "target"), given)).fetchone()
        applied = await (await target.execute(statement("batch", "applied"), given)).fetchone()
        tables = await (await target.execute(statement("batch", "progress"), given)).fetchall()
        self.status.source = source
        self.status.tables = [TableProgress(row[0], None, row[2], row[3], row[4]) for row in tables]
        if backlog is not None:
            self.status.dirty_keys, self.status.oldest_key_s = backlog
        if known is not None:
            self.status.epoch, self.status.through, self.status.stuck = known[1], known[2], known[7]
        if applied is not None:
            _, self.status.verified_at, self.status.verified, self.status.mismatches = applied
        return source

    async def _mended(self, links: Mapping[Origin, Link], source: Origin) -> bool:
        """The schema is right again, so the pause that it caused ends."""
        flag = self._manifest.flag
        try:
            await fitting_layout(self._manifest, links, source)
        except Drifted as drifted:
            await self._pauses.pause(flag, by=self.status.worker, reason=drifted.message[:2000], drift=True)
            return False
        await install(self._manifest, links)
        await doubt(links, flag)
        over = await self._pauses.resume(flag, by=self.status.worker, reason="the schema fits again", only_drift=True)
        log.info("sync.stream_resumed", flag=flag)
        return over

    async def _publish(self) -> None:
        flag = self._manifest.flag
        metrics.DIRTY.labels(flag).set(self.status.dirty_keys)
        metrics.STUCK.labels(flag).set(self.status.stuck)
        if self.status.dirty_keys >= LARGE_QUEUE and not self._told_large:
            self._told_large = True
            log.warning("sync.paused_queue_large", flag=flag, dirty_keys=self.status.dirty_keys)
        try:
            await self._board.publish(flag, self.status.to_json())
        except StoreUnavailable as error:
            log.debug("sync.status_unpublished", flag=flag, error=error.message)


async def mend(manifest: Manifest, links: Mapping[Origin, Link]) -> None:
    """Capture and fence beside the data again, as the manifest has it now; the copy is doubted until it is verified.

    A type that changed is accepted with that: a person asked. Raises Drifted where rows could still not be carried.
    """
    grants = await read_grants(links, manifest.flag)
    source = None if grants is None else source_of(grants)
    if source is not None:
        layout = await readable_layout(manifest, links)
        problems = await blocking(manifest, layout, links, source)
        if problems:
            raise Drifted(problems)
    await install(manifest, links)
    await doubt(links, manifest.flag)


async def doubt(links: Mapping[Origin, Link], flag: str) -> None:
    """What was written while capture was not in order is found by a whole verification, and carried over by it."""
    for link in links.values():
        await link.execute(statement("drift", "doubt"), {"flag": flag})
