"""Our own contestants: the engine, the ASGI mode, the engine with a mirror, and what a cutover makes it do."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.contestant import ALL, SHADOWED, USUAL, WRITES, Contestant
from tests.benchmarks.parts import wheel
from tests.benchmarks.upstream import CANDIDATE_PORT, FENCED_PORT, UPSTREAM_PORT
from tests.servers import ROOT

UVICORN: Final = ("--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning",
                  "--backlog", "1024", "--no-proxy-headers", "--no-server-header", "--no-date-header")  # fmt: skip
HERE: Final = {"PYTHONPATH": str(ROOT), "BENCH_UPSTREAM_PORT": str(UPSTREAM_PORT)}
_WITH_OURS: Final = {**HERE, "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_paths()["purelib"]))}
_QUIET: Final = {**HERE, "STRANGLER_ACCESS_LOG": "0"}
_APP: Final = "tests.benchmarks.asgi_app:app"
_STRANGLER: Final = Path(sys.executable).with_name("strangler")
_SHADOW: Final = ROOT / "strangler_proxy" / "serve_shadow.py"


def engine(mode: str, *extra: str, upstream_port: int = UPSTREAM_PORT) -> Callable[[Path, int], list[str]]:
    """The command of our engine in one of its modes (`tests.benchmarks.engine`)."""

    def prepare(folder: Path, port: int) -> list[str]:
        return [sys.executable, "-m", "tests.benchmarks.engine", mode, str(port), str(upstream_port), *extra]

    return prepare


def _uvicorn(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "uvicorn", _APP, "--host", "127.0.0.1", "--port", str(port), *UVICORN]


def _granian(folder: Path, port: int) -> list[str]:
    return [wheel("granian"), "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--runtime-threads", "1", "--loop", "uvloop", "--no-ws", "--http", "1", "--log-level", "warning",
            "--backlog", "1024", _APP]  # fmt: skip


def _serve(folder: Path, port: int) -> list[str]:
    """As a user starts it: every request has its line in the log."""
    return [str(_STRANGLER), "serve", "--listen", f"127.0.0.1:{port}",
            "--upstream", f"http://127.0.0.1:{UPSTREAM_PORT}", "--state-dir", str(folder)]  # fmt: skip


def _shadow(share: str) -> Callable[[Path, int], list[str]]:
    """`strangler serve` as a user starts it, with a candidate; its judge is a process of its own, counted too."""

    def prepare(folder: Path, port: int) -> list[str]:
        return [str(_STRANGLER), "serve", "--listen", f"127.0.0.1:{port}",
                "--upstream", f"http://127.0.0.1:{UPSTREAM_PORT}",
                "--candidate", f"http://127.0.0.1:{CANDIDATE_PORT}", "--shadow", share,
                "--evidence", str(folder / "evidence.sqlite"), "--state-dir", str(folder)]  # fmt: skip

    return prepare


def _not_yet() -> str:
    return "" if _SHADOW.exists() else "strangler serve has no --candidate yet"


OURS: Final[Sequence[Contestant]] = (
    Contestant(name="strangler-plain", prepare=engine("plain"), environment=HERE),
    Contestant(name="strangler", prepare=engine("full"), environment=HERE, cases=ALL),
    Contestant(name="strangler-serve", prepare=_serve, environment=HERE, cases=USUAL[:3]),
    Contestant(name="strangler-asgi-uvicorn", prepare=_uvicorn, environment=HERE),
    Contestant(name="strangler-asgi-granian", prepare=_granian, environment=_WITH_OURS),
    *(
        Contestant(
            name=f"strangler-shadow-{share}", prepare=_shadow(f"{share}%"), environment=_QUIET, cases=SHADOWED,
            lags=True, why_not=_not_yet,
        )
        for share in (10, 100)
    ),
    Contestant(
        name="strangler-fenced", prepare=engine("fenced", "--monolith-port", str(FENCED_PORT)), environment=HERE,
        cases=WRITES,
    ),
    Contestant(name="strangler-held", prepare=engine("held"), environment=HERE, cases=WRITES),
)  # fmt: skip
