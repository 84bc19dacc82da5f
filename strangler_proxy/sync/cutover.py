"""The cutover: preflight, intent, hold, fence, catch up, check, decide, open, release. Either direction.

Before *decide* every failure aborts, in one transaction at the source; after it there is only forward. Each step is a
transaction of `record.py`, so whoever comes after a coordinator that died goes on from what the databases say.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
import structlog

from strangler_proxy.core.errors import StoreUnavailable, StranglerError
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Operation, Pauses
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync import metrics, record
from strangler_proxy.sync.ends import Both, both_ends
from strangler_proxy.sync.hold import NotHeld, wait_until_held
from strangler_proxy.sync.link import DataUnavailable, first_line, within
from strangler_proxy.sync.ownership import read_grants, source_of
from strangler_proxy.sync.preflight import preflight
from strangler_proxy.sync.record import CutoverLost, Plan, Record
from strangler_proxy.sync.recovery import abort_for_ever, complete, release_aborted, restore_vacuum
from strangler_proxy.sync.touched import touched_keys
from strangler_proxy.sync.verify import compare

FENCE_LOCK_TIMEOUT_MS = 150
PREFLIGHT_TIMEOUT_S = 20.0
_POLL_S = 0.005

Step = Callable[[str, str], Awaitable[None]]
"""Tells the person who watches: name of the step and a sentence."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an operation ended: `done`, `refused`, `aborted` or `failed`, and why."""

    status: str
    detail: str


class Refused(Exception):
    """Preflight found reasons; one a line."""


class Rehearsed(Exception):
    """A rehearsal got as far as the decision, which it does not take."""


_ABORTS = (CutoverLost, NotHeld, StoreUnavailable, DataUnavailable, psycopg.Error, TimeoutError)


class Cutover:
    """One cutover operation of one flag."""

    def __init__(
        self,
        manifest: Manifest,
        urls: Mapping[Origin, str],
        flags: FlagBoard,
        pauses: Pauses,
        *,
        worker: str,
        deadline_s: float = 3.0,
        step: Step,
    ) -> None:
        self._manifest = manifest
        self._urls = urls
        self._flags = flags
        self._pauses = pauses
        self._worker = worker
        self._deadline_s = deadline_s
        self._step = step
        self._held_at = 0.0
        self._rehearsal = False

    async def run(self, operation: Operation) -> Outcome:
        """Do it, or go on from where an earlier claim of the same operation was left.

        With the argument `rehearse` everything up to the check is done, with the hold, and then aborted: `done` says
        how long requests were held. A rehearsal never decides, so whatever interrupts it aborts it. With `preflight`
        nobody is held: everything that refuses is told, with what the control plane knew (`missing`).
        """
        self._rehearsal = operation.args.get("rehearse") == "yes"
        try:
            async with both_ends(self._manifest, self._urls, f"strangler cutover {self._manifest.flag}"[:63]) as both:
                known = await self._earlier(both, operation.id)
                outcome = await (self._begin(both, operation) if known is None else self._resume(both, known))
        except (StranglerError, psycopg.Error) as error:
            outcome = Outcome(
                status="failed", detail=error.message if isinstance(error, StranglerError) else str(error)
            )
        rehearsed = self._rehearsal and outcome.status == "done"
        metrics.CUTOVERS.labels(self._manifest.flag, "rehearsed" if rehearsed else outcome.status).inc()
        log.info("cutover.ended", flag=self._manifest.flag, status=outcome.status, detail=outcome.detail)
        return outcome

    async def _earlier(self, both: Both, operation_id: int) -> Record | None:
        for link in both.links.values():
            found = await within(
                PREFLIGHT_TIMEOUT_S, record.record_of_operation(link, self._manifest.flag, operation_id), link
            )
            if found is not None:
                return found
        return None

    async def _resume(self, both: Both, known: Record) -> Outcome:
        """The worker before us died: decided means forward, everything else means abort."""
        await self._step("resume", f"the record is {known.status}")
        match known.status:
            case "holding":
                return await self._abort_or_forward(known, "the worker that ran this cutover is gone")
            case "committed":
                return await self._forward(both, known)
            case "done":
                return Outcome(status="done", detail=f"epoch={known.epoch}")
            case _:
                await release_aborted(both, self._flags, known.plan.cutover_id, by=self._worker)
                return Outcome(status="aborted", detail="the worker that ran this cutover was gone")

    async def _begin(self, both: Both, operation: Operation) -> Outcome:
        target = Origin(operation.args.get("to", Origin.EXTRACTED.value))
        try:
            missing = operation.args.get("missing", "").splitlines()
            said = await within(PREFLIGHT_TIMEOUT_S, self._preflight(both, target, missing), *both.all)
        except Refused as refused:
            return Outcome(status="refused", detail=str(refused))
        if operation.args.get("preflight") == "yes":
            await restore_vacuum(both)
            return Outcome(status="done", detail=said)
        if said:
            await self._step("preflight", said)
        plan = Plan(
            cutover_id=str(uuid.uuid4()),
            operation_id=operation.id,
            flag=operation.flag,
            source=target.other,
            stage=operation.args.get("stage", ""),
            weight=int(operation.args.get("weight", "0") or 0),
            actor=operation.by,
            reason=operation.reason,
        )
        try:
            intended = await record.intend(both.links[plan.source], plan, self._deadline_s)
        except CutoverLost as lost:
            return Outcome(status="refused", detail=str(lost))
        began = time.monotonic()
        try:
            await self._step("intent", f"cutover={plan.cutover_id} epoch={intended.epoch}")
            async with asyncio.timeout(self._deadline_s):
                await within(self._deadline_s, self._until_decided(both, intended, began), *both.all)
        except Rehearsed:
            return await self._end_rehearsal(intended)
        except _ABORTS as error:
            return await self._abort_or_forward(intended, _reason(error))
        return await self._forward(both, intended)

    async def _end_rehearsal(self, intended: Record) -> Outcome:
        outcome = await self._abort_or_forward(intended, "a rehearsal: everything up to the decision went well")
        if outcome.status != "aborted":
            return outcome
        return Outcome(status="done", detail=f"rehearsed held_ms={_milliseconds(self._held_at)}: nothing was moved")

    async def _preflight(self, both: Both, target: Origin, missing: Sequence[str]) -> str:
        grants = await read_grants(both.links, self._manifest.flag)
        source = None if grants is None else source_of(grants)
        if source is target:
            raise Refused(f"{target.value} is the owner already")
        problems = await preflight(self._manifest, both.layout, both.links, target.other, self._flags)
        paused = (await self._pauses.paused()).get(self._manifest.flag)
        if paused is not None:
            problems = [f"the stream is {paused}: strangler sync resume {self._manifest.flag}", *problems]
        if missing or problems:
            raise Refused("\n".join([*missing, *problems]))
        return f"{target.other.value} -> {target.value}: nothing refuses"

    async def _until_decided(self, both: Both, intended: Record, began: float) -> None:
        plan = intended.plan
        source = both.links[plan.source]
        self._held_at = time.monotonic()
        revision = await self._flags.hold(plan.flag, plan.cutover_id, intended.deadline_at, by=self._worker)
        left = self._deadline_s - (time.monotonic() - began)
        await self._step("hold", await wait_until_held(self._flags, plan.flag, revision, within_s=left))
        tries = await self._fence(both, intended, began)
        fenced_at = time.monotonic()
        await self._step("fence", f"tries={tries} at_ms={_milliseconds(self._held_at)}")
        await record.wake(source, plan.flag)
        while not await record.caught_up(source, plan.flag):  # noqa: ASYNC110 - the database knows
            await asyncio.sleep(_POLL_S)
        await self._step("catch up", f"ms={_milliseconds(fenced_at)}")
        checked_at = time.monotonic()
        await self._check(both, plan.source)
        await self._step("check", f"ms={_milliseconds(checked_at)}")
        if self._rehearsal:
            raise Rehearsed
        await record.decide(source, both.layout, intended)

    async def _fence(self, both: Both, intended: Record, began: float) -> int:
        tries, source, order = 0, both.links[intended.plan.source], list(both.layout.tables)
        while True:
            tries += 1
            try:
                await record.fence(source, both.layout, intended, order, lock_timeout_ms=FENCE_LOCK_TIMEOUT_MS)
                return tries
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if time.monotonic() - began > self._deadline_s - 0.3:
                    raise CutoverLost(f"no lock in {tries} tries: {first_line(error)}") from error
                await asyncio.sleep(random.uniform(0.01, 0.06))

    async def _check(self, both: Both, source: Origin) -> None:
        """Neither side moves now: what is not equal here would be lost."""
        touched = await touched_keys(both.links[source.other], self._manifest.flag)
        problems = await compare(both.layout, both.links, source, touched)
        if problems:
            raise CutoverLost("the copy is not equal: " + "; ".join(problems))
        await record.advance_sequences(both.links, both.layout, source)

    async def _abort_or_forward(self, intended: Record, reason: str) -> Outcome:
        """After a failure nobody knows whether the decision was written: the record says it."""
        while True:
            try:
                async with both_ends(self._manifest, self._urls, "strangler cutover abort") as both:
                    return await self._abort(both, intended, reason)
            except (DataUnavailable, psycopg.Error) as error:
                log.warning("cutover.abort_delayed", flag=self._manifest.flag, error=first_line(error))
                await asyncio.sleep(random.uniform(0.2, 0.5))

    async def _abort(self, both: Both, intended: Record, reason: str) -> Outcome:
        await abort_for_ever(both, intended, reason)
        status = await record.status_of(both.links[intended.plan.source], intended.plan.cutover_id)
        if status in ("committed", "done"):
            return await self._forward(both, intended)
        await release_aborted(both, self._flags, intended.plan.cutover_id, by=self._worker)
        held = f" held_ms={_milliseconds(self._held_at)}" if self._held_at else ""
        await self._step("abort", reason + held)
        return Outcome(status="aborted", detail=reason)

    async def _forward(self, both: Both, decided: Record) -> Outcome:
        await self._step("decide", f"epoch={decided.epoch}")
        released_at = await complete(self._manifest, self._urls, self._flags, decided, by=self._worker, connected=both)
        await self._step("open", f"{decided.plan.target.value} epoch={decided.epoch}")
        detail = f"epoch={decided.epoch}"
        if self._held_at:
            held_s = released_at - self._held_at
            metrics.HOLD.labels(self._manifest.flag).observe(held_s)
            detail = f"held_ms={round(held_s * 1000)} epoch={decided.epoch}"
        await self._step("release", detail)
        return Outcome(status="done", detail=detail)


def _milliseconds(since: float) -> int:
    return round((time.monotonic() - since) * 1000)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "not decided before the deadline"
    if isinstance(error, StranglerError):
        return error.message
    return first_line(error) or type(error).__name__
