"""A process of the proof: started, stopped, killed by name; its output in one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers import ROOT


class ProvedProcess:
    """One Python module as a process."""

    def __init__(self, name: str, module: str, arguments: list[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._env = {**os.environ, **env}
        self._log = (folder / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it was before is gone."""
        self.process = subprocess.Popen(
            self._command, env=self._env, cwd=ROOT, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )

    def send(self, number: signal.Signals) -> None:
        """A signal, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def stop(self) -> None:
        """SIGSTOP, until it is healed."""
        self.send(signal.SIGSTOP)

    def ended(self) -> bool:
        """Has it died?"""
        return self.process is None or self.process.poll() is not None

    def heal(self) -> None:
        """Running again, whatever was done to it."""
        self.send(signal.SIGCONT)
        if self.ended():
            self.start()

    def close(self) -> None:
        """End it for good."""
        self.send(signal.SIGCONT)
        self.kill()
        self._log.close()
