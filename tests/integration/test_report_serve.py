"""`strangler serve --candidate` as somebody at a terminal sees it: live, and the report after Ctrl-C."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from jsonschema import Draft202012Validator

from tests.servers import ROOT, free_port

SCHEMA = json.loads((ROOT / "docs/reference/shadow-report.schema.json").read_text())
PLAIN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Side(http.server.BaseHTTPRequestHandler):
    """Answers with a price; the new side's is wrong for one item."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    wrong = False

    def do_GET(self) -> None:
        """One item."""
        number = int(self.path.split("/")[2])
        body = json.dumps({"id": number, "price": number + 0.25 * (self.wrong and number == 7)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class WrongSide(Side):
    """The new side."""

    wrong = True


@pytest.fixture
def sides() -> Iterator[list[str]]:
    """Addresses of the old and the new side."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), side) for side in (Side, WrongSide)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


def ask(port: int, items: int) -> None:
    """Ask for every item once, as soon as the port answers."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for number in range(1, items + 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/items/{number}", timeout=10) as answer:
            assert json.load(answer)["price"] == number


def test_on_a_terminal_the_report_grows_and_ctrl_c_prints_and_writes_it(sides: list[str], tmp_path: Path) -> None:
    port = free_port()
    old, new = sides
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "strangler_proxy.cli.main", "serve", "--listen", f"127.0.0.1:{port}", "--upstream", old,
         "--candidate", new, "--shadow", "100%", "--report", "report.html"],
        dimensions=(40, 130), timeout=60, encoding="utf-8", cwd=str(tmp_path),
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )  # fmt: skip
    try:
        terminal.expect(re.escape("\x1b[?1049h"))
        terminal.expect("Ctrl-C ends it")
        ask(port, 40)
        terminal.expect("[1-9][0-9]* compared of 40 eligible")
        terminal.expect("has a confirmed difference")  # once it was asked again
        terminal.sendintr()
        terminal.expect(re.escape("\x1b[?1049l"))
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    said = PLAIN.sub("", terminal.before)
    assert terminal.exitstatus == 0, said
    for wanted in (
        f"{old} against {new}", "mismatched: 1 of 1 stratum has a confirmed difference", "100 %: 40 compared of 40",
        "price (value), in 1 of 40 pairs, 1 confirmed", "7.25", "report: report.html",
        f"evidence: {tmp_path / 'strangler-shadow.sqlite'}", "next: strangler shadow show ",
    ):  # fmt: skip
        assert wanted in said, said
    log = (tmp_path / "strangler-shadow.sqlite.log").read_text()
    assert log.count('"request.forwarded"') == 40
    assert "proxy.started" in log
    assert "request.forwarded" not in said
    assert "GET /items/{id} 2xx guest application/json" in (tmp_path / "report.html").read_text()


def test_in_a_pipe_the_command_that_it_names_next_works(sides: list[str], tmp_path: Path) -> None:
    port = free_port()
    old, new = sides
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    strangler = [sys.executable, "-m", "strangler_proxy.cli.main"]
    program = subprocess.Popen(
        [*strangler, "serve", "--listen", f"127.0.0.1:{port}", "--upstream", old, "--candidate", new,
         "--report", "report.json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stderr is not None
    while "proxy.started" not in program.stdout.readline():
        assert program.poll() is None
    ask(port, 40)
    while "1 mismatched" not in program.stderr.readline():
        assert program.poll() is None
    program.terminate()
    said, words = program.communicate(timeout=60)
    assert program.returncode == 0, words
    document = json.loads((tmp_path / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(document)
    assert document["verdict"] == "mismatched"
    assert document["coverage"]["compared"] == 40
    assert "price (value), in 1 of 40 pairs, 1 confirmed" in said
    (following,) = re.findall(r"^next: strangler (.*)$", words, re.M)
    shown = subprocess.run(
        [*strangler, *shlex.split(following)], capture_output=True, text=True, cwd=tmp_path, env=environment,
        timeout=60, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "7.25" in shown.stdout
