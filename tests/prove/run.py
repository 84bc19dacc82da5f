"""`make prove`: cutovers under faults for some minutes, judged by the checker. SEED= and MINUTES= in the environment.

`python -m tests.prove.run --bugs` seeds each of the twenty bugs and says which are caught; `--directed` goes through
every step, before and after it, killed and stopped, in both directions.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.prove.bugs import BUGS
from tests.prove.checker import Verdict, check
from tests.prove.faulty_worker import STEPS
from tests.prove.rounds import Account, NotSettled, one_round, proving, ready, settled
from tests.prove.site import Site

FOCUS = {
    "no_fence": ["none"],
    "fence_reads_a_row": ["none"],
    "no_catch_up": ["none"],
    "no_check": ["none"],
    "never_turns": ["none"],
    "no_sequence": ["none"],
    "decide_anything": ["failpoint=decide:before:stop"],
    "fence_without_record": ["failpoint=fence:before:stop"],
    "insert_only": ["none"],
    "open_before_decide": ["failpoint=catch_up:after:kill", "failpoint=fence:after:kill"],
    "stale_applier": ["stop"],
    "source_first": ["kill", "line", "crash"],
    "not_in_a_snapshot": ["none"],
    "abort_after_commit": ["failpoint=decide:after:kill", "failpoint=open:before:kill"],
    "nobody_completes": ["failpoint=decide:after:kill"],
}
"""Which faults bring a seeded bug to light; others show without any."""


EQUAL_WITHIN_S = 30.0
"""After the last fault was healed."""


@dataclass
class Outcome:
    """One proof: what was done, what was found."""

    seed: int
    account: Account = field(default_factory=Account)
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0
    history: str = ""

    @property
    def violations(self) -> list[str]:
        """Everything that may not be."""
        return [*self.account.problems, *self.verdict.violations]


async def prove(
    *, seed: int, seconds: float, kinds: list[str] | None = None, bug: str = "", rounds: int = 1_000_000
) -> Outcome:
    """One proof on a site of its own; ends at the first problem, or when its time is over."""
    outcome, chance, began = Outcome(seed=seed), random.Random(seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="strangler-prove-"))
    site = await asyncio.to_thread(lambda: Site(folder, seed=seed, bug=bug))
    try:
        try:
            async with proving(site) as store:
                while time.monotonic() - began < seconds and outcome.account.rounds < rounds:
                    kind = kinds[outcome.account.rounds % len(kinds)] if kinds else ""
                    await one_round(site, store, chance, outcome.account, kind)
                late = await asyncio.to_thread(site.rest)
                outcome.account.problems += [f"client {name} never got an answer" for name in late]
                await settled(site, store)
                await ready(store)
                await asyncio.sleep(1.0)
        except NotSettled as error:
            outcome.account.problems.append(str(error))
            await asyncio.to_thread(site.rest, 5.0)
        if not outcome.account.problems:
            outcome.verdict = await _judge(site)
    finally:
        await asyncio.to_thread(site.close)
    outcome.seconds = time.monotonic() - began
    if outcome.violations and not bug:
        kept = Path(tempfile.gettempdir()) / f"strangler-prove-{seed}.jsonl"
        shutil.copy(site.history.path, kept)
        outcome.history = str(kept)
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


async def _judge(site: Site) -> Verdict:
    """The checker's verdict; both sides have time to be equal."""
    until = time.monotonic() + EQUAL_WITHIN_S
    while True:
        verdict = await asyncio.to_thread(check, site.history.path, site.urls())
        if not verdict.violations or time.monotonic() > until:
            return verdict
        await asyncio.sleep(1.0)


def directed() -> list[str]:
    """Every step, before and after it, killed and stopped; a cutover there and one back are two directions."""
    return [
        f"failpoint={step}:{when}:{fault}"
        for step in STEPS
        for when in ("before", "after")
        for fault in ("kill", "stop")
        for _ in range(2)
    ]


def tell(outcome: Outcome) -> None:
    """The account, for people."""
    account, verdict = outcome.account, outcome.verdict
    print(f"seed {outcome.seed}: {outcome.seconds:.0f} s, {account.rounds} cutovers ({_said(account.ends)})")
    print(f"  faults: {_said(account.faults)}")
    print(
        f"  operations: {verdict.operations}, acknowledged {verdict.acknowledged}, unknown {verdict.unknown}, "
        f"refused {verdict.refused}"
    )
    print(f"  violations: {len(outcome.violations)}")
    for each in outcome.violations[:20]:
        print(f"    {each}")
    if outcome.history:
        print(f"  again: make prove SEED={outcome.seed}; history: {outcome.history}; its end:")
        for line in Path(outcome.history).read_text().splitlines()[-12:]:
            print(f"    {line}")


async def mutation(seed: int) -> list[str]:
    """Seed each bug in turn; the names of those that were not caught."""
    missed = []
    for number, name in enumerate(BUGS):
        outcome = await prove(seed=seed + number, seconds=90, kinds=FOCUS.get(name), bug=name, rounds=16)
        caught = bool(outcome.violations)
        said = outcome.violations[0] if caught else "NOT CAUGHT"
        ends = _said(outcome.account.ends)
        print(f"bug {name}: {said} ({outcome.account.rounds} cutovers: {ends}; {outcome.seconds:.0f} s)", flush=True)
        if not caught:
            missed.append(name)
    print(f"mutation score: {len(BUGS) - len(missed)} of {len(BUGS)}")
    return missed


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"


def main(arguments: list[str]) -> int:
    """0 if nothing was violated (with `--bugs`: if at most one bug was missed)."""
    seed = int(os.environ.get("SEED") or random.randrange(1, 1_000_000))
    seconds = 60 * float(os.environ.get("MINUTES") or 5)
    if "--bugs" in arguments:
        return 0 if len(asyncio.run(mutation(seed))) <= 1 else 1
    if "--directed" in arguments:
        steps = directed()
        outcome = asyncio.run(prove(seed=seed, seconds=3600, kinds=steps, rounds=len(steps)))
    else:
        outcome = asyncio.run(prove(seed=seed, seconds=seconds))
    tell(outcome)
    if os.environ.get("PROVE_JSON"):
        Path(os.environ["PROVE_JSON"]).write_text(
            json.dumps({"seed": seed, "rounds": outcome.account.rounds, "violations": outcome.violations})
        )
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
