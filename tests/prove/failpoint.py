"""A failpoint in a process: armed by a file, met once, told by another file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

_GO_S = 3.0


async def strike(armed: Path, step: str, when: str) -> bool:
    """Is this step the one that the file names? Then strike, once; True after a partition."""
    try:
        wanted = json.loads(armed.read_text())
    except (OSError, ValueError):
        return False
    if (wanted["step"], wanted["when"]) != (step, when):
        return False
    mine = armed.with_suffix(f".{os.getpid()}")
    try:
        armed.rename(mine)
    except OSError:
        return False  # another one was faster
    mine.write_text(json.dumps({**wanted, "worker": os.environ["STRANGLER_WORKER_ID"]}))
    mine.rename(armed.with_suffix(".met"))
    if wanted["fault"] == "partition":
        until = time.monotonic() + _GO_S
        while armed.with_suffix(".met").exists() and time.monotonic() < until:  # noqa: ASYNC110 - the proof takes it
            await asyncio.sleep(0.002)
        return True
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[wanted["fault"]])
    await asyncio.sleep(0.01)  # a stop takes effect before anything else is done
    return False
