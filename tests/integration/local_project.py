"""A small project in a folder of its own, and `strangler up` over it as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

STRANGLER = Path(sys.executable).parent / "strangler"
SLEEP = "python -S -c 'import time; time.sleep(600)'"
WEB = "python -S -m http.server {ports.web} --bind 127.0.0.1"


class LocalProject:
    """`text` is its strangler.toml. Leaves nothing behind when it is closed."""

    def __init__(self, folder: Path, text: str, *, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "strangler.toml").write_text(text)
        self.folder = folder
        self.var = folder / "var"
        hidden = ("STRANGLER_", "SHOP_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | dict(env or {})
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *words: str, timeout_s: float = 40.0) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            [str(STRANGLER), *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self, *words: str) -> subprocess.Popen[str]:
        """`strangler up` in the foreground, as a terminal would have it."""
        with (self.folder / "out.txt").open("w") as out:
            process = subprocess.Popen(
                [str(STRANGLER), "up", *words],
                cwd=self.folder,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    @property
    def out(self) -> str:
        """What the last `up` showed."""
        return (self.folder / "out.txt").read_text()

    def ps(self) -> dict[str, Any]:
        """`strangler ps --output json`."""
        done = self.run("ps", "--output", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def state(self) -> dict[str, Any]:
        """The same, read from the file: quick enough to poll."""
        try:
            found: dict[str, Any] = json.loads((self.var / "run" / "state.json").read_text())
        except FileNotFoundError:
            return {"state": "none", "units": []}
        return found

    def unit(self, name: str) -> dict[str, Any]:
        """One unit of the state file."""
        return next(unit for unit in self.state()["units"] if unit["name"] == name)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Until everything is ready; fails early when `up` has ended."""

        def ready() -> bool:
            assert not self.started or self.started[-1].poll() is None, self.out
            return bool(self.state()["state"] == "ready")

        wait_until(ready, timeout_s)

    def pids(self) -> list[int]:
        """Processes that belong to this project, whoever started them."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("STRANGLER_UP_VAR") == str(self.var)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def close(self) -> None:
        """End what is left."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(25)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        state = self.state()
        if state["units"]:
            self.run("down", "--timeout", "20")
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)


def wait_until(true: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Poll; fails when time is over."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Does it run (a zombie does not)?"""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
