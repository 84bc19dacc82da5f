"""`strangler worker` with failpoints or a seeded bug. For tests only.

Failpoints: whoever gets to the step that the file `FLAG.armed` in `PROVE_ARMED` names takes the file away (so it
strikes once) and kills itself, stops itself, or asks for a partition: its lines are cut while it waits, and after a
partition the answer of the step is lost. `PROVE_BUG=NAME`: one of `bugs.BUGS`. `PROVE_SHORT=1`: leases and time-outs
of about a half, so that more cutovers fit into a minute; a part of the runs keeps those of production.
"""

from __future__ import annotations

import contextvars
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

from strangler_proxy import worker
from strangler_proxy.core.errors import StoreUnavailable
from strangler_proxy.store.flags import PostgresFlags
from strangler_proxy.sync import batch, cutover, flow, record, stream, work
from tests.prove.failpoint import strike
from tests.prove.orphan import end_with_parent

STEPS: dict[str, tuple[Any, str]] = {
    "intent": (record, "intend"),
    "hold": (PostgresFlags, "hold"),
    "fence": (record, "fence"),
    "catch_up": (record, "caught_up"),
    "check": (cutover, "compare"),
    "decide": (record, "decide"),
    "open": (record, "open_target"),
    "release": (PostgresFlags, "release"),
    "finish": (record, "finish"),
    "abort": (record, "abort"),
    "apply": (batch, "write"),
}
"""Of a cutover, in its order; `apply` is the applier between reading rows and committing them."""

TIMES = ("before", "after")
STRIKES = ("kill", "stop", "partition")

_flag: contextvars.ContextVar[str] = contextvars.ContextVar("flag", default="")


def arm(folder: Path) -> None:
    """Put a failpoint around every step; each looks for its flag's file."""
    _say_flag(cutover.Cutover, "run", lambda self, *_: self._manifest.flag)
    _say_flag(worker, "recover", lambda both, *_: both.manifest.flag)
    _say_flag(flow.Flow, "run", lambda self: self._layout.flag)
    for step in STEPS:
        _wrap(folder, step)


def _say_flag(holder: Any, name: str, flag_of: Callable[..., str]) -> None:
    done: Callable[..., Awaitable[Any]] = getattr(holder, name)

    @functools.wraps(done)
    async def with_flag(*args: Any, **kwargs: Any) -> Any:
        _flag.set(flag_of(*args))
        return await done(*args, **kwargs)

    setattr(holder, name, with_flag)


def _wrap(folder: Path, step: str) -> None:
    holder, name = STEPS[step]
    done: Callable[..., Awaitable[Any]] = getattr(holder, name)

    @functools.wraps(done)
    async def with_fault(*args: Any, **kwargs: Any) -> Any:
        await strike(folder / f"{_flag.get()}.armed", step, "before")
        found = await done(*args, **kwargs)
        if await strike(folder / f"{_flag.get()}.armed", step, "after"):
            lost = "the answer was lost"
            raise StoreUnavailable(lost) if holder is PostgresFlags else psycopg.OperationalError(lost)
        return found

    setattr(holder, name, with_fault)


def shorten() -> None:
    """Leases and time-outs of about a half; pauses of less. The deadline of a cutover stays.

    No shorter: a machine that is busy with other work has to be able to renew a lease.
    """
    worker.LEASE_S, worker.RENEW_S, worker.STREAMS_S, worker.RECOVER_S = 3.0, 0.8, 0.5, 0.5
    worker._AWAY_S = 0.5
    work.RENEW_S = 1.5
    cutover.PREFLIGHT_TIMEOUT_S = 10.0
    flow.BATCH_TIMEOUT_S = 10.0
    stream.PUBLISH_S, stream._LONGEST_WAIT_S = 0.25, 1.0
    worker.open_store = functools.partial(worker.open_store, lease_s=5.0)


def main() -> None:
    """Arm, then run the worker as the command does."""
    end_with_parent()
    if os.environ.get("PROVE_SHORT"):
        shorten()
    if os.environ.get("PROVE_BUG"):
        from tests.prove.bugs import seed

        seed(os.environ["PROVE_BUG"])
    arm(Path(os.environ["PROVE_ARMED"]))
    from strangler_proxy.cli.main import main as strangler

    sys.argv = ["strangler", "worker"]
    strangler()


if __name__ == "__main__":
    main()
