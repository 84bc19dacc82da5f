"""The whole of it as processes: what `strangler up` runs, and the CLI against it, as a person would use them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.servers import ROOT

STRANGLER = Path(sys.executable).parent / "strangler"
UP_TIMEOUT_S = 240.0
VERB_TIMEOUT_S = 60.0
AWAY_S = 20.0
"""How long a killed control plane may be away."""


class VerbFailed(AssertionError):
    """A command of the CLI ended with another exit code than was expected."""


def held_ms(flipped: Mapping[str, Any]) -> float:
    """How long a finished cutover held requests, by its `release` step; 0.0 for a flip that moved no writer."""
    if not flipped["operation"]:
        return 0.0
    detail = next(step["detail"] for step in reversed(flipped["operation"]["steps"]) if step["name"] == "release")
    found = re.search(r"held_ms=(\d+)", detail)
    return float(found[1]) if found else 0.0


class Stack:
    """Both stacks over one `var` folder, on the usual ports plus an offset, or on any that are free."""

    def __init__(
        self,
        var: Path,
        *,
        port_offset: int = 0,
        free_ports: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.var = var
        self._ports = ["--free-ports"] if free_ports else ["--port-offset", str(port_offset)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STRANGLER_", "SHOP_"))}
        self.env = {**inherited, **(env or {}), "STRANGLER_VAR": str(var), "NO_COLOR": "1", "COLUMNS": "160"}

    def __enter__(self) -> Stack:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self.run("up", "--detach", *self._ports, timeout_s=UP_TIMEOUT_S)

    def down(self) -> None:
        """End everything."""
        self.run("down", timeout_s=90.0)

    def run(self, *words: str, expect: int | None = 0, timeout_s: float = VERB_TIMEOUT_S) -> str:
        """One command of the CLI; its stdout. Raises VerbFailed on another exit code (`expect` None: any)."""
        done = subprocess.run(
            [str(STRANGLER), *words],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if expect is not None and done.returncode != expect:
            raise VerbFailed(
                f"strangler {' '.join(words)}: exit code {done.returncode}, not {expect}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def json(self, *words: str) -> Any:
        """One command with `--output json`."""
        return json.loads(self.run(*words, "--output", "json"))

    def processes(self) -> dict[str, dict[str, Any]]:
        """`strangler ps` by name."""
        return {row["name"]: row for row in self.json("ps")["processes"]}

    @cached_property
    def ports(self) -> dict[str, int]:
        """Port by name, as `strangler ps` says."""
        return {name: int(port) for name, port in self.json("ps")["ports"].items()}

    @property
    def proxy_url(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.ports['proxy']}"

    @property
    def dsns(self) -> dict[str, str]:
        """Connection strings of the databases, as their owners."""
        return {name: str(url) for name, url in self.json("ps")["databases"].items()}

    def stage(self, flag: str) -> dict[str, Any]:
        """The flag's row of `strangler status`."""
        found: dict[str, Any] = self.call("GET", f"/v1/flags/{flag}")["flag"]
        return found

    def flip(self, flag: str, stage: str, *options: str) -> dict[str, Any]:
        """Flip and wait; what `--output json` says."""
        text = self.run("flip", flag, stage, *options, "--output", "json", timeout_s=120.0)
        done: dict[str, Any] = json.loads(text)
        return done

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call of the control plane's API: what the CLI sends, without starting a process for it."""
        token = (self.var / "secrets" / "control_token").read_text().strip()
        deadline = time.monotonic() + AWAY_S
        while True:
            try:
                answer = httpx.request(
                    method,
                    f"http://127.0.0.1:{self.ports['control']}{path}",
                    json=body,
                    headers={"Authorization": f"Bearer {token}", "Strangler-Actor": "acceptance"},
                    timeout=30.0,
                )
                break
            except httpx.TransportError:  # the control plane was killed: like the CLI, look again
                if method != "GET" or time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def wait_until_equal(self, flag: str, *, timeout_s: float = 30.0) -> None:
        """Wait until a live stream has nothing left to carry."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.stage(flag)["stream"]["published"]
            if status["mode"] == "live" and status["dirty_keys"] == 0 and not status["stuck"]:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"the stream of {flag} is not empty: {status}")
            time.sleep(0.3)

    @property
    def administrator_url(self) -> str:
        """Connection string of the embedded server as its superuser."""
        secret = (self.var / "secrets" / "postgres-postgres").read_text().strip()
        return f"postgresql://postgres:{secret}@127.0.0.1:{self.ports['postgres']}/postgres"

    def processor(self) -> tuple[str, str]:
        """Address and token of the card processor."""
        token = (self.var / "secrets" / "processor_token").read_text().strip()
        return f"http://127.0.0.1:{self.ports['processor']}", token

    def served(self) -> httpx.Response:
        """One request through the proxy."""
        return httpx.get(f"{self.proxy_url}/api/catalog/products?limit=1", timeout=10.0)
