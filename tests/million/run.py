"""`make million`: payments moved under writes, verified, cut over, reversed, cut over, retired; and the account.

ROWS=1000000 python -m tests.million.run [--json FILE] [--page FILE]    (exit code 1 on any difference)
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.acceptance.stack import Stack, VerbFailed, held_ms
from tests.benchmarks import sync_page
from tests.benchmarks.machine import machine
from tests.million.account import acknowledged, both_sides
from tests.million.rows import fill
from tests.servers import ROOT

FLAG = "payments"
RATE = 500
PROBED_S = 15.0
LIVE_WITHIN_S = 600.0
TRIES = 5
REFUSED = 3
"""Exit code of a verb that a gate refused."""

Account = list[tuple[str, str]]


class MillionStack(Stack):
    """The two databases, control plane, worker, two proxies."""

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self.run("up", "--file", str(ROOT / "tests" / "million"), "--detach", *self._ports, timeout_s=300.0)


class Writer:
    """The process that writes; `tell` waits until it has obeyed."""

    def __init__(self, folder: Path, urls: dict[str, str], people: list[int], rate: int) -> None:
        self.out = folder / "told.json"
        config = folder / "writer.json"
        config.write_text(json.dumps({"urls": urls, "people": people, "rate": rate, "out": str(self.out)}))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.million.writer", str(config)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, word: str) -> None:
        """`probe`, `blind`, `pause` or `go`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().strip()
        if said != word:
            raise AssertionError(f"the writer did not {word}: {said!r}")

    def end(self) -> dict[str, Any]:
        """What was acknowledged."""
        self._process.communicate("end\n", timeout=120)
        told: dict[str, Any] = json.loads(self.out.read_text())
        return told

    def close(self) -> None:
        """Whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Journey:
    """The steps, their seconds, and what is found on the way."""

    def __init__(self, stack: Stack, folder: Path, rows: int) -> None:
        self.account: Account = []
        self.problems: list[str] = []
        self.refused: list[str] = []
        self._stack, self._folder, self._rows = stack, folder, rows
        self._urls = {name: stack.dsns[name] for name in ("monolith", "payments")}

    def run(self) -> None:
        """All of it."""
        with self._step("payments made"):
            filled = fill(self._urls["monolith"], self._rows)
        writer = Writer(self._folder, self._urls, self._people(), RATE)
        began = time.monotonic()
        try:
            with _memory(self._stack.processes()["worker"]["pid"]) as mib:
                resting = self._move(writer)
            written_s = time.monotonic() - began - resting
            told = writer.end()
        finally:
            writer.close()
        lines, problems = acknowledged(self._urls["payments"], told, filled)
        self._say("writes", f"{told['writes']:,} in {written_s:.0f} s, {told['writes'] / written_s:.0f} a second")
        self._say("writes that met the fence, and went to the owner", f"{told['fenced']:,}")
        for line in lines:
            self._say(*line)
        self.problems += problems
        lag = sorted(told["lag_ms"])
        if lag:
            found = f"p50 {_at(lag, 0.5):.0f} ms, p99 {_at(lag, 0.99):.0f} ms, {len(lag)} probes"
            self._say("live lag, verification and cutovers included", found)
        self._say("memory of the worker", f"{mib[0]:.0f} MiB before, at most {max(mib):.0f} MiB")

    def _move(self, writer: Writer) -> float:
        """From the first copy to the end; how many seconds writing rested for the comparison."""
        with self._step(f"first copy, until live, under {RATE} writes/s"):
            self._stack.run("sync", "start", FLAG, "--no-wait")
            self._until_live()
        writer.tell("probe")
        with self._step("verified exactly, under writes"):
            self._stack.run("sync", "verify", FLAG, timeout_s=LIVE_WITHIN_S)
        time.sleep(PROBED_S)
        self._stack.flip(FLAG, "shadow")
        self._stack.flip(FLAG, "canary", "--weight", "100%")
        for name, words in (
            ("cut over", ("extracted",)),
            ("reversed", ("canary", "--weight", "50%")),
            ("cut over again", ("extracted",)),
        ):
            with self._step(name):
                held = self._flip(*words)
            self._say(f"{name}: hold", f"{held:.0f} ms")
            time.sleep(2.0)
        writer.tell("pause")
        rested = time.monotonic()
        with self._step("compared, nothing in flight"):
            self._until_carried_over()
            lines, problems = both_sides(self._urls)
        for line in lines:
            self._say(*line)
        self.problems += problems
        writer.tell("blind")
        writer.tell("go")
        resting = time.monotonic() - rested
        with self._step("retired, under writes"):
            self._retire()
        return resting

    def _retire(self) -> None:
        words = ("--confirm", FLAG, "--after-days", "0", "--without-census", "--reason", "make million")
        dump = self._folder / "retired"
        self._stack.run("retire", FLAG, *words, "--dump-dir", str(dump), timeout_s=900.0)
        stage = self._stack.stage(FLAG)["stage"]
        self._say("stage at the end", str(stage))
        if stage != "retired":
            self.problems.append(f"the stage is {stage!r}, not 'retired'")

    def _flip(self, *words: str) -> float:
        """A cutover; one that was refused or aborted, and so changed nothing, is asked for again, and told of."""
        for _ in range(TRIES):
            try:
                return held_ms(self._stack.flip(FLAG, *words, "--reason", "make million"))
            except VerbFailed as refusal:
                if f"exit code {REFUSED}" not in str(refusal) and "was aborted" not in str(refusal):
                    raise
                self.refused.append(" ".join(str(refusal).split())[-160:])
                time.sleep(2.0)
        raise AssertionError(f"refused or aborted {TRIES} times: {self.refused[-1]}")

    def _until_live(self) -> None:
        deadline = time.monotonic() + LIVE_WITHIN_S
        while time.monotonic() < deadline:
            published = (self._stack.stage(FLAG)["stream"] or {}).get("published") or {}
            if published.get("mode") == "live":
                return
            time.sleep(0.2)
        raise AssertionError(f"not live within {LIVE_WITHIN_S:g} s: {published}")

    def _until_carried_over(self) -> None:
        """Until the owner has no dirty key left: its copy was committed before."""
        deadline = time.monotonic() + 60.0
        with psycopg.connect(self._stack.administrator_url, dbname="payments", autocommit=True) as link:
            while link.execute("SELECT FROM strangler.dirty WHERE flag = %s LIMIT 1", (FLAG,)).fetchone() is not None:
                if time.monotonic() > deadline:
                    raise AssertionError("dirty keys are left a minute after the last write")
                time.sleep(0.1)

    def _people(self) -> list[int]:
        with psycopg.connect(self._urls["monolith"]) as link:
            return [int(row[0]) for row in link.execute("SELECT id FROM accounts_user ORDER BY id LIMIT 1000")]

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._say(name, f"{time.monotonic() - began:.1f} s")

    def _say(self, what: str, said: str) -> None:
        self.account.append((what, said))
        print(f"{what}: {said}", flush=True)


@contextmanager
def _memory(pid: int) -> Iterator[list[float]]:
    """Resident MiB of a process, five times a second; the first one is from before."""
    process, stop = psutil.Process(pid), threading.Event()
    found = [process.memory_info().rss / (1 << 20)]

    def look() -> None:
        while not stop.wait(0.2):
            found.append(process.memory_info().rss / (1 << 20))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def million(rows: int, folder: Path) -> Journey:
    """Start everything, go all the way, end everything."""
    stack = MillionStack(folder / "var", free_ports=True)
    try:
        stack.up()
        journey = Journey(stack, folder, rows)
        journey.run()
    finally:
        stack.down()
    return journey


def main() -> int:
    """Go, print the account, keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/million.json"))
    parser.add_argument("--page", type=Path, help="write the account between the marks of this page, too")
    options = parser.parse_args()
    where, rows = machine(), int(os.environ.get("ROWS") or 1_000_000)
    with tempfile.TemporaryDirectory(prefix="million-") as name:
        journey = million(rows, Path(name))
    refused = "; ".join(journey.refused) or "none"
    journey.account.append(("cutovers that were refused and asked for again", refused))
    journey.account.append(("differences", str(len(journey.problems))))
    document = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": where,
        "rows": rows,
        "account": journey.account,
        "problems": journey.problems,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.page:
        sync_page.put_million(options.page, document)
    for what, said in journey.account[-2:]:
        print(f"{what}: {said}")
    print("\n".join(journey.problems), file=sys.stderr)
    return 1 if journey.problems else 0


if __name__ == "__main__":
    sys.exit(main())
