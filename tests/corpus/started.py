"""Programs that the corpus is run against: started with a folder for their files, stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ROOT, free_port

OTHERS = ROOT / ".venv-bench" / "bin"
_UVICORN = [sys.executable, "-m", "uvicorn", "--no-proxy-headers", "--log-level", "critical", "--no-access-log"]
ASGI_SERVERS: Mapping[str, list[str]] = {
    "uvicorn-httptools": [*_UVICORN, "--http", "httptools", "--loop", "uvloop"],
    "uvicorn-h11": [*_UVICORN, "--http", "h11", "--loop", "asyncio"],
    "granian": [str(OTHERS / "granian"), "--interface", "asgi", "--http", "1", "--no-ws", "--no-log"],
    "hypercorn": [str(OTHERS / "hypercorn"), "--log-level", "critical"],
}
"""uvicorn is always there; the others come with `make bench`."""


def is_there(server: str) -> bool:
    """Can this ASGI server be started here?"""
    command = ASGI_SERVERS[server][0]
    return os.access(command, os.X_OK)


@contextmanager
def asgi_engine(server: str, upstream_port: int) -> Iterator[int]:
    """Our ASGI mode under this server; its port."""
    port = free_port()
    where = ["--bind", f"127.0.0.1:{port}"] if server == "hypercorn" else ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_paths()["purelib"])),
        "TEST_UPSTREAM_PORT": str(upstream_port),
    }
    with started([*ASGI_SERVERS[server], *where, "tests.corpus.asgi_site:app"], port, ROOT, environment):
        yield port


@contextmanager
def started(command: list[str], port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A program, from when it listens on a port. Raises RuntimeError where it does not."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 20
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not listen on {port}; its code is {process.poll()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
