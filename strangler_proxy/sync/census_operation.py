"""The operation behind `strangler sync census`: set the mode where that is asked, then say who was seen where."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strangler_proxy.core.census import Access, Counting, Mode, Movement
from strangler_proxy.core.census_allow import allowed
from strangler_proxy.core.census_report import Census, verdict
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard, Operation, SyncBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.census import counting, look, movements, processes_since, seen_since
from strangler_proxy.sync.census_document import side_document
from strangler_proxy.sync.census_mode import set_mode, table_names
from strangler_proxy.sync.census_sampling import sample
from strangler_proxy.sync.cutover import Outcome, Step
from strangler_proxy.sync.ends import READ_TIMEOUT_S
from strangler_proxy.sync.link import Link, close, connect, within

STEP = "census"
"""Name of the steps that carry one side's census each, as JSON."""

MAX_SAMPLE_S = 600.0

LOOK_BACK = dt.timedelta(days=1)
"""Code that read so lately is taken to read still."""

LINES = 10
_MODE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an operation's arguments say. `mode`, `triggers`, `allow`: None leaves them as they are."""

    sides: tuple[Origin, ...]
    mode: Mode | None
    triggers: bool | None
    allow: tuple[str, ...] | None
    since: dt.datetime | None
    sample_s: float
    confirmed: bool

    @classmethod
    def parse(cls, args: Mapping[str, str]) -> Asked:
        """Read the arguments; the control plane has looked at them before."""
        return cls(
            sides=(Origin(args["side"]),) if args.get("side") else tuple(Origin),
            mode=Mode(args["mode"]) if args.get("mode") else None,
            triggers=None if "triggers" not in args else args["triggers"] == "yes",
            allow=tuple(json.loads(args["allow"])) if "allow" in args else None,
            since=dt.datetime.fromisoformat(args["since"]) if args.get("since") else None,
            sample_s=min(float(args.get("sample_s", "0")), MAX_SAMPLE_S),
            confirmed=args.get("confirmed") == "yes",
        )

    @property
    def changes(self) -> bool:
        """Is the way of counting to be changed?"""
        return any(value is not None for value in (self.mode, self.triggers, self.allow))

    def applied_to(self, known: Counting) -> Counting:
        """How a side is counted from now on."""
        return Counting(
            mode=known.mode if self.mode is None else self.mode,
            triggers=known.triggers if self.triggers is None else self.triggers,
            allow=known.allow if self.allow is None else self.allow,
        )


async def take_census(
    manifest: Manifest,
    urls: Mapping[Origin, str],
    flags: FlagBoard,
    board: SyncBoard,
    operation: Operation,
    *,
    step: Step,
) -> Outcome:
    """One side after the other; a side whose database is away is said to be. Raises DataUnavailable while setting."""
    asked = Asked.parse(operation.args)
    flag, _ = await flags.flag(manifest.flag)
    streams = manifest.flag in await board.wanted()
    said: list[str] = []
    for side in asked.sides:
        link = await connect(urls[side], application=f"strangler census {manifest.flag}"[:63])
        try:
            if asked.changes:
                known = await within(READ_TIMEOUT_S, counting(link, manifest.flag), link)
                wanted = asked.applied_to(known)
                if wanted.mode is Mode.REFUSE and not asked.confirmed:
                    broken = await within(READ_TIMEOUT_S, _would_break(link, manifest, side, known, wanted), link)
                    if broken:
                        return Outcome(status="refused", detail=broken)
                await within(_MODE_TIMEOUT_S, set_mode(link, manifest, side, wanted, stream_runs=streams), link)
            taken = _of_side(link, manifest, side, flag.owner, asked, streams=streams)
            census = await within(READ_TIMEOUT_S + asked.sample_s, taken, link)
        finally:
            await close(link)
        await step(STEP, json.dumps(side_document(census)))
        said += verdict(census)[:1]
    return Outcome(status="done", detail="\n".join(said))


async def _would_break(link: Link, manifest: Manifest, side: Origin, known: Counting, wanted: Counting) -> str:
    """Why refusing would hurt: nobody has counted yet, or these read now and are not allowed; empty otherwise."""
    flag, confirm = manifest.flag, f"--confirm {manifest.flag}"
    if known.since is None or known.mode is Mode.OFF:
        return (
            f"nobody has counted at {side.value} yet, so nobody knows what would break: "
            f"strangler sync census {flag} --mode log --side {side.value}"
        )
    row: Any = await (await link.execute(b"SELECT clock_timestamp()")).fetchone()
    readers = [
        place
        for place in await seen_since(link, flag, row[0] - LOOK_BACK)
        if place.kind.is_code
        and place.access is Access.READ
        and not allowed(wanted.allow, table=place.table, kind=place.kind.value, name=place.name, place=place.place)
    ]
    lines = list(dict.fromkeys(f"{place.who} reads {place.table}" for place in readers))
    if not lines:
        return ""
    more = [f"and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return "\n".join(
        [*lines[:LINES], *more, f"these would fail: --allow PATTERN lets a place read, {confirm} all fail"]
    )


async def _of_side(
    link: Link, manifest: Manifest, side: Origin, owner: Origin, asked: Asked, *, streams: bool
) -> Census:
    tables = table_names(manifest, side)
    known = await counting(link, manifest.flag)
    hidden = 0
    moved: tuple[Movement, ...] = ()
    if known.since is not None:
        if known.mode is not Mode.OFF:
            hidden = await sample(link, manifest.flag, tables, asked.sample_s)
            await look(link, manifest.flag, tables, stream_runs=streams)
        moved = await movements(link, manifest.flag, tables, asked.since)
    row: Any = await (await link.execute(b"SELECT clock_timestamp()")).fetchone()
    since = max((each for each in (asked.since, known.since) if each is not None), default=row[0])
    return Census(
        flag=manifest.flag,
        side=side,
        owner=owner,
        counting=known,
        since=since,
        places=tuple(await seen_since(link, manifest.flag, since)) if known.since is not None else (),
        processes=tuple(await processes_since(link, since)),
        movements=moved,
        hidden=hidden,
        stream_runs=streams,
    )
