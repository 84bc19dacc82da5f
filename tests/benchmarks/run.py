"""`make bench` and `make bench-gate`: everybody side by side in one run, as CPU per request and as a ratio to NGINX.

python -m tests.benchmarks.run [--rounds N] [--json FILE] [--picture FILE] [--gate] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.contestants import CONTESTANTS, UPSTREAM_PORT, upstream
from tests.benchmarks.measure import CASES, Case, Figures, measure, running, spawned, wait_for
from tests.benchmarks.parts import folder, install
from tests.benchmarks.picture import draw
from tests.servers import free_port

GATE = 1.0
"""CPU per request at most, as a ratio to Envoy in the same run."""


def run(names: Sequence[str], cases: Sequence[Case], rounds: int, console: Console) -> list[Figures]:
    """Measure all, in turns and in alternating order, so that a busy moment hits nobody alone."""
    figures: list[Figures] = []
    where = folder("upstream")
    with spawned(upstream(where), where / "output.log", {}, core=1):
        wait_for(UPSTREAM_PORT)
        for turn in range(rounds):
            for name in names if turn % 2 == 0 else list(reversed(names)):
                contestant = CONTESTANTS[name]
                port = UPSTREAM_PORT if contestant.prepare is None else free_port()
                with running(contestant, port) as pid:
                    measure(name, pid, port, Case(name="warm", mode="get", path="/1k.json", connections=32, seconds=1))
                    for case in cases:
                        figures.append(measure(name, pid, port, case))
                        console.print(
                            f"  {turn + 1}/{rounds} {name}, {case.name}: {figures[-1].cpu_us:.1f} us", style="dim"
                        )
    return figures


def median(figures: Sequence[Figures], name: str, case: str, field: str) -> float:
    """Over the rounds."""
    values = [float(getattr(f, field)) for f in figures if f.contestant == name and f.case == case]
    return statistics.median(values) if values else float("nan")


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
                _ratio(cpu, median(figures, "nginx", case.name, "cpu_us")),
                _ratio(cpu, median(figures, "envoy", case.name, "cpu_us")),
                f"{median(figures, name, case.name, 'per_second'):,.0f}",
                f"{p50:.0f}",
                f"{p50 - direct:.0f}",
                f"{median(figures, name, case.name, 'memory_mb'):.0f}",
                f"{median(figures, name, case.name, 'errors'):.0f}",
            )
        console.print(table)


def _ratio(value: float, reference: float) -> str:
    return f"{value / reference:.2f}" if reference == reference and reference > 0 else "-"


def gate(figures: Sequence[Figures], console: Console) -> int:
    """0 if our engine costs at most `GATE` times Envoy's CPU per request in this run."""
    ours = median(figures, "strangler", "1 KB", "cpu_us")
    envoy = median(figures, "envoy", "1 KB", "cpu_us")
    errors = sum(f.errors for f in figures if f.contestant == "strangler")
    good = ours <= GATE * envoy and not errors
    console.print(
        f"bench-gate: {ours:.1f} us against Envoy's {envoy:.1f} us = {ours / envoy:.2f} (at most {GATE}), "
        f"{errors} errors: {'passed' if good else 'FAILED'}"
    )
    return 0 if good else 1


def main() -> int:
    """Exit status 1 when the gate is not held."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--gate", action="store_true")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
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
