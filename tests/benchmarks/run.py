"""`make bench` and `make bench-gate`: everybody side by side in one run, as CPU per request and as a ratio to NGINX.

python -m tests.benchmarks.run [--rounds N] [--json FILE] [--picture FILE] [--gate] [NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import growth
from tests.benchmarks.contestant import CASES, Case
from tests.benchmarks.contestants import CONTESTANTS
from tests.benchmarks.machine import described, machine
from tests.benchmarks.measure import Figures, measure, running, upstream_running
from tests.benchmarks.parts import install
from tests.benchmarks.picture import draw
from tests.benchmarks.summary import median, ratio
from tests.benchmarks.targets import Verdict, judged
from tests.benchmarks.upstream import UPSTREAM_PORT
from tests.servers import free_port

PAUSE_S = float(os.environ.get("BENCH_PAUSE", "0"))
"""Between two measurements, for a machine that others use too."""
BUDGET_S = float(os.environ.get("BENCH_BUDGET", "600"))
"""No further round begins once so much has passed, or would have passed at its end."""
GATE = 1.0
"""CPU per request at most, as a ratio to Envoy in the same run."""
GATED = ("envoy", "strangler")
GATE_ROUNDS = 5
GATE_BUDGET_S = 25.0
"""So that `make bench-gate` ends within a minute on a busy machine; installing parts for the first time is extra."""
_DRAWN = CASES[:3]


def run(
    names: Sequence[str], cases: Sequence[Case], rounds: int, console: Console, *, budget_s: float = BUDGET_S
) -> list[Figures]:
    """Measure all in turns of a second each, so that a busy moment of the machine hits nobody alone."""
    figures: list[Figures] = []
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(upstream_running())
        at: dict[str, tuple[int | None, int]] = {}
        for name in names:
            port = UPSTREAM_PORT if CONTESTANTS[name].prepare is None else free_port()
            try:
                at[name] = stack.enter_context(running(CONTESTANTS[name], port)), port
            except (TimeoutError, OSError) as error:
                console.print(f"  {name} is left out, it does not start: {error}", style="red")
        for name, (pid, port) in at.items():
            measure(name, pid, port, cases[0], turn=-1)
        for turn in range(rounds):
            begun = time.monotonic()
            for case in cases:
                for name in list(at) if turn % 2 == 0 else list(reversed(at)):
                    if case.name in CONTESTANTS[name].cases:
                        pid, port = at[name]
                        time.sleep(PAUSE_S)
                        figures.append(measure(name, pid, port, case, turn=turn, lags=CONTESTANTS[name].lags))
            console.print(f"  round {turn + 1} of {rounds}", style="dim")
            now = time.monotonic()
            if now - began + (now - begun) > budget_s and turn + 1 < rounds:
                console.print(f"  no further round: they would take longer than {budget_s:.0f} s", style="yellow")
                break
    return figures


def print_case(figures: Sequence[Figures], names: Sequence[str], case: Case, console: Console) -> None:
    """The table of one case."""
    table = Table(title=f"{case.name}, {case.connections} connections", title_justify="left")
    for column in ("", "CPU us/request", "x NGINX", "x Envoy", "requests/s", "p50 us", "added p50 us", "MB", "errors"):
        table.add_column(column, justify="left" if not column else "right")
    direct = median(figures, "direct", case.name, "p50_us")
    for name in (name for name in names if any(f.contestant == name and f.case == case.name for f in figures)):
        p50 = median(figures, name, case.name, "p50_us")
        table.add_row(
            name,
            f"{median(figures, name, case.name, 'cpu_us'):.1f}",
            _shown(ratio(figures, name, "nginx", case.name)),
            _shown(ratio(figures, name, "envoy", case.name)),
            f"{median(figures, name, case.name, 'per_second'):,.0f}",
            f"{p50:.0f}",
            f"{p50 - direct:.0f}",
            f"{median(figures, name, case.name, 'memory_mb'):.0f}",
            f"{median(figures, name, case.name, 'errors'):.0f}",
        )
    console.print(table)


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Which targets are met."""
    table = Table(title="Targets", title_justify="left")
    for column in ("target", "found", ""):
        table.add_column(column)
    for each in verdicts:
        word = {True: "met", False: "NOT MET", None: "-"}[each.met]
        table.add_row(each.target, each.found, word, style="red" if each.met is False else "")
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


def document(where: Mapping[str, object], figures: Sequence[Figures], verdicts: Sequence[Verdict]) -> str:
    """All of it as JSON."""
    cases = {f.case for f in figures}
    names = {f.contestant for f in figures}
    fields = ("cpu_us", "per_second", "p50_us", "p99_us", "memory_mb", "errors", "foreign")
    table = [
        {
            "case": case.name,
            "contestant": name,
            "x_nginx": _number(ratio(figures, name, "nginx", case.name)),
            "x_envoy": _number(ratio(figures, name, "envoy", case.name)),
            **{field: _number(median(figures, name, case.name, field)) for field in fields},
        }
        for case in CASES
        for name in CONTESTANTS
        if case.name in cases and name in names and case.name in CONTESTANTS[name].cases
    ]
    return json.dumps(
        {
            "schema_version": 2,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": where,
            "targets": [{"target": each.target, "found": each.found, "met": each.met} for each in verdicts],
            "table": table,
            "figures": [f.document() for f in figures],
        },
        indent=1,
    )


def _number(value: float) -> float | None:
    return None if value != value else round(value, 3)


def taking_part(names: Sequence[str], console: Console) -> list[str]:
    """Those who can; of the others it is said why not."""
    found = []
    for name in names:
        why_not = CONTESTANTS[name].why_not()
        if why_not:
            console.print(f"  {name} is left out: {why_not}", style="yellow")
        else:
            found.append(name)
    return found


def main() -> int:
    """Exit status 1 when the gate is not held."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="may be repeated")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--growth", action="store_true", help="how cost grows instead (also: make bench-growth)")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    if options.growth:
        return growth.main()
    unknown = sorted(set(options.names) - set(CONTESTANTS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    install()
    where = machine()
    console.print(described(where))
    if options.gate:
        return gate(run(GATED, CASES[:1], GATE_ROUNDS, console, budget_s=GATE_BUDGET_S), console)
    names = taking_part(options.names, console)
    cases = [c for c in CASES if not options.case or c.name in options.case]
    figures = run(names, cases, options.rounds, console)
    for case in cases:
        print_case(figures, names, case, console)
    verdicts = [*judged(figures), *growth.judged()]
    print_verdicts(verdicts, console)
    foreign = max((f.foreign for f in figures), default=0.0)
    console.print(f"At most {foreign:.2f} CPUs were busy with something else during a measurement.")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(document(where, figures, verdicts))
    if options.picture:
        shown = [name for name in names if name != "direct" and CONTESTANTS[name].cases[0] == _DRAWN[0].name]
        rows = {n: [median(figures, n, case.name, "cpu_us") for case in _DRAWN] for n in shown}
        options.picture.write_text(draw(rows, [case.name for case in _DRAWN]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
