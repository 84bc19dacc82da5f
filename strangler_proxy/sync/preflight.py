"""What would refuse a cutover, all of it at once, before anybody is held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import psycopg

from strangler_proxy.core.flip import WAITED_LAG_S
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.ports import FlagBoard
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.install import ALWAYS_ON, FENCES, all_trigger_states, fence_triggers
from strangler_proxy.sync.layout import Layout
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.pace import Mode
from strangler_proxy.sync.statements import statement
from strangler_proxy.sync.vacuum import switch_off

LONGEST_LAG_S = 1.0
LONGEST_WRITER_S = 1.0
VERIFIED_WITHIN_S = 24 * 3600.0
STATUS_WITHIN_S = 5.0
_LOOK_AGAIN_S = 0.1


async def preflight(
    manifest: Manifest, layout: Layout, links: Mapping[Origin, Link], source: Origin, flags: FlagBoard
) -> list[str]:
    """Every reason to refuse, one sentence each; empty: go. Turns autovacuum off for the tables, on both sides."""
    await _settle(manifest, links, source)
    problems = await _state(manifest, links, source)
    for origin in Origin:
        problems += await _triggers(layout, links[origin], origin, closed=origin is not source)
    problems += await _writers(layout, links[source], source)
    if manifest.idempotency_table is not None and layout.named(manifest.idempotency_table) is None:
        problems.append(f"idempotency table {manifest.idempotency_table!r} does not move with the flag")
    problems += await _proxies(flags)
    if problems:
        return problems
    for origin in Origin:
        try:
            await switch_off(links[origin], layout, origin)
        except psycopg.errors.LockNotAvailable as error:
            database = manifest.databases[origin]
            problems.append(f"autovacuum of a table in database {database!r} cannot be turned off: {error}".strip())
    return problems


async def _settle(manifest: Manifest, links: Mapping[Origin, Link], source: Origin) -> None:
    """Wait, within bounds, while a stream that runs is further behind than a cutover allows, or has just begun."""
    flag = {"flag": manifest.flag, "source": source.value}
    until = time.monotonic() + WAITED_LAG_S
    while time.monotonic() < until:
        here = await (await links[source].execute(statement("preflight", "source"), flag)).fetchone()
        there = await (await links[source.other].execute(statement("preflight", "target"), flag)).fetchone()
        if here is None or there is None:
            return
        clock, through, mode, told_age_s = here[3], there[2], there[3], there[6]
        begins = mode == Mode.CATCH_UP.value and told_age_s <= STATUS_WITHIN_S
        lag_s = 0.0 if through is None else (clock - through).total_seconds()
        if not begins and (mode != Mode.LIVE.value or not LONGEST_LAG_S < lag_s <= WAITED_LAG_S):
            return
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _state(manifest: Manifest, links: Mapping[Origin, Link], source: Origin) -> list[str]:
    flag = {"flag": manifest.flag, "source": source.value}
    here = await (await links[source].execute(statement("preflight", "source"), flag)).fetchone()
    there = await (await links[source.other].execute(statement("preflight", "target"), flag)).fetchone()
    if here is None or there is None:
        return [f"flag {manifest.flag!r} was never prepared: strangler sync start {manifest.flag}"]
    _, epoch, is_open, clock, dirty = here
    target_open, target_epoch, through, mode, verified, verified_age_s, told_age_s, stuck = there
    problems: list[str] = []
    if not is_open or target_open or target_epoch > epoch:
        problems.append(f"{source.value} is not the owner: open {is_open}, epoch {epoch}; target open {target_open}")
    if mode != Mode.LIVE.value or told_age_s > STATUS_WITHIN_S:
        said = "no stream" if mode is None else f"the stream is {mode}, heard of {told_age_s:.1f} s ago"
        problems.append(f"{said}, not live: strangler sync status {manifest.flag}")
    lag_s = None if through is None else (clock - through).total_seconds()
    if lag_s is None or lag_s > LONGEST_LAG_S:
        said = "unknown" if lag_s is None else f"{lag_s:.2f} s"
        problems.append(f"lag is {said}, more than {LONGEST_LAG_S:g} s; {dirty} dirty keys wait")
    if stuck:
        problems.append(f"{stuck} keys are stuck: strangler sync status {manifest.flag}")
    if not verified or verified_age_s is None:
        problems.append("the copy is not verified: a verification found differences, or none has ended yet")
    elif verified_age_s > VERIFIED_WITHIN_S:
        problems.append(f"the last verification is stale: {verified_age_s / 3600:.0f} h old, more than 24 h")
    return problems


async def _triggers(layout: Layout, link: Link, origin: Origin, *, closed: bool) -> list[str]:
    problems: list[str] = []
    for moved, states in await all_trigger_states(link, layout, origin):
        wanted = dict.fromkeys(ALWAYS_ON, "A")
        wanted |= dict.fromkeys(fence_triggers(moved, origin), "A" if closed else "D")
        problems += [
            f"trigger {trigger} on table {moved.sides[origin].name!r} is {states.get(trigger, 'missing')}, "
            f"not {state}: strangler sync resume {layout.flag}"
            for trigger, state in wanted.items()
            if states.get(trigger) != state
        ]
        problems += [
            f"trigger {trigger} on table {moved.sides[origin].name!r} is left over: strangler sync resume {layout.flag}"
            for trigger in FENCES
            if trigger in states and trigger not in wanted
        ]
    return problems


async def _writers(layout: Layout, source: Link, origin: Origin) -> Sequence[str]:
    given = {"tables": [moved.sides[origin].regclass for moved in layout.tables], "seconds": LONGEST_WRITER_S}
    rows = await (await source.execute(statement("preflight", "long_writers"), given)).fetchall()
    return [
        f"session {pid} ({application or user}, {state}) has held table {table} for {seconds:.1f} s"
        for pid, application, user, state, seconds, table in rows
    ]


async def _proxies(flags: FlagBoard) -> list[str]:
    return [
        f"proxy {proxy.proxy_id} refused the newest table: {proxy.refused_table}"
        for proxy in await flags.live_proxies()
        if proxy.refused_table
    ]
