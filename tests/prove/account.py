"""What proofs did: of one run, and of all runs together in `var/prove/account.jsonl` (one line a run)."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import ROOT


@dataclass
class Account:
    """One run. A cutover is *faulted* if a fault was on while it was under way; refused ones do not count."""

    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    faulted: int = 0
    met: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _on: list[list[float]] = field(default_factory=list)

    @property
    def cutovers(self) -> int:
        """Those that held: done and aborted, there and back, rehearsals too."""
        return sum(number for end, number in self.ends.items() if end not in ("refused", "failed", "none"))

    def fault_begins(self, name: str) -> None:
        """From now on until `fault_ends`."""
        self.faults[name] += 1
        self._on.append([time.monotonic(), float("inf")])

    def fault_ends(self) -> None:
        """All faults are healed."""
        now = time.monotonic()
        for span in self._on:
            span[1] = min(span[1], now)

    def ended(self, began: float, end: str, detail: str) -> None:
        """A cutover that was asked for at `began` (monotonic) is over."""
        self.ends[end] += 1
        if end in ("refused", "failed", "aborted"):
            self.reasons[detail.partition("\n")[0][:90]] += 1
        if end not in ("refused", "failed") and any(until >= began for _, until in self._on):
            self.faulted += 1


def account_path() -> Path:
    """Where runs add up (`PROVE_ACCOUNT`)."""
    return Path(os.environ.get("PROVE_ACCOUNT") or ROOT / "var" / "prove" / "account.jsonl")


def keep(run: dict[str, Any]) -> None:
    """Add one run."""
    path = account_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%S"), **run}) + "\n")


@dataclass
class Total:
    """All runs together."""

    runs: int = 0
    seeds: set[int] = field(default_factory=set)
    seconds: float = 0.0
    operations: int = 0
    acknowledged: int = 0
    payments: int = 0
    cutovers: int = 0
    faulted: int = 0
    violations: int = 0
    violated: list[int] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


def total(path: Path | None = None) -> Total:
    """Read the file; nothing of it is nothing done."""
    found, path = Total(), path or account_path()
    lines = path.read_text().splitlines() if path.exists() else []
    for run in map(json.loads, lines):
        found.runs += 1
        found.seeds.add(run["seed"])
        for name in ("seconds", "operations", "acknowledged", "payments", "cutovers", "faulted"):
            setattr(found, name, getattr(found, name) + run.get(name, 0))
        found.violations += len(run["violations"])
        if run["violations"]:
            found.violated.append(run["seed"])
        found.modes[run.get("mode", "fast")] += 1
        found.faults.update(run["faults"])
        found.ends.update(run["ends"])
    return found


def tell_total() -> None:
    """For people."""
    all_runs = total()
    print(
        f"{all_runs.runs} runs ({said(all_runs.modes)}), {len(all_runs.seeds)} seeds, {all_runs.seconds / 60:.0f} min"
    )
    print(f"cutovers {all_runs.cutovers} ({said(all_runs.ends)}), of them under a fault {all_runs.faulted}")
    print(f"operations {all_runs.operations}, acknowledged {all_runs.acknowledged}, payments {all_runs.payments}")
    print(f"faults {sum(all_runs.faults.values())}: {said(all_runs.faults)}")
    print(f"violations {all_runs.violations}" + (f" in seeds {all_runs.violated}" if all_runs.violated else ""))


def said(counts: Counter[str]) -> str:
    """`a 1, b 2`."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"
