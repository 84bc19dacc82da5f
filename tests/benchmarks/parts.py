"""What the benchmark needs beside the project: wrk, NGINX and HAProxy from Debian, the rest from wheels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT

DEBIAN = {"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy"}
VENV = ROOT / ".venv-bench"
LOCK = ROOT / "requirements" / "bench.txt"


def install() -> None:
    """Install what is missing; needs root for Debian's packages, once. Raises SystemExit with what to do."""
    missing = [package for command, package in DEBIAN.items() if shutil.which(command) is None]
    if missing:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise SystemExit(f"make bench needs {' '.join(DEBIAN)}: install them ({' '.join(missing)} in Debian)")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment, timeout=300)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            check=True,
            env=environment,
            timeout=600,
            stdout=subprocess.DEVNULL,
        )
    stamp = VENV / ".ready"
    if not stamp.exists() or stamp.stat().st_mtime < LOCK.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, timeout=120)
        subprocess.run(
            [str(VENV / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes",
             "-r", str(LOCK)],
            check=True,
            timeout=900,
        )  # fmt: skip
        stamp.touch()


def wheel(command: str) -> str:
    """Path of a command that came as a wheel."""
    return str(VENV / "bin" / command)


def debian(command: str) -> str:
    """Path of a command from Debian."""
    return shutil.which(command) or command


def folder(name: str) -> Path:
    """A fresh folder for one contestant's files."""
    path = ROOT / "var" / "bench" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
