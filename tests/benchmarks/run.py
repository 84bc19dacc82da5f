"""`make bench` and `make bench-gate`: everybody side by side in one run, as CPU per request and as a ratio to NGINX.

python -m tests.benchmarks.run [--rounds N] [--json FILE] [--picture FILE] [--gate] [NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import growth
from tests.benchmarks.contestants import CONTESTANTS, UPSTREAM_PORT, upstream
from tests.benchmarks.measure import CASES, Case, Figures, measure, running, spawned, wait_for
from tests.benchmarks.parts import folder, install
from tests.benchmarks.picture import draw
from tests.servers import free_port

PAUSE_S = float(os.environ.get("BENCH_PAUSE", "0"))
"""Between two measurements, for a machine that others use too."""
GATE = 1.0
"""CPU per request at most, as a ratio to Envoy in the same run."""


def run(names: Sequence[str], cases: Sequence[Case], rounds: int, console: Console) -> list[Figures]:
    """Measure all in turns of a second each, so that a busy moment of the machine hits nobody alone."""
    figures: list[Figures] = []
    where = folder("upstream")
    with contextlib.ExitStack() as stack:
        stack.enter_context(spawned(upstream(where), where / "output.log", {}, core=1))
        wait_for(UPSTREAM_PORT)
        running_at: dict[str, tuple[int | None, int]] = {}
        for name in names:
            contestant = CONTESTANTS[name]
            port = UPSTREAM_PORT if contestant.prepare is None else free_port()
            running_at[name] = stack.enter_context(running(contestant, port)), port
        for name, (pid, port) in running_at.items():
            measure(name, pid, port, cases[0], turn=-1)
        for turn in range(rounds):
            for case in cases:
                for name in names if turn % 2 == 0 else list(reversed(names)):
                    pid, port = running_at[name]
                    time.sleep(PAUSE_S)
                    figures.append(measure(name, pid, port, case, turn=turn))
            console.print(f"  round {turn + 1} of {rounds}", style="dim")
    return figures


def median(figures: Sequence[Figures], name: str, case: str, field: str) -> float:
    """Over the rounds."""
    values = [float(getattr(f, field)) for f in figures if f.contestant == name and f.case == case]
    return statistics.median(values) if values else float("nan")


def ratio(figures: Sequence[Figures], name: str, to: str, case: str) -> float:
    """CPU per request as a ratio to another's, each round by itself; the median of the rounds."""
    cost = {(f.contestant, f.turn): f.cpu_us for f in figures if f.case == case}
    turns = [turn for one, turn in cost if one == name and cost.get((to, turn))]
    return statistics.median(cost[name, turn] / cost[to, turn] for turn in turns) if turns else float("nan")


def print_table(figures: Sequence[Figures], names: Sequence[str], cases: Sequence[Case], console: Console) -> None:
    """One table a case."""
    for case in cases:
        table = Table(title=f"{case.name}, {case.connections} connections", title_justify="left")
        for column in (
            "",
            "CPU us/request",
            "x NGINX",
            "x Envoy",
            "requests/s",
            "p50 us",
            "added p50 us",
            "MB",
            "errors",
        ):
            table.add_column(column, justify="left" if not column else "right")
        direct = median(figures, "direct", case.name, "p50_us")
        for name in names:
            cpu = median(figures, name, case.name, "cpu_us")
            p50 = median(figures, name, case.name, "p50_us")
            table.add_row(
                name,
                f"{cpu:.1f}",
                _shown(ratio(figures, name, "nginx", case.name)),
                _shown(ratio(figures, name, "envoy", case.name)),
                f"{median(figures, name, case.name, 'per_second'):,.0f}",
                f"{p50:.0f}",
                f"{p50 - direct:.0f}",
                f"{median(figures, name, case.name, 'memory_mb'):.0f}",
                f"{median(figures, name, case.name, 'errors'):.0f}",
            )
        console.print(table)


def _shown(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def gate(figures: Sequence[Figures], console: Console) -> int:
    """0 if our engine costs at most `GATE` times Envoy's CPU per request in this run."""
    ours = median(figures, "strangler", "1 KB", "cpu_us")
    envoy = median(figures, "envoy", "1 KB", "cpu_us")
    errors = sum(f.errors for f in figures if f.contestant == "strangler")
    found = ratio(figures, "strangler", "envoy", "1 KB")
    good = found <= GATE and not errors
    console.print(
        f"bench-gate: {ours:.1f} us against Envoy's {envoy:.1f} us = {found:.2f} (at most {GATE}), "
        f"{errors} errors: {'passed' if good else 'FAILED'}"
    )
    return 0 if good else 1


def main() -> int:
    """Exit status 1 when the gate is not held."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--growth", action="store_true", help="how cost grows instead (also: make bench-growth)")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    if options.growth:
        return growth.main()
    install()
    names = ["envoy", "strangler"] if options.gate else options.names
    unknown = sorted(set(names) - set(CONTESTANTS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    cases = CASES[:1] if options.gate else CASES
    figures = run(names, cases, options.rounds, console)
    print_table(figures, names, cases, console)
    if options.json:
        document = {"schema_version": 1, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        options.json.write_text(json.dumps({**document, "figures": [f.document() for f in figures]}, indent=1))
    if options.picture:
        shown = [name for name in names if name != "direct"]
        rows = {n: [median(figures, n, case.name, "cpu_us") for case in cases[:3]] for n in shown}
        options.picture.write_text(draw(rows, [case.name for case in cases[:3]]))
    return gate(figures, console) if options.gate else 0


if __name__ == "__main__":
    sys.exit(main())
