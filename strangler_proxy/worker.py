"""Composition root of `strangler worker`: operations, streams and recovery, under leases, with health and metrics."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine, Mapping
from typing import Any

import psycopg
import structlog
from prometheus_client import generate_latest

from strangler_proxy import logging
from strangler_proxy.core.errors import DeclarationError, StoreUnavailable, StranglerError
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.pause import Pause
from strangler_proxy.core.stage import Origin
from strangler_proxy.health import HealthListener
from strangler_proxy.settings import WorkerSettings, data_urls
from strangler_proxy.store import Store, open_store
from strangler_proxy.sync import metrics
from strangler_proxy.sync.ends import both_ends
from strangler_proxy.sync.link import first_line
from strangler_proxy.sync.paused import PausedStream
from strangler_proxy.sync.recovery import recover
from strangler_proxy.sync.stream import Stream
from strangler_proxy.sync.work import Operations, data_urls_of

CLAIM_S = 0.1
STREAMS_S = 1.0
RECOVER_S = 1.0
LEASE_S = 4.0
RENEW_S = 1.0
_AWAY_S = 1.0
_OPERATIONS_AT_ONCE = 4
_LEAVE_S = 8.0
_FRESH_S = 15.0

log = structlog.get_logger()


class Worker:
    """One worker process: `run` until `stop` is set. Several may run on one control database."""

    def __init__(self, store: Store, urls: Mapping[str, str], settings: WorkerSettings) -> None:
        self.stop = asyncio.Event()
        self._store = store
        self._urls = urls
        self._settings = settings
        self._name = settings.name
        self._operations = Operations(
            store.operations,
            store.flags,
            store.sync,
            store.pauses,
            store.manifests,
            urls,
            worker=self._name,
            deadline_s=settings.cutover_deadline_s,
        )
        self._running: set[asyncio.Task[Any]] = set()
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._paused: dict[str, Pause] = {}  # how each stream was begun
        self._renewed: dict[str, float] = {}
        self._recovered: set[str] = set()
        self._cutovers_seen: dict[str, float] = {}
        self._recovering: dict[str, asyncio.Task[None]] = {}
        self._store_seen_at = 0.0

    def why_not_ready(self) -> str:
        """Empty while the control database answers."""
        return "" if time.monotonic() - self._store_seen_at < _FRESH_S else "the control database does not answer"

    async def run(self) -> None:
        """Claim, stream and recover until `stop`; then let operations end and stop the streams."""
        log.info("worker.started", worker=self._name, databases=sorted(self._urls))
        loops = [
            asyncio.create_task(self._for_ever("claim", self._claim, CLAIM_S)),
            asyncio.create_task(self._for_ever("streams", self._keep_streams, STREAMS_S)),
            asyncio.create_task(self._for_ever("recovery", self._recover_all, RECOVER_S)),
        ]
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({stopping, *loops}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(stopping, loops[0])
            if self._running:
                await asyncio.wait(self._running, timeout=_LEAVE_S)
            await _end(*loops[1:], *self._streams.values(), *self._running, *self._recovering.values())
            log.info("worker.stopped", worker=self._name)
        for loop in loops:
            if not loop.cancelled() and (error := loop.exception()):
                raise error

    async def _for_ever(self, what: str, work: Any, pause_s: float) -> None:
        """Do a piece of work again and again; a database that is away is waited for."""
        while True:
            try:
                await work()
                self._store_seen_at = time.monotonic()
            except StoreUnavailable as error:
                log.warning("worker.store_away", loop=what, error=error.message)
                await asyncio.sleep(_AWAY_S)
            await asyncio.sleep(pause_s)

    async def _claim(self) -> None:
        self._running = {task for task in self._running if not task.done()}
        if len(self._running) >= _OPERATIONS_AT_ONCE:
            return
        operation = await self._store.operations.claim(self._name)
        if operation is not None:
            self._spawn(self._operations.perform(operation))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_noted)
        self._running.add(task)

    async def _keep_streams(self) -> None:
        """A stream for every wanted flag whose lease is ours; a lease that was lost ends the stream."""
        wanted = set(await self._store.sync.wanted())
        paused = await self._store.pauses.paused()
        for flag in [
            flag
            for flag, stream in self._streams.items()
            if flag not in wanted or stream.done() or paused.get(flag) != self._paused.get(flag)
        ]:
            await self._end_stream(flag)
        for flag in sorted(wanted):
            if time.monotonic() - self._renewed.get(flag, float("-inf")) < RENEW_S and flag in self._streams:
                continue
            if await self._store.sync.lease(f"stream:{flag}", self._name, LEASE_S):
                self._renewed[flag] = time.monotonic()
                if flag not in self._streams:
                    await self._begin_stream(flag, paused.get(flag))
            elif flag in self._streams:
                log.warning("worker.stream_lease_lost", flag=flag)
                await self._end_stream(flag)
        metrics.STREAMS.set(len(self._streams))

    async def _begin_stream(self, flag: str, pause: Pause | None) -> None:
        try:
            manifest = await self._store.manifests.manifest(flag)
            urls = data_urls_of(manifest, self._urls)
        except StoreUnavailable:
            raise
        except StranglerError as error:
            log.error("worker.stream_refused", flag=flag, error=error.message)
            return
        task = asyncio.create_task(self._stream(manifest, urls, pause).run())
        task.add_done_callback(_noted)
        self._streams[flag] = task
        if pause is not None:
            self._paused[flag] = pause
        log.info("worker.stream_begun", flag=flag, paused=pause is not None)

    def _stream(self, manifest: Manifest, urls: Mapping[Origin, str], pause: Pause | None) -> Stream | PausedStream:
        store = self._store
        if pause is not None:
            return PausedStream(manifest, urls, store.sync, store.pauses, pause, worker=self._name)
        return Stream(
            manifest,
            urls,
            store.flags,
            store.sync,
            store.pauses,
            worker=self._name,
            batch_target_s=self._settings.batch_target_ms / 1000,
        )

    async def _end_stream(self, flag: str) -> None:
        await _end(self._streams.pop(flag))
        self._paused.pop(flag, None)
        log.info("worker.stream_ended", flag=flag)

    async def _recover_all(self) -> None:
        """One look at every flag, each on its own: a database that is away keeps only its own flag waiting."""
        for flag in await self._store.sync.wanted():
            if flag not in self._recovering or self._recovering[flag].done():
                self._recovering[flag] = asyncio.create_task(self._recover(flag))

    async def _recover(self, flag: str) -> None:
        try:
            manifest = await self._store.manifests.manifest(flag)
            urls = data_urls_of(manifest, self._urls)
            async with both_ends(manifest, urls, f"strangler recovery {flag}"[:63]) as both:
                at_start = flag not in self._recovered
                await recover(
                    both,
                    urls,
                    self._store.flags,
                    by=self._name,
                    at_start=at_start,
                    seen=self._cutovers_seen,
                )
            self._recovered.add(flag)
        except (StranglerError, psycopg.Error) as error:
            log.debug("worker.recovery_delayed", flag=flag, error=first_line(error))


def run(settings: WorkerSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises DeclarationError for settings that do not fit."""
    logging.configure("strangler-worker")
    urls = data_urls()
    if not urls:
        raise DeclarationError(["no STRANGLER_DATA_URL__NAME is set: there is no data database to work on"])
    asyncio.run(_run(settings, urls))


async def _run(settings: WorkerSettings, urls: Mapping[str, str]) -> None:
    store = open_store(settings.database_url, application="strangler-worker", size=6)
    worker = Worker(store, urls, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop.set)
    health = HealthListener(ready=worker.why_not_ready, metrics=lambda: generate_latest().decode())
    try:
        if settings.worker_listen:
            host, _, port = settings.worker_listen.rpartition(":")
            if not port.isdigit():
                raise DeclarationError([f'STRANGLER_WORKER_LISTEN: "{settings.worker_listen}" is not HOST:PORT'])
            await health.listen(host.strip("[]") or "0.0.0.0", int(port))
        await worker.run()
    finally:
        await health.close()
        await store.close()


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)  # what a task failed by was said when it ended


def _noted(task: asyncio.Task[Any]) -> None:
    """A task that ends by an error says so; its work is claimed or begun again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("worker.task_failed", error=repr(error))
