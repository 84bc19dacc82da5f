"""One measurement: a contestant on core 0, the load on core 1, CPU seconds of all its processes from the kernel."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.engine import visitor_cookie
from tests.benchmarks.parts import debian, folder

LUA = Path(__file__).with_name("load.lua")
NICE = int(os.environ.get("BENCH_NICE", "-5"))
"""For root: what else runs on the machine disturbs all contestants less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kind of load: `mode` get or post, `connections` kept alive."""

    name: str
    mode: str
    path: str
    connections: int
    seconds: int = 1


CASES = (
    Case(name="1 KB", mode="get", path="/1k.json", connections=32),
    Case(name="64 KB", mode="get", path="/64k.json", connections=32),
    Case(name="POST 4 KB", mode="post", path="/post", connections=32),
    Case(name="1 KB, one connection", mode="get", path="/1k.json", connections=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run gave. `cpu_us`: microseconds of CPU of all the contestant's processes per request."""

    contestant: str
    case: str
    turn: int
    requests: int
    per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    memory_mb: float
    errors: int

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


@contextmanager
def running(contestant: Contestant, port: int) -> Iterator[int | None]:
    """The contestant's process id while it serves on `port`; None for the upstream itself."""
    if contestant.prepare is None:
        yield None
        return
    where = folder(contestant.name)
    command = contestant.prepare(where, port)
    with spawned(command, where / "output.log", contestant.environment, core=0) as process:
        wait_for(port)
        yield process.pid


@contextmanager
def spawned(
    command: list[str], log: Path, environment: Mapping[str, str], *, core: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, pinned to a core, ended afterwards."""
    pinned = ["taskset", "-c", str(core), *command] if core is not None else command
    with log.open("ab") as out:
        process = subprocess.Popen(
            pinned, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
            start_new_session=True,
        )  # fmt: skip
    prefer(process.pid)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def prefer(pid: int) -> None:
    """Give a process's session a larger share of the CPU where that is allowed (Linux groups by session)."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
    except OSError:
        return


def wait_for(port: int, *, timeout_s: float = 20.0) -> None:
    """Wait until a GET is answered 200."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=3)
        try:
            connection.request("GET", "/1k.json")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise TimeoutError(f"nobody answers on port {port}")


def measure(name: str, pid: int | None, port: int, case: Case, *, turn: int) -> Figures:
    """Run one case."""
    before = cpu_seconds(pid)
    load = _wrk(port, case)
    used = cpu_seconds(pid) - before
    requests = max(1, int(load["requests"]))
    return Figures(
        contestant=name,
        case=case.name,
        turn=turn,
        requests=int(load["requests"]),
        per_second=load["requests"] / (load["duration_us"] / 1e6),
        cpu_us=used / requests * 1e6,
        p50_us=load["p50_us"],
        p99_us=load["p99_us"],
        memory_mb=memory_mb(pid),
        errors=int(load["errors"]),
    )


def _wrk(port: int, case: Case) -> dict[str, float]:
    prefer(os.getpid())
    done = subprocess.run(
        ["taskset", "-c", "1", debian("wrk"), "-t1", f"-c{case.connections}", f"-d{case.seconds}s", "--timeout", "10s",
         "-s", str(LUA), f"http://127.0.0.1:{port}{case.path}"],
        capture_output=True,
        text=True,
        timeout=case.seconds + 30,
        env={**os.environ, "LOAD_MODE": case.mode, "LOAD_VISITOR": visitor_cookie()},
        check=True,
    )  # fmt: skip
    found = re.search(r"^RESULT (.*)$", done.stdout, re.M)
    assert found, done.stdout + done.stderr
    names = ("requests", "duration_us", "errors", "p50_us", "p99_us")
    return dict(zip(names, map(float, found[1].split()), strict=True))


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += tree(int(child))
        except OSError:
            continue
    return found


def cpu_seconds(pid: int | None) -> float:
    """Time on a CPU of all threads of the whole tree so far, by the scheduler's own count of nanoseconds."""
    nanoseconds = 0
    for one in tree(pid) if pid else []:
        for thread in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                nanoseconds += int(thread.read_text().split()[0])
            except OSError:
                continue
    return nanoseconds / 1e9


def memory_mb(pid: int | None) -> float:
    """Resident memory of the whole tree."""
    kilobytes = 0
    for one in tree(pid) if pid else []:
        try:
            text = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        found = re.search(r"VmRSS:\s+(\d+)", text)
        kilobytes += int(found[1]) if found else 0
    return kilobytes / 1024
