"""How much a process gives way to others on the same processors.

A lower nice value alone does little on Linux: a process that runs is mostly left its turn, some milliseconds, whoever
else wakes up; and where sessions are groups of their own (autogroup), nice counts within the session only. A process
of the idle class runs where nobody else wants to, and is interrupted at once.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_LAST: Final = 19


def step_back() -> bool:
    """Give way to everybody: by the idle class, else (another system, or not permitted) by nice 19.

    Call it in a process that leads its session. True where the idle class was to be had.
    """
    _group(os.getpid(), _LAST)
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        os.nice(_LAST)
        return False
    return True


def come_forward(pid: int) -> None:
    """Have a process that had stepped back take part as others do again, as far as the system lets it.

    One that gives way to everybody may not get to do this by itself.
    """
    _group(pid, 0)
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _group(pid: int, nice: int) -> None:
    """The session's share beside other sessions, where the system has such."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
