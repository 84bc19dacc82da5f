"""How much a process gives way to others on the same processors.

A lower nice value alone does little on Linux: a process that runs is mostly left its turn, some milliseconds, whoever
else wakes up; and where sessions are groups of their own (autogroup), nice counts within the session only. A process
of the idle class runs where nobody else wants to, and is interrupted at once, but by its own group only: others wait
for the end of its turn. So its turns are as short as they can be (from Linux 6.12 on, `sched_setattr(2)`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

TURN_NS: Final = 100_000
"""The shortest that Linux takes."""
_LAST: Final = 19
_SET_ATTRIBUTES: Final = {"x86_64": 314, "aarch64": 274}
"""Number of the system call, which has no wrapper in Python or in older libraries."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQII")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period, two clamps."""


def step_back() -> bool:
    """Give way to everybody: by the idle class and short turns, else (another system, not permitted) by nice 19.

    Call it in a process that leads its session. True where the idle class was to be had.
    """
    _group(os.getpid(), _LAST)
    _take_turns(0, TURN_NS)
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
    _take_turns(pid, 0)


def _take_turns(pid: int, nanoseconds: int) -> None:
    """How long a process is left its turn at least, 0 for what is usual; nothing where the system knows no such thing.

    It stays when the class changes; the nice value is left as it is.
    """
    call = _SET_ATTRIBUTES.get(platform.machine())
    if call is None or platform.system() != "Linux":
        return
    try:
        nice = os.getpriority(os.PRIO_PROCESS, pid)
    except ProcessLookupError:
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(call, pid, ctypes.create_string_buffer(attributes, _ATTRIBUTES.size), 0)


def _group(pid: int, nice: int) -> None:
    """The session's share beside other sessions, where the system has such."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
