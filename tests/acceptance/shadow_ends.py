"""What the proofs of shadow mode stand on: sides as processes, a proxy with a candidate, clients, and its report."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.integration.engine_rig import Client
from tests.running_proxy import SECRET, RunningProxy
from tests.servers import ROOT, free_port

FIGURES = Path(os.environ.get("STRANGLER_FIGURES", "var/figures.txt"))
STARTS_WITHIN_S = 30.0


def told(*lines: str) -> None:
    """Print figures, and keep them for the docs."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    with FIGURES.open("a") as file:
        for line in lines:
            print(line)
            file.write(line + "\n")


@contextmanager
def module(folder: Path, name: str, *arguments: str, path: str = "/", **environment: str) -> Iterator[int]:
    """`python -m NAME --port PORT ...` for the length of a block, once it answers; its port."""
    port = free_port()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("STRANGLER_")}
    with (folder / f"{name.rpartition('.')[2]}-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", name, "--port", str(port), *arguments],
            cwd=ROOT, env=inherited | environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5, trust_env=False)
                break
            except httpx.TransportError:
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError(f"{name} did not start; see {log.name}") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def shadowing(folder: Path, control: int, candidate: int | None, *more: str, **environment: str) -> RunningProxy:
    """A proxy that is not started yet; evidence and report are in the folder."""
    proxy = RunningProxy(folder, **{"STRANGLER_ACCESS_LOG": "0", **environment})
    proxy.arguments = ["--upstream", f"http://127.0.0.1:{control}", *more]
    if candidate is not None:
        proxy.arguments += ["--candidate", f"http://127.0.0.1:{candidate}", "--shadow", "100%"]
        proxy.arguments += ["--evidence", str(folder / "evidence.sqlite"), "--report", str(folder / "report.json")]
    return proxy


def cli(*words: str, code: int = 0, **environment: str) -> str:
    """`strangler ...`; its output."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "strangler"), *words],
        cwd=ROOT, env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | environment,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == code, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def report_of(folder: Path) -> dict[str, Any]:
    """What the proxy left."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def drive(
    port: int, asked: Callable[[random.Random], Any], count: int, *, clients: int = 4, per_s: float = 250.0
) -> Counter[int]:
    """Send `count` requests over kept connections at `per_s` at most; how often which status was answered."""
    statuses: Counter[int] = Counter()
    failures: list[BaseException] = []
    share = count // clients

    def run(number: int) -> None:
        chance = random.Random(number)
        began = time.monotonic()
        client = Client(port, 30)
        try:
            for sent in range(share):
                method, target, fields, body = asked(chance)
                answer = client.get(target, f"Accept-Encoding: gzip\r\n{fields}", method, body)
                statuses[answer.status] += 1
                if b"close" in answer.values("connection"):
                    client.close()
                    client = Client(port, 30)
                ahead = began + sent * clients / per_s - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
        except BaseException as error:  # noqa: BLE001 -- raised again where the threads are joined
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]
    return statuses


def differences(report: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """All differences of all strata."""
    for stratum in report["strata"]:
        for difference in stratum["differences"]:
            yield stratum, difference


def settled(seconds: float = 6.0) -> None:
    """Wait until what differs was asked again."""
    time.sleep(seconds)


__all__ = ["SECRET", "Sequence", "cli", "differences", "drive", "module", "report_of", "settled", "shadowing", "told"]
