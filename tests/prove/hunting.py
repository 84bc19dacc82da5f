"""Twenty seeded bugs, each under the schedule that has to bring it to light; which of them were caught, as a table."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.prove.bugs import BUGS
from tests.prove.proof import Schedule, prove
from tests.prove.schedules import hunt, overtaken
from tests.prove.site import Plan
from tests.servers import ROOT

NO_BUG = ""
SECONDS = 75.0
LANES = 3

SCHEDULES: dict[str, Schedule] = {
    "decide_anything": hunt("failpoint=decide:before:stop", each=1),
    "fence_without_record": hunt("failpoint=fence:before:stop", each=1),
    "open_before_decide": hunt("failpoint=catch_up:after:kill", "failpoint=check:before:kill", each=1),
    "stale_applier": overtaken,
    "source_first": hunt("failpoint=commits:before:kill", each=1),
    "abort_after_commit": hunt("failpoint=open:after:kill", "failpoint=release:before:kill", each=1),
    "nobody_completes": hunt("failpoint=decide:after:kill", each=1),
    "no_fence": hunt("none", each=1),
}
"""The others show without a fault."""


@dataclass(frozen=True, kw_only=True)
class Hunted:
    """One bug, and what gave it away; empty: it was not caught."""

    name: str
    seen: str
    cutovers: int
    seconds: float


def hunt_bugs(names: Sequence[str], seed: int) -> list[Hunted]:
    """One site for each. Raises CalledProcessError where a bug cannot be seeded any more."""
    found = []
    for name in names:
        if name:
            code = f"from tests.prove.bugs import seed; seed({name!r})"
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
        found.append(asyncio.run(_hunt(name, seed + len(found))))
        each = found[-1]
        print(
            f"{each.name or '(no bug)':22} {each.seen or 'nothing found'} "
            f"[{each.cutovers} cutovers, {each.seconds:.0f} s]",
            flush=True,
        )
    return found


async def _hunt(name: str, seed: int) -> Hunted:
    plan = Plan(seed=seed, lanes=LANES, bug=name)
    outcome = await prove(plan, SECONDS, SCHEDULES.get(name, hunt("none", each=2)))
    violations = outcome.violations
    return Hunted(
        name=name,
        seen=violations[0][:150] if violations else "",
        cutovers=outcome.account.cutovers,
        seconds=outcome.seconds,
    )


def missed(found: Sequence[Hunted]) -> list[str]:
    """Names that were not caught; without a bug nothing may have been found."""
    wrong = [f"without a bug: {each.seen}" for each in found if not each.name and each.seen]
    return wrong + [each.name for each in found if each.name and not each.seen]


def chosen(words: Sequence[str]) -> list[str]:
    """The bugs named on the command line, or all of them after a run without any; `A..B`: by number."""
    names = list(BUGS)
    if not words:
        return [NO_BUG, *names]
    picked: list[str] = []
    for word in words:
        first, dots, last = word.partition("..")
        picked += names[int(first) - 1 : int(last)] if dots else [word]
    return picked
