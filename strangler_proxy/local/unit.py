"""What `strangler up` runs, made ready: every placeholder filled in, every need known."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from strangler_proxy.local.backoff import Backoff
from strangler_proxy.local.declaration import Restart
from strangler_proxy.local.probes import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Runs once, as a command or as a call in this process. Done is what others wait for."""

    name: str
    needs: frozenset[str] = frozenset()
    command: tuple[str, ...] = ()
    call: Callable[[], str] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: Path = Path()
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Is kept running. Its first good probe (or its start, without one) is what others wait for.

    `prepare` runs before each start, `complete` once after the first good probe; both block and run in a thread.
    """

    name: str
    command: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: Path = Path()
    probe: Probe | None = None
    within_s: float = 60.0
    every_s: float = 5.0
    restart: Restart = Restart.ALWAYS
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    url: str = ""
    ports: tuple[int, ...] = ()
    prepare: Callable[[], None] | None = None
    complete: Callable[[], object] | None = None


class UnitState(Enum):
    """Where a unit is."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Status:
    """What is known of one unit while it runs; written by its own task only. `since` is Unix time of `state`."""

    state: UnitState = UnitState.WAITING
    since: float = 0.0
    pid: int | None = None
    pid_started: float | None = None
    restarts: int = 0
    health: str = ""
    backoff: Backoff = field(default_factory=Backoff)
