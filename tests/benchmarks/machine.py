"""What was measured on what: figures without it say nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.benchmarks.parts import debian, wheel

_VERSIONS = {
    "nginx": (debian("nginx"), "-v"),
    "haproxy": (debian("haproxy"), "-v"),
    "envoy": (wheel("envoy"), "--version"),
    "traefik": (wheel("traefik"), "version"),
    "caddy": (wheel("caddy"), "version"),
    "granian": (wheel("granian"), "--version"),
    "wrk": (debian("wrk"), "-v"),
}


def machine() -> dict[str, object]:
    """Processor, cores, memory, kernel, Python, and the load that was there before we began."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory[1]) / 1_048_576) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({python_build()})",
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "versions": versions(),
    }


def described(found: dict[str, object]) -> str:
    """In a line or two."""
    versions_text = ", ".join(f"{name} {version}" for name, version in dict(found["versions"]).items())  # type: ignore[call-overload]
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gb']} GB, {found['system']}, "
        f"Python {found['python']}; load before: {found['load_before']}\n{versions_text}"
    )


def python_build() -> str:
    """How this Python was built: one that was not optimised by a profile takes half as long again for the same code."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "optimised by a profile"
    return "the distribution's" if sys.base_prefix == "/usr" else "not optimised by a profile"


def versions() -> dict[str, str]:
    """Of everybody that has one."""
    found = {name: _version(*command) for name, command in _VERSIONS.items()}
    for name in ("uvloop", "httptools", "uvicorn"):
        found[name] = importlib.metadata.version(name)
    return {name: version for name, version in found.items() if version}


def _version(command: str, option: str) -> str:
    try:
        done = subprocess.run([command, option], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else ""


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor() or platform.machine()
