"""httpbin as a process of its own, from a virtual environment of its own (its lock is requirements/httpbin.txt)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.servers import ROOT, free_port

VENV = ROOT / ".venv-httpbin"
LOCK = ROOT / "requirements" / "httpbin.txt"


def python() -> str:
    """The interpreter that has httpbin; the first time, and after the lock has changed, it is installed."""
    stamp = VENV / ".ready"
    interpreter = str(VENV / "bin" / "python")
    if not stamp.exists() or stamp.stat().st_mtime < LOCK.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, timeout=120)
        subprocess.run(
            [
                interpreter,
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "--require-hashes",
                "-r",
                str(LOCK),
            ],
            check=True,
            timeout=300,
        )
        stamp.touch()
    return interpreter


@contextmanager
def httpbin() -> Iterator[int]:
    """Running under gunicorn; its port."""
    port = free_port()
    command = [python(), "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4", "--keep-alive", "30",
               "--log-level", "error", "httpbin:app"]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=VENV)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/status/200", timeout=10, trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError("httpbin does not answer") from None
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
