"""The live report: real processes, a real evidence file, a real terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import psutil
import pytest
from jsonschema import Draft202012Validator

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.tally import PathTally, Tally
from strangler_proxy.core.verdict import Basis
from strangler_proxy.store.evidence_opened import open_evidence
from tests import reports
from tests.servers import ROOT

SCHEMA = json.loads((ROOT / "docs/reference/shadow-report.schema.json").read_text())
TITLE = "http://old against http://new"
SERVE = """
import sys
from pathlib import Path
from strangler_proxy.cli.shadow_live import shown
from strangler_proxy.core.errors import StranglerError

evidence, report, how = sys.argv[1:]
try:
    with shown(evidence, report=Path(report) if report else None, title="http://old against http://new"):
        print("a line of the log", flush=True)
        sys.stdin.readline()
        if how == "fails":
            raise StranglerError("the port is taken")
except StranglerError as error:
    print(f"error: {error.message}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


async def published(evidence: Path, matched: int = 1_000) -> None:
    """Evidence with one stratum that is mismatched."""
    tally = Tally(flag="", basis=Basis(), eligible=matched + 20, mirrored=matched + 4, drops={"queue_full": 16})
    stratum = tally.stratum(reports.key())
    stratum.matched, stratum.mismatched, stratum.confirmed = matched, 3, 3
    stratum.first_at, stratum.last_at = time.time() - 600, time.time()
    stratum.differences["items[].price", Kind.VALUE] = PathTally(
        count=3, confirmed=3, control="10.00", candidate="10.01", sample=reports.sample().id
    )
    async with open_evidence(str(evidence)) as book:
        await book.publish("one", tally)
        await book.keep([reports.sample()])


def serve(folder: Path, report: str = "", how: str = "ends") -> list[str]:
    """The command line of a program that shows the report until a line comes in."""
    return [sys.executable, "-c", SERVE, str(folder / "evidence.db"), report, how]


def served(folder: Path, report: str = "", how: str = "ends") -> subprocess.CompletedProcess[str]:
    """Run it to its end, without a terminal."""
    return subprocess.run(
        serve(folder, report, how), input="\n", capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )


def test_in_a_pipe_lines_go_to_stderr_and_the_report_to_stdout_and_a_file(tmp_path: Path) -> None:
    asyncio.run(published(tmp_path / "evidence.db"))
    done = served(tmp_path, str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    assert "a line of the log" in done.stdout
    assert f"report    {TITLE}" in done.stdout
    assert "1 of 1 stratum has a confirmed difference" in done.stdout
    document = json.loads((tmp_path / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(document)
    assert (document["title"], document["verdict"]) == (TITLE, "mismatched")
    assert document["since"] < document["made_at"]
    evidence = tmp_path / "evidence.db"
    assert done.stderr.splitlines()[-4:] == [
        f"report: {tmp_path / 'report.json'}",
        f"evidence: {evidence}",
        f"next: strangler shadow show {reports.sample().id} --evidence {evidence}",
        f"  or: strangler shadow report --evidence {evidence} --html report.html",
    ]


def test_the_page_is_written_with_its_samples(tmp_path: Path) -> None:
    asyncio.run(published(tmp_path / "evidence.db"))
    done = served(tmp_path, str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stderr
    assert 'id="n0"' in (tmp_path / "report.html").read_text()


def test_without_any_evidence_it_says_that_nothing_is_proved(tmp_path: Path) -> None:
    done = served(tmp_path, str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    assert "inconclusive: nothing was compared, so nothing is proved" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["strata"] == []


def test_a_proxy_that_does_not_start_prints_no_report(tmp_path: Path) -> None:
    done = served(tmp_path, str(tmp_path / "report.json"), "fails")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: the port is taken"
    assert TITLE not in done.stdout
    assert not (tmp_path / "report.json").exists()


def test_a_report_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = served(tmp_path, str(tmp_path / "report.pdf"))
    assert done.returncode != 0
    assert "must end in .json or .html" in done.stderr
    assert "a line of the log" not in done.stdout


def test_a_report_that_can_no_longer_be_written_fails_and_says_where_the_evidence_is(tmp_path: Path) -> None:
    asyncio.run(published(tmp_path / "evidence.db"))
    (tmp_path / "there").mkdir()
    program = subprocess.Popen(
        serve(tmp_path, str(tmp_path / "there" / "report.json")),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "a line of the log\n"
    (tmp_path / "there").rmdir()
    said, complaint = program.communicate("\n", timeout=60)
    assert program.returncode == 1
    assert TITLE in said
    assert "cannot be written" in complaint


def test_on_a_terminal_it_is_live_and_the_log_is_kept_beside_it(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence.db"
    asyncio.run(published(evidence, 1_000))
    command = serve(tmp_path, str(tmp_path / "report.json"))
    terminal = pexpect.spawn(
        command[0], command[1:], dimensions=(30, 120), timeout=60, encoding="utf-8", cwd=str(ROOT),
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    terminal.expect(re.escape("1,003 compared of 1,020 eligible"))
    asyncio.run(published(evidence, 5_000))
    terminal.expect(re.escape("5,003 compared of 5,020 eligible"))
    terminal.sendintr()  # the report is not ended by Ctrl-C: the program is, and says so
    terminal.expect(re.escape("\x1b[?1049l"))
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (tmp_path / "evidence.db.log").read_text() == "a line of the log\n"


def test_when_the_program_is_killed_the_report_is_still_written(tmp_path: Path) -> None:
    asyncio.run(published(tmp_path / "evidence.db"))
    program = subprocess.Popen(
        serve(tmp_path, str(tmp_path / "report.json")),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "a line of the log\n"
    program.send_signal(signal.SIGKILL)
    assert TITLE in program.stdout.read()  # to its end: nobody holds the pipe any more
    program.wait()
    assert program.stdin is not None
    program.stdin.close()
    program.stdout.close()
    assert (tmp_path / "report.json").exists()


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_do_not_cost_the_report(tmp_path: Path, name: signal.Signals) -> None:
    asyncio.run(published(tmp_path / "evidence.db"))
    program = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal({int(name)}, lambda *_: None)\n{SERVE}",
         *serve(tmp_path, str(tmp_path / "report.json"))[3:]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    assert program.stderr is not None
    assert program.stderr.readline().startswith("shadow: ")
    os.killpg(program.pid, name)
    said, _ = program.communicate("\n", timeout=60)
    assert program.returncode == 0
    assert TITLE in said
    assert (tmp_path / "report.json").exists()


def test_when_who_shows_it_is_killed_the_program_prints_the_report_itself(tmp_path: Path) -> None:
    asyncio.run(published(tmp_path / "evidence.db"))
    program = subprocess.Popen(
        serve(tmp_path, str(tmp_path / "report.json")),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert program.stderr is not None
    assert program.stderr.readline().startswith("shadow: ")
    (viewer,) = psutil.Process(program.pid).children()
    viewer.kill()
    said, _ = program.communicate("\n", timeout=60)
    assert program.returncode == 0
    assert TITLE in said
    assert (tmp_path / "report.json").exists()
