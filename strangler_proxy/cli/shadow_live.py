"""The live report of `strangler serve --candidate`: what the evidence says, while it is gathered and at the end.

It runs in a process of its own (`python -m strangler_proxy.cli.shadow_live`), so that reading evidence and drawing
never take time from requests. That process ends when its standard input does: then, too, when the proxy was killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from strangler_proxy.cli.output import say, say_next
from strangler_proxy.cli.shadow_report_file import check_report_path, write_report
from strangler_proxy.core.errors import StranglerError
from strangler_proxy.core.sample import Sample
from strangler_proxy.core.verdict import Demands

if TYPE_CHECKING:
    from strangler_proxy.store.evidence_opened import Evidence

Json = Mapping[str, Any]

EVERY_S: Final = 1.0
LINE_EVERY_S: Final = 5.0
_LOOK_S: Final = 10.0
_FINAL_S: Final = 8.0
_SAMPLES: Final = 1_000
_NICE: Final = 5
"""How far it stands back from the proxy where processors are short."""
_EVIDENCE: Final = "STRANGLER_EVIDENCE"
_NO_REPORT: Final = b"no report\n"


@contextlib.contextmanager
def shown(
    evidence: str, *, report: Path | None = None, title: str = "", demands: Demands | None = None
) -> Iterator[None]:
    """Show the live report while the block runs, and the final one after it. `evidence` is a URL or a file.

    On a terminal the log of this process goes to a file beside the evidence meanwhile. Raises DeclarationError for a
    report that cannot be written there, before anything starts, and StranglerError where it was not written in the end.
    """
    if report is not None:
        check_report_path(report)
    terminal = os.isatty(1)
    kept = os.dup(1)
    viewer = _start(kept, evidence, report=report, title=title, demands=demands or Demands())
    if terminal:
        _log_to(log_file(evidence))
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(_input(viewer), _NO_REPORT)
        raise
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        ended = _end(viewer)
    if ended < 0:  # it was killed: by somebody, by the kernel, or by Ctrl-C before it was ready for one
        final_report(evidence, report, title=title, demands=demands)
    elif ended:
        raise StranglerError(
            f"the report was not finished (exit {ended})", next_command=f"strangler shadow report {_where(evidence)}"
        )


def final_report(evidence: str, report: Path | None = None, *, title: str = "", demands: Demands | None = None) -> None:
    """Print the report, write it to `report`, and say where the evidence is and what to do next.

    Raises StranglerError. Not for use on a running event loop.
    """
    document, samples = asyncio.run(_read(evidence, title, demands or Demands()))
    _finish(document, samples, evidence, report)


def log_file(evidence: str) -> Path:
    """Where the log of the proxy goes while the terminal shows the report."""
    place = evidence_place(evidence)
    return Path(f"{place}.log") if "://" not in place else Path("strangler-serve.log")


def evidence_place(evidence: str) -> str:
    """Evidence as people name it: the path of a file, or the address of a database without user and password.

    >>> evidence_place("sqlite:///tmp/my%20file.db"), evidence_place("postgresql://kim:secret@db/control")
    ('/tmp/my file.db', 'postgresql://db/control')
    """
    if evidence.startswith("sqlite://"):
        return unquote(evidence.removeprefix("sqlite://"))
    scheme, found, rest = evidence.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if found else evidence


def _start(
    terminal: int, evidence: str, *, report: Path | None, title: str, demands: Demands
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "strangler_proxy.cli.shadow_live", f"--title={title}"]
    command += [f"--limit={demands.limit}", f"--alpha={demands.alpha}"]
    command += [f"--min-pairs={demands.min_pairs}", f"--min-seconds={demands.min_seconds}"]
    if report is not None:
        command.append(f"--report={report}")
    environment = os.environ | {_EVIDENCE: evidence}  # not among the arguments, which everybody on the host can read
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal, env=environment)


def _input(viewer: subprocess.Popen[bytes]) -> int:
    return -1 if viewer.stdin is None else viewer.stdin.fileno()


def _end(viewer: subprocess.Popen[bytes]) -> int:
    """Have it finish, and return its exit code, below 0 where a signal ended it; it is killed if it takes too long."""
    if viewer.stdin is not None:
        viewer.stdin.close()
    try:
        return viewer.wait(_FINAL_S)
    except subprocess.TimeoutExpired:
        viewer.kill()
        viewer.wait()
        return 1


def _log_to(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(descriptor, 1)
    os.close(descriptor)


def _where(evidence: str) -> str:
    return shlex.join(["--evidence", evidence_place(evidence)])


async def _look(book: Evidence, title: str, demands: Demands) -> Json:
    """The report of now. Raises StoreUnavailable."""
    from strangler_proxy.control.shadow import reckon

    rules = await book.rules("")
    found = await reckon(book, "", title=title, rules=rules, demands=demands, now=dt.datetime.now(dt.UTC))
    return found.report.document()


async def _read(evidence: str, title: str, demands: Demands) -> tuple[Json, Sequence[Sample]]:
    from strangler_proxy.store.evidence_opened import open_evidence

    async with open_evidence(evidence) as book:
        return await _look(book, title, demands), await book.samples("", limit=_SAMPLES)


def _finish(document: Json, samples: Sequence[Sample], evidence: str, report: Path | None) -> None:
    from strangler_proxy.cli.output import stdout
    from strangler_proxy.cli.shadow_report_text import ReportText, next_commands

    stdout().print(ReportText(document, samples))
    sys.stdout.flush()
    if report is not None:
        write_report(report, document, samples)
        say(f"report: {report}")
    say(f"evidence: {evidence_place(evidence)}")
    say_next(*next_commands(document, ["--evidence", evidence_place(evidence)]))


class _Viewer:
    """Shows the report of now again and again until its standard input ends."""

    def __init__(self, evidence: str, title: str, demands: Demands) -> None:
        self._evidence = evidence
        self._title = title
        self._demands = demands
        self._ended = asyncio.Event()
        self._heard = b""
        self._began = time.monotonic()

    async def run(self) -> bool:
        """Returns whether a final report is wanted."""
        loop = asyncio.get_running_loop()
        loop.add_reader(0, self._hear)
        try:
            if sys.stdout.isatty():
                await self._on_terminal()
            else:
                await self._in_lines()
        finally:
            loop.remove_reader(0)
        return _NO_REPORT not in self._heard

    def _hear(self) -> None:
        said = os.read(0, 1024)
        self._heard += said
        if not said:
            self._ended.set()

    async def _on_terminal(self) -> None:
        from rich.live import Live

        from strangler_proxy.cli.output import stdout
        from strangler_proxy.cli.shadow_live_view import LiveView

        console, place = stdout(), evidence_place(self._evidence)
        with Live(console=console, auto_refresh=False, screen=True) as live:
            async for document, problem in self._looks(EVERY_S):
                view = LiveView(document, problem, seconds=time.monotonic() - self._began, evidence=place)
                live.update(view, refresh=True)

    async def _in_lines(self) -> None:
        from strangler_proxy.cli.shadow_live_view import line

        before = ""
        async for document, problem in self._looks(LINE_EVERY_S):
            said = problem or line(document)
            if said != before:
                say(f"shadow: {said}")
            before = said

    async def _looks(self, every_s: float) -> AsyncIterator[tuple[Json | None, str]]:
        """What there is now and what is wrong, until the end; seldom where looking takes long."""
        from strangler_proxy.store.evidence_opened import open_evidence

        known: Json | None = None
        async with open_evidence(self._evidence) as book:
            while not self._ended.is_set():
                began, problem = time.monotonic(), ""
                try:
                    async with asyncio.timeout(_LOOK_S):
                        known = await _look(book, self._title, self._demands)
                except TimeoutError:
                    problem = f"the evidence was not read within {_LOOK_S:g} s"
                except StranglerError as error:
                    problem = error.message
                yield known, problem
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), max(every_s, 5 * (time.monotonic() - began)))


def main(arguments: list[str] | None = None) -> int:
    """Show the evidence that STRANGLER_EVIDENCE names until standard input ends, then the report. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m strangler_proxy.cli.shadow_live")
    parser.add_argument("--title", default="", help="what is compared with what")
    parser.add_argument("--report", type=Path, help="file to write at the end, .json or .html")
    parser.add_argument("--limit", type=float, default=Demands().limit, help="highest mismatch rate that is accepted")
    parser.add_argument("--alpha", type=float, default=Demands().alpha, help="chance of a wrong verdict of a stratum")
    parser.add_argument("--min-pairs", type=int, default=Demands().min_pairs, help="fewest pairs of a stratum")
    parser.add_argument("--min-seconds", type=float, default=Demands().min_seconds, help="shortest time of a stratum")
    chosen = parser.parse_args(arguments)
    demands = Demands(
        limit=chosen.limit, alpha=chosen.alpha, min_pairs=chosen.min_pairs, min_seconds=chosen.min_seconds
    )
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # Ctrl-C is for the proxy, which says when it has ended
    os.nice(_NICE)
    evidence = os.environ[_EVIDENCE]
    try:
        if asyncio.run(_Viewer(evidence, chosen.title, demands).run()):
            final_report(evidence, chosen.report, title=chosen.title, demands=demands)
    except StranglerError as error:
        from strangler_proxy.cli.output import report

        report(error)
        return error.exit_code
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
