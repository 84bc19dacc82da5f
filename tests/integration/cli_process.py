"""The command line as a process of its own, forked from one that has imported it (imports are most of its time)."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "strangler_proxy.cli.main",
        "strangler_proxy.cli.client",
        "strangler_proxy.cli.flip",
        "strangler_proxy.cli.status",
        "strangler_proxy.plan.plans",
        "tests.integration.cli_process",
        "httpcore",
        "rich.live",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON document: the whole of stdout, nothing around it."""
        found: dict[str, Any] = json.loads(self.out)
        assert found["schema_version"] == 1
        return found


def run_command(words: tuple[str, ...], environment: dict[str, str], folder: Path, *, timeout_s: float) -> Done:
    """Run `strangler WORDS` and wait until it has ended."""
    out, err = (folder / f"{threading.get_ident()}.{name}" for name in ("out", "err"))
    process = _FORKS.Process(target=_command, args=(words, environment, folder, out, err))
    process.start()
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{words} did not end within {timeout_s} s: {err.read_text()}")
    done = Done(code=process.exitcode, out=out.read_text(), err=err.read_text())
    process.close()
    assert "Traceback" not in done.err, done.err
    return done


def _command(words: tuple[str, ...], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    """In the forked process: become the command."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), descriptor)
    sys.argv = ["strangler", *words]
    from strangler_proxy.cli.main import main

    main()
