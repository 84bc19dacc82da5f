"""What a worker does for operations: claim one, do it under its lease, tell each step, end it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import psycopg
import structlog

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.errors import StoreUnavailable, StranglerError, UnknownName
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Manifests, Operation, OperationQueue, Pauses, SyncBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import metrics
from strangler_proxy.sync.census_operation import take_census
from strangler_proxy.sync.cutover import Cutover, Outcome
from strangler_proxy.sync.drift import Drifted
from strangler_proxy.sync.ends import READ_TIMEOUT_S
from strangler_proxy.sync.first_copy import rows_in_the_way
from strangler_proxy.sync.install import install
from strangler_proxy.sync.link import DataUnavailable, Link, close, connect, within
from strangler_proxy.sync.ownership import open_ownership, read_grants
from strangler_proxy.sync.paused import mend
from strangler_proxy.sync.promotion import promote
from strangler_proxy.sync.record import open_records
from strangler_proxy.sync.references import references_of
from strangler_proxy.sync.retire import retire
from strangler_proxy.sync.retire_drop import drop_tables
from strangler_proxy.sync.retire_undo import undo
from strangler_proxy.sync.trouble import said
from strangler_proxy.sync.verify_operation import verify_now

RENEW_S = 3.0
FINISH_TRIES_S = 0.5
_STEPS_WAITING = 100
_INSTALL_TIMEOUT_S = 60.0

log = structlog.get_logger()


class Steps:
    """Tells steps in order from the background, so that nobody is held for longer because of telling."""

    def __init__(self, queue: OperationQueue, operation: Operation, worker: str) -> None:
        self._queue = queue
        self._operation = operation
        self._worker = worker
        self._waiting: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue(_STEPS_WAITING)
        self._teller = asyncio.create_task(self._tell_all())

    async def __call__(self, name: str, detail: str) -> None:
        """Have a step told; dropped where a hundred wait."""
        if self._waiting.qsize() < _STEPS_WAITING - 1:
            self._waiting.put_nowait((name, detail))

    async def end(self) -> None:
        """Wait until all are told, or the store is away."""
        self._waiting.put_nowait(None)
        await self._teller

    async def cancel(self) -> None:
        """Tell nothing more."""
        self._teller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._teller

    async def _tell_all(self) -> None:
        while (step := await self._waiting.get()) is not None:
            try:
                await self._queue.step(self._operation.id, self._worker, *step)
            except StoreUnavailable:
                log.debug("operation.step_untold", operation=self._operation.id, step=step[0])


class Operations:
    """Does operations of all kinds. `urls` are the data databases by name."""

    def __init__(
        self,
        queue: OperationQueue,
        flags: FlagBoard,
        board: SyncBoard,
        pauses: Pauses,
        manifests: Manifests,
        urls: Mapping[str, str],
        *,
        worker: str,
        deadline_s: float = 3.0,
    ) -> None:
        self._queue = queue
        self._flags = flags
        self._board = board
        self._pauses = pauses
        self._manifests = manifests
        self._urls = urls
        self._worker = worker
        self._deadline_s = deadline_s

    async def perform(self, operation: Operation) -> Outcome:
        """Do a claimed operation to its end. Raises StoreUnavailable only while nothing was begun."""
        steps = Steps(self._queue, operation, self._worker)
        renewing = asyncio.create_task(self._renew(operation.id))
        log.info("operation.claimed", operation=operation.id, kind=operation.kind, flag=operation.flag)
        try:
            outcome = await self._do(operation, steps)
            await steps.end()
            await self._finish(operation, outcome)
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            await steps.cancel()
        metrics.OPERATIONS.labels(operation.kind, outcome.status).inc()
        log.info("operation.ended", operation=operation.id, kind=operation.kind, status=outcome.status)
        return outcome

    async def _do(self, operation: Operation, steps: Steps) -> Outcome:
        try:
            manifest = await self._manifests.manifest(operation.flag)
            urls = data_urls_of(manifest, self._urls)
            match operation.kind:
                case "sync_start":
                    return await self._start(manifest, urls, operation, steps)
                case "sync_stop":
                    return await self._stop(manifest, urls)
                case "sync_resume":
                    return await self._resume(manifest, urls, operation)
                case "sync_verify":
                    repair = operation.args.get("repair") == "yes"
                    return await verify_now(manifest, urls, self._board, repair=repair, step=steps)
                case "promote_copy":
                    return await promote(manifest, urls, self._flags, self._board, operation, step=steps)
                case "sync_census":
                    return await take_census(manifest, urls, self._flags, self._board, operation, step=steps)
                case "retire":
                    return await retire(manifest, urls, self._flags, self._board, operation, step=steps)
                case "retire_undo":
                    return await undo(manifest, urls, self._flags, operation, step=steps)
                case "retire_drop":
                    return await drop_tables(manifest, urls, operation, step=steps)
                case "cutover":
                    cutover = Cutover(
                        manifest,
                        urls,
                        self._flags,
                        self._pauses,
                        worker=self._worker,
                        deadline_s=self._deadline_s,
                        step=steps,
                    )
                    return await cutover.run(operation)
                case other:
                    return Outcome(status="failed", detail=f"this worker does not know operation {other!r}")
        except UnknownName as error:
            return Outcome(status="failed", detail=error.message)
        except psycopg.Error as error:
            return Outcome(status="failed", detail=said(error))
        except StoreUnavailable:
            raise
        except StranglerError as error:
            return Outcome(status="failed", detail=error.message)

    async def _start(
        self, manifest: Manifest, urls: Mapping[Origin, str], operation: Operation, steps: Steps
    ) -> Outcome:
        links: dict[Origin, Link] = {}
        try:
            for origin in Origin:
                links[origin] = await connect(urls[origin], application=f"strangler start {manifest.flag}"[:63])
            if operation.args.get("replace") != "yes":
                there = await within(READ_TIMEOUT_S, rows_in_the_way(manifest, links), *links.values())
                if there:
                    return Outcome(status="refused", detail="\n".join(there))
            layout = await within(_INSTALL_TIMEOUT_S, install(manifest, links), *links.values())
            await steps("install", f"{len(layout.tables)} tables, capture and fence on both sides")
            references = await within(
                READ_TIMEOUT_S, references_of(manifest, links[Origin.MONOLITH]), links[Origin.MONOLITH]
            )
            for note in references.notes:
                await steps("reference", note)
            grants = await within(READ_TIMEOUT_S, read_grants(links, manifest.flag), *links.values())
        finally:
            await close(*links.values())
        ownership = None if grants is None else open_ownership(grants)
        await self._board.want(manifest.flag, True)
        if ownership is not None:
            await self._tell_first_grant(manifest.flag, ownership)
        return Outcome(status="done", detail="the stream is wanted: strangler sync status " + manifest.flag)

    async def _tell_first_grant(self, flag: str, ownership: Ownership) -> None:
        known, _ = await self._flags.flag(flag)
        if known.hold is None and known.owner_epoch < ownership.epoch:
            await self._flags.release(
                flag, ownership, stage=None, weight=None, by=self._worker, reason="the grant beside the data"
            )

    async def _stop(self, manifest: Manifest, urls: Mapping[Origin, str]) -> Outcome:
        for origin in Origin:
            link = await connect(urls[origin], application=f"strangler stop {manifest.flag}"[:63])
            try:
                if await within(READ_TIMEOUT_S, open_records(link, manifest.flag), link):
                    return Outcome(status="refused", detail="a cutover is under way: wait for its end")
            finally:
                await close(link)
        await self._board.want(manifest.flag, False)
        return Outcome(status="done", detail="the stream is not wanted any more; capture and fence stay")

    async def _resume(self, manifest: Manifest, urls: Mapping[Origin, str], operation: Operation) -> Outcome:
        links: dict[Origin, Link] = {}
        try:
            for origin in Origin:
                links[origin] = await connect(urls[origin], application=f"strangler resume {manifest.flag}"[:63])
            await within(_INSTALL_TIMEOUT_S, mend(manifest, links), *links.values())
        except Drifted as drifted:
            return Outcome(status="refused", detail="\n".join(drifted.problems))
        finally:
            await close(*links.values())
        over = await self._pauses.resume(manifest.flag, by=operation.by, reason=operation.reason)
        return Outcome(
            status="done",
            detail=("the stream goes on" if over else "the stream was not paused")
            + "; capture and fence are in place, and the copy is verified anew",
        )

    async def _renew(self, operation_id: int) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                if not await self._queue.renew(operation_id, self._worker):
                    log.warning("operation.lease_lost", operation=operation_id)
            except StoreUnavailable as error:
                log.warning("operation.lease_unrenewed", operation=operation_id, error=error.message)

    async def _finish(self, operation: Operation, outcome: Outcome) -> None:
        while True:
            try:
                await self._queue.finish(operation.id, self._worker, outcome.status, outcome.detail)
                return
            except StoreUnavailable:
                await asyncio.sleep(FINISH_TRIES_S)


def data_urls_of(manifest: Manifest, urls: Mapping[str, str]) -> dict[Origin, str]:
    """Connection strings of both sides. Raises DataUnavailable naming the setting that is missing."""
    missing = [name for name in manifest.databases.values() if name.lower() not in urls]
    if missing:
        raise DataUnavailable(
            f"flag {manifest.flag!r}: "
            + ", ".join(f"STRANGLER_DATA_URL__{name.upper()} is not set" for name in missing)
        )
    return {origin: urls[name.lower()] for origin, name in manifest.databases.items()}
