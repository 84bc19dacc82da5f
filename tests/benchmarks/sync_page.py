"""The figures of `make bench-sync` and `make million` on the page of the docs, between marks.

python -m tests.benchmarks.sync_page var/bench/sync.json docs/explanation/figures.md
python -m tests.benchmarks.sync_page var/bench/million.json docs/explanation/figures.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.page import END

BENCH: Final = "<!-- written by make bench-sync -->"
MILLION: Final = "<!-- written by make million -->"
_WORDS: Final = {True: "met", False: "**not met**", None: ""}


def put_bench(page: Path, document: Mapping[str, Any]) -> None:
    """Machine, disk and every line of `sync_run`."""
    rows = ["| what | compared with | found | ratio | target |", "|---|---|---|---|---|"]
    for line in document["lines"]:
        promised = ": ".join(filter(None, (line["target"], _WORDS[line["met"]])))
        cells = (line["what"], line["against"], line["found"], line["ratio"], promised)
        rows.append("| " + " | ".join(cells) + " |")
    disk = document["disk"]
    said = f"{_machine(document)}; {disk['file_system']}, a flush of 8 KiB takes {disk['fdatasync_ms']:.2f} ms."
    _put(page, BENCH, [said, "", *rows])


def put_million(page: Path, document: Mapping[str, Any]) -> None:
    """Machine, and the account of `tests.million.run` as it prints it."""
    rows = [f"| {what} | {said} |" for what, said in document["account"]]
    _put(page, MILLION, [f"{_machine(document)}.", "", "| | |", "|---|---|", *rows])


def _machine(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    return (
        f"{document['at'][:10]}: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}; load before the run {machine['load_before'][0]}"
    )


def _put(page: Path, mark: str, lines: list[str]) -> None:
    """Replace what is between the marks. Raises ValueError where they are missing."""
    before, begin, rest = page.read_text().partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the marks {mark} and {END} are not there")
    page.write_text("\n".join([before + begin, *lines, END]) + after)


def main() -> int:
    """Put the figures of a JSON file on a page."""
    source, page = map(Path, sys.argv[1:3])
    document = json.loads(source.read_text())
    (put_million if "account" in document else put_bench)(page, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
