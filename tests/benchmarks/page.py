"""The figures of a run on the page of the docs: between two marks, so that nobody types them.

python -m tests.benchmarks.page var/bench/bench.json docs/explanation/figures.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- written by python -m tests.benchmarks.page -->"
END: Final = "<!-- to here -->"
_COLUMNS: Final = ("1 KB", "64 KB", "POST 4 KB", "2 KB JSON")


def rendered(document: Mapping[str, Any]) -> str:
    """Machine, CPU per request and targets as Markdown."""
    return "\n".join((*_machine(document["machine"], document["at"]), *_table(document), *_targets(document)))


def put(page: Path, text: str) -> None:
    """Replace what is between the marks. Raises ValueError where they are missing."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the marks {BEGIN} and {END} are not there")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _machine(machine: Mapping[str, Any], at: str) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield (
        f"{at[:10]}: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"Python {machine['python']}; load before the run {machine['load_before'][0]}. {versions}."
    )
    yield ""


def _table(document: Mapping[str, Any]) -> Iterator[str]:
    rows: Sequence[Mapping[str, Any]] = document["table"]
    found = {(row["contestant"], row["case"]): row for row in rows}
    yield "| CPU us/request (x NGINX, x Envoy) | " + " | ".join(_COLUMNS) + " | MB |"
    yield "|---" * (len(_COLUMNS) + 2) + "|"
    for name in dict.fromkeys(row["contestant"] for row in rows if row["contestant"] != "direct"):
        mine = [found.get((name, case)) for case in _COLUMNS]
        memory = max(row["memory_mb"] or 0 for row in mine if row is not None)
        yield f"| {name} | " + " | ".join(_cell(row) for row in mine) + f" | {memory:.0f} |"
    yield ""


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["cpu_us"] is None:
        return "-"
    ratios = ", ".join("-" if row[key] is None else f"{row[key]:.2f}" for key in ("x_nginx", "x_envoy"))
    return f"{row['cpu_us']:,.1f} ({ratios})"


def _targets(document: Mapping[str, Any]) -> Iterator[str]:
    yield "| target | found | |"
    yield "|---|---|---|"
    for each in document["targets"]:
        yield f"| {each['target']} | {each['found']} | {_word(each['met'])} |"


def _word(met: bool | None) -> str:
    return "-" if met is None else "met" if met else "**not met**"


def main() -> int:
    """Put the figures of a JSON file on a page."""
    source, page = map(Path, sys.argv[1:3])
    put(page, rendered(json.loads(source.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
