"""`make prove`: cutovers under faults for some minutes, judged by the checker. SEED= and MINUTES= in the environment.

`--bugs` seeds each of the twenty bugs and says which are caught, `--directed` goes through every step, before and
after it, killed, stopped and cut off, in both directions; `--account` adds up all runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.prove.account import keep, said, tell_total
from tests.prove.hunting import chosen, hunt_bugs, missed
from tests.prove.nemesis import every_failpoint
from tests.prove.proof import Outcome, prove
from tests.prove.schedules import Directed
from tests.prove.site import Plan


def tell(outcome: Outcome) -> None:
    """The account of one run, for people."""
    account, verdict = outcome.account, outcome.verdict
    print(
        f"seed {outcome.plan.seed}: {outcome.seconds:.0f} s, {account.cutovers} cutovers ({said(account.ends)}), "
        f"under a fault {account.faulted}"
    )
    print(f"  faults {sum(account.faults.values())}: {said(account.faults)}")
    print(
        f"  operations: {verdict.operations}, acknowledged {verdict.acknowledged}, unknown {verdict.unknown}, "
        f"refused {verdict.refused}, payments {verdict.payments}"
    )
    if os.environ.get("VERBOSE"):
        print("  reasons: " + "; ".join(f"{number} x {why}" for why, number in account.reasons.most_common(12)))
    print(f"  violations: {len(outcome.violations)}")
    for each in outcome.violations[:20]:
        print(f"    {each}")
    if outcome.kept:
        print(f"  again: make prove SEED={outcome.plan.seed}; histories and logs: {outcome.kept}; shortened:")
        for line in outcome.history:
            print(f"    {line}")
    sys.stdout.flush()


def noted(outcome: Outcome, mode: str) -> None:
    """Into the account of all runs."""
    account, verdict = outcome.account, outcome.verdict
    keep(
        {
            "mode": mode,
            "seed": outcome.plan.seed,
            "seconds": round(outcome.seconds, 1),
            "operations": verdict.operations,
            "acknowledged": verdict.acknowledged,
            "payments": verdict.payments,
            "cutovers": account.cutovers,
            "faulted": account.faulted,
            "faults": dict(account.faults),
            "ends": dict(account.ends),
            "violations": outcome.violations[:10],
        }
    )


def at_random(seed: int, seconds: float) -> Outcome:
    """The random run; every fourth seed has the leases of production. CAST=full brings the whole cast."""
    full = os.environ.get("CAST") == "full"
    lanes = int(os.environ.get("LANES") or (2 if full else 5))
    plan = Plan(seed=seed, lanes=lanes, short=seed % 4 != 0, cast=full)
    outcome = asyncio.run(prove(plan, seconds))
    tell(outcome)
    noted(outcome, ("full cast, " if full else "") + ("short leases" if plan.short else "leases of production"))
    return outcome


def directed(seed: int, seconds: float, words: Sequence[str]) -> int:
    """Every failpoint in both directions (`words`: those that name one of them); how many violations."""
    schedule = Directed([point for point in every_failpoint() if not words or set(words) & set(str(point).split(":"))])
    wanted = sum(map(len, schedule.todo.values()))
    outcome = asyncio.run(prove(Plan(seed=seed, lanes=4), seconds, schedule))
    tell(outcome)
    noted(outcome, "directed")
    met = set(schedule.met)
    left = [f"{point} from {side.value}" for side, some in schedule.todo.items() for point in some]
    print(f"directed: {len(met)} of {wanted} points met" + (f"; left: {', '.join(left)}" if left else ""))
    return len(outcome.violations)


def main(arguments: list[str]) -> int:
    """0 if nothing was violated (with `--bugs`: if at most one bug was missed)."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))  # ended early, all processes end
    seed = int(os.environ.get("SEED") or random.randrange(1, 1_000_000))
    seconds = 60 * float(os.environ.get("MINUTES") or 5)
    match arguments[:1]:
        case ["--account"]:
            tell_total()
            return 0
        case ["--bugs"]:
            found = hunt_bugs(chosen(arguments[1:]), seed)
            not_caught = missed(found)
            bugs = sum(bool(each.name) for each in found)
            print(f"caught {bugs - len(not_caught)} of {bugs}; not caught: {', '.join(not_caught) or 'none'}")
            return 0 if len(not_caught) <= 1 else 1
        case ["--directed"]:
            return 1 if directed(seed, seconds if os.environ.get("MINUTES") else 3600.0, arguments[1:]) else 0
    outcome = at_random(seed, seconds)
    if os.environ.get("PROVE_JSON"):
        Path(os.environ["PROVE_JSON"]).write_text(
            json.dumps({"seed": seed, "cutovers": outcome.account.cutovers, "violations": outcome.violations})
        )
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
