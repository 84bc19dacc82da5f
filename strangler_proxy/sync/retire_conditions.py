"""What the databases say of a flag that is to retire: looked at all at once, changed nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from strangler_proxy.core.census import Mode, Place
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.retire import VERIFIED_WITHIN_S, Condition
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.census import counting, seen_since
from strangler_proxy.sync.ends import Both
from strangler_proxy.sync.install import fence_triggers, trigger_states
from strangler_proxy.sync.link import Link
from strangler_proxy.sync.ownership import read_grants
from strangler_proxy.sync.record import open_records
from strangler_proxy.sync.retire_tables import foreign_keys
from strangler_proxy.sync.statements import statement

_PLACES_NAMED = 5


async def conditions_of_data(
    both: Both, flag: Flag, *, after_days: float, without_census: bool
) -> tuple[Condition, ...]:
    """Every condition that only the databases can tell, met or not."""
    old = both.links[Origin.MONOLITH]
    found = [
        *await _ownership(both, flag),
        await _verification(both, old),
        await _census(old, flag.key, after_days=after_days, waived=without_census),
    ]
    if not both.manifest.keep_copy:
        found += [*_split(both), *await _rights(both, old)]
    return tuple(found)


async def _ownership(both: Both, flag: Flag) -> list[Condition]:
    key = flag.key
    grants = await read_grants(both.links, key)
    if grants is None:
        return [
            Condition(
                met=False, says="there is no ownership record beside the data", command=f"strangler sync start {key}"
            )
        ]
    new, old = grants[Origin.EXTRACTED], grants[Origin.MONOLITH]
    right = new.open and not old.open and new.epoch == old.epoch == flag.owner_epoch
    found = [
        Condition(
            met=right,
            says=f"extracted is {'open' if new.open else 'closed'} at epoch {new.epoch}, "
            f"the monolith {'open' if old.open else 'closed'} at epoch {old.epoch}",
            command=f"strangler sync status {key}",
        )
    ]
    for link in both.links.values():
        found += [
            Condition(met=False, says=f"cutover {each.plan.cutover_id} is {each.status}", command="strangler watch")
            for each in await open_records(link, key)
        ]
    for moved in both.layout.tables:
        states = await trigger_states(both.links[Origin.MONOLITH], moved, Origin.MONOLITH)
        if any(states.get(trigger) != "A" for trigger in fence_triggers(moved, Origin.MONOLITH)):
            found.append(
                Condition(met=False, says=f"table {moved.name!r} has no fence", command=f"strangler sync start {key}")
            )
    return found


async def _verification(both: Both, old: Link) -> Condition:
    key = both.manifest.flag
    given = {"flag": key, "source": Origin.EXTRACTED.value}
    row = await (await old.execute(statement("retire", "verified_age"), given)).fetchone()
    age, stuck = (None, 0) if row is None else row
    if stuck:
        return Condition(met=False, says=f"{stuck} keys are stuck", command=f"strangler sync status {key}")
    if age is None:
        return Condition(
            met=False, says="the copy in the monolith was never found equal", command=f"strangler sync verify {key}"
        )
    return Condition(
        met=age <= VERIFIED_WITHIN_S,
        says=f"the copy was found equal {age / 3600:.1f} h ago, needed are less than {VERIFIED_WITHIN_S / 3600:.0f} h",
        command=f"strangler sync verify {key}",
    )


async def _census(old: Link, flag: str, *, after_days: float, waived: bool) -> Condition:
    """Nobody read or wrote the old tables, and somebody was counting all that time."""
    row = await (await old.execute(statement("retire", "clock"))).fetchone()
    now: dt.datetime = row[0] if row else dt.datetime.now(dt.UTC)
    since = now - dt.timedelta(days=after_days)
    places = [each for each in await seen_since(old, flag, since) if each.kind.is_user and not _is_toolkit(each)]
    if places:
        return Condition(
            met=False,
            says=f"seen at the old tables in the last {after_days:g} days: {_named(places)}",
            command=f"strangler sync census {flag}",
        )
    known = await counting(old, flag)
    if known.mode is Mode.OFF and not waived:
        return Condition(
            met=False,
            says="the census was not on: nobody knows who still reads the old tables",
            command=f"strangler sync census {flag}, or --without-census",
        )
    if known.mode is not Mode.OFF and known.since is not None and known.since > since and not waived:
        days = (now - known.since).total_seconds() / 86_400
        return Condition(
            met=False,
            says=f"the census counts for {days:.1f} days, needed are {after_days:g}",
            command=f"strangler retire {flag} --dry-run --after-days {int(days)}, or --without-census",
        )
    if known.mode is Mode.OFF:
        return Condition(met=True, says="the census was not on; --without-census waives it")
    return Condition(met=True, says=f"nobody was seen at the old tables in the last {after_days:g} days")


def _is_toolkit(place: Place) -> bool:
    return place.application.startswith("strangler ")


def _named(places: Sequence[Place]) -> str:
    said = [
        f"{each.kind.value} {each.name or each.application} {each.access.value}s {each.table}"
        + (f" ({each.place})" if each.place else "")
        for each in places[:_PLACES_NAMED]
    ]
    more = len(places) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def _split(both: Both) -> list[Condition]:
    """Tables of which some columns stay with the monolith cannot be set aside."""
    split = [moved.name for moved in both.layout.tables if moved.sides[Origin.MONOLITH].partial]
    if not split:
        return []
    return [
        Condition(
            met=False,
            says=f"{', '.join(split)}: some columns stay with the monolith, so the table cannot go",
            command="strangler apply, with `keep_copy = true` in [data], or with those columns moved away first",
        )
    ]


async def _rights(both: Both, old: Link) -> list[Condition]:
    schemas = sorted({moved.sides[Origin.MONOLITH].schema for moved in both.layout.tables})
    row = await (await old.execute(statement("retire", "may_create"), {"schemas": schemas})).fetchone()
    database = both.manifest.databases[Origin.MONOLITH]
    found = []
    if row is not None and not row[0]:
        found.append(f"make a schema in database {database!r}: GRANT CREATE ON DATABASE")
    if row is not None:
        found += [f"make views in schema {each!r}: GRANT CREATE ON SCHEMA" for each in row[1]]
    found += [
        f"drop the foreign key {key.name!r} of table {key.table!r}: GRANT its owner's role"
        for key, may in await foreign_keys(old, both.layout)
        if not may
    ]
    return [
        Condition(met=False, says=f"the worker's role may not {each}", command="psql, as the owner") for each in found
    ]
