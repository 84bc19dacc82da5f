"""`strangler worker` with a failpoint or a seeded bug, both by environment variable. For tests only.

`PROVE_FAILPOINT=STEP:WHEN:FAULT`: at this step of a cutover (see STEPS), `before` or `after` its transaction, `kill` or
`stop` this process; once, as `PROVE_ONCE` names a file that says so. `PROVE_BUG=NAME`: one of `bugs.BUGS`.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from strangler_proxy.store.flags import PostgresFlags
from strangler_proxy.sync import cutover, record

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
}
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def arm(failpoint: str, once: Path) -> None:
    """Put one failpoint around one step."""
    step, when, fault = failpoint.split(":")
    holder, name = STEPS[step]
    work: Callable[..., Awaitable[Any]] = getattr(holder, name)

    def strike(at: str) -> None:
        if at == when and not once.exists():
            once.write_text(failpoint)
            os.kill(os.getpid(), _SIGNALS[fault])

    @functools.wraps(work)
    async def with_fault(*args: Any, **kwargs: Any) -> Any:
        strike("before")
        done = await work(*args, **kwargs)
        strike("after")
        return done

    setattr(holder, name, with_fault)


def _end_with(parent: int) -> None:
    """A proof that was killed leaves nothing behind."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> None:
    """Arm, then run the worker as the command does."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if os.environ.get("PROVE_FAILPOINT"):
        arm(os.environ["PROVE_FAILPOINT"], Path(os.environ["PROVE_ONCE"]))
    if os.environ.get("PROVE_BUG"):
        from tests.prove.bugs import seed

        seed(os.environ["PROVE_BUG"])
    from strangler_proxy.cli.main import main as strangler

    sys.argv = ["strangler", "worker"]
    strangler()


if __name__ == "__main__":
    main()
