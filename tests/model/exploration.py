"""Explore the model of the cutover breadth-first, and judge every state that is reached.

python -m tests.model.exploration            the protocol, then every mutant
python -m tests.model.exploration MUTANT     one mutant, with its shortest bad trace
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.model.cutover_model import MUTANTS, Protocol, State

PROTOCOL_BOUNDS: tuple[Mapping[str, Any], ...] = (
    {"writes": (1, 1), "cutovers": 2},
    {"writes": (2, 0), "cutovers": 2},
    {"writes": (2, 0), "cutovers": 1, "chunks": 1},
)
"""Two rows; one row twice with the way back; rows that are carried without a dirty key."""

SMALL: Mapping[str, Any] = MappingProxyType({"writes": (1, 0), "cutovers": 2})
MUTANT_BOUNDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "no_target_lock": {"writes": (2, 0), "cutovers": 0},
        "takes_newer_keys": {"writes": (2, 0), "cutovers": 0},
        "no_closed_check": {"writes": (1, 0), "cutovers": 0, "chunks": 1},
        "closed_check_unlocked": {"writes": (1, 0), "cutovers": 1, "chunks": 1},
    }
)
"""Bounds in which a mutant has to be found, where `SMALL` is not enough or more than enough."""


def bad(s: State) -> str | None:
    """What is wrong with a state by itself."""
    if all(side.open for side in s.sides):
        return "both sides are open"
    for index, side in enumerate(s.sides):
        if side.open and side.rows != s.last:
            return f"side {index} is open with rows {side.rows}, last committed are {s.last}"
    if settled(s) and s.sides[0].rows != s.sides[1].rows:
        return f"nothing pending, but {s.sides[0].rows} and {s.sides[1].rows}"
    return None


def settled(s: State) -> bool:
    """One owner open, nothing pending, nobody applying: the state to get back to from everywhere."""
    return (
        any(side.open for side in s.sides)
        and not any(side.holding or side.committed for side in s.sides)
        and not any(any(side.dirty) for side in s.sides)
        and s.appliers == (None, None)
        and s.uncaptured == (None, None)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an exploration found: `problem` None if nothing; `trace` the shortest way there."""

    states: int
    problem: str | None = None
    trace: tuple[str, ...] = ()


def explore(protocol: Protocol, *, limit: int = 3_000_000) -> Finding:
    """Breadth-first over all states; then whether each can still settle."""
    first = protocol.start()
    parents: dict[State, tuple[State, str] | None] = {first: None}
    before: dict[State, list[State]] = {}
    queue = deque([first])
    goals: list[State] = []
    while queue:
        state = queue.popleft()
        problem = bad(state)
        if problem:
            return Finding(states=len(parents), problem=problem, trace=trace(parents, state))
        if settled(state):
            goals.append(state)
        for label, following in protocol.next(state):
            before.setdefault(following, []).append(state)
            if following not in parents:
                parents[following] = (state, label)
                queue.append(following)
                if len(parents) > limit:
                    raise RuntimeError(f"more than {limit} states: bound the model")
    reached = set(goals)
    back = deque(goals)
    while back:
        for state in before.get(back.popleft(), ()):
            if state not in reached:
                reached.add(state)
                back.append(state)
    for state in parents:  # in breadth-first order: the shortest one first
        if state not in reached:
            return Finding(states=len(parents), problem="cannot settle any more", trace=trace(parents, state))
    return Finding(states=len(parents))


def trace(parents: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels = []
    step = parents[state]
    while step is not None:
        state, label = step
        labels.append(label)
        step = parents[state]
    return tuple(reversed(labels))


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["", *MUTANTS]
    for name in chosen:
        bounds = PROTOCOL_BOUNDS if not name else (MUTANT_BOUNDS.get(name, SMALL),)
        found = next((f for b in bounds if (f := explore(Protocol(name, **b))).problem), f)
        print(f"{name or 'protocol':26s} {found.states:8d} states  {found.problem or 'no bad state, none stuck'}")
        if found.trace:
            print("    " + " > ".join(found.trace))
