"""`var/run`: who runs here, with which processes. Written whole at every change; read by ps, down and the next up."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from strangler_proxy.local.secret_files import write_private

SCHEMA_VERSION = 1
MARKER = "STRANGLER_UP_VAR"
"""Environment variable that every child carries: the var folder it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """One unit as `ps` shows it. Times are Unix seconds; `kind` is step, process or server."""

    name: str
    kind: str
    state: str
    since: float
    pid: int | None = None
    pid_started: float | None = None
    restarts: int = 0
    ports: list[int] = field(default_factory=list)
    url: str = ""
    health: str = ""

    @property
    def alive(self) -> bool:
        """Does that very process still exist (a reused id is another process)?"""
        return self.pid is not None and is_alive(self.pid, self.pid_started)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of `strangler up`. `state` is starting, ready, stopping, stopped or failed; `reason` says why."""

    project: str
    file: str
    pid: int
    pid_started: float | None
    since: float
    state: str
    reason: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=dict, repr=False)
    units: list[UnitRecord] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Is that `strangler up` still there?"""
        return is_alive(self.pid, self.pid_started)


def is_alive(pid: int, started: float | None) -> bool:
    """Is there a process with this id that began at this time, and is no zombie?"""
    try:
        process = psutil.Process(pid)
        same = started is None or abs(process.create_time() - started) < 0.05
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class StateFile:
    """The record of a var folder, and the lock that only one `strangler up` can hold."""

    def __init__(self, var: Path) -> None:
        self.folder = var / "run"
        self.path = self.folder / "state.json"
        self._lock: int | None = None

    def lock(self) -> bool:
        """Take the lock; False where another process has it. It goes when this process goes, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write(self, record: RunRecord) -> None:
        """Replace what is there."""
        # Private: connection strings hold passwords.
        write_private(self.path, json.dumps({"schema_version": SCHEMA_VERSION, **asdict(record)}, indent=1))

    def read(self) -> RunRecord | None:
        """What was written last; None where there is nothing that can be read."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text())
            if found.pop("schema_version") != SCHEMA_VERSION:
                return None
            units = [UnitRecord(**unit) for unit in found.pop("units")]
            return RunRecord(**found, units=units)
        except (OSError, ValueError, TypeError, KeyError):
            return None
