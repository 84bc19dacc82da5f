"""One measurement: a contestant on core 0, the load on core 1, CPU seconds of all its processes from the kernel."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Final

from tests.benchmarks.contestant import Case, Contestant
from tests.benchmarks.engine import visitor_cookie
from tests.benchmarks.parts import debian, folder
from tests.benchmarks.upstream import UPSTREAM_PORT, upstream

LUA = Path(__file__).with_name("load.lua")
NICE = int(os.environ.get("BENCH_NICE", "-5"))
"""For root: what else runs on the machine disturbs all contestants less."""


UPSTREAM: Final = SimpleNamespace(pid=None)
"""Whose work is not foreign."""
FOREIGN: Final = 0.25
"""Measured once more where others took more than this share of the two cores meanwhile."""
_AGAIN: Final = 1
_LAG_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run gave. `cpu_us`: microseconds of CPU of all the contestant's processes per request.

    `foreign`: CPUs that were busy with something else meanwhile.
    """

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
    foreign: float

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
def upstream_running(files: Mapping[str, int] = MappingProxyType({})) -> Iterator[None]:
    """The NGINX that everybody forwards to, with more files of so many bytes."""
    where = folder("upstream")
    command = upstream(where)
    for name, size in files.items():
        (where / "www" / name).write_text("x" * size)
    with spawned(command, where / "output.log", {}, core=1) as process:
        wait_for(UPSTREAM_PORT)
        UPSTREAM.pid = process.pid
        yield
    UPSTREAM.pid = None


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


def measure(name: str, pid: int | None, port: int, case: Case, *, turn: int, lags: bool = False) -> Figures:
    """Run one case; once more where the machine was busy with something else, and then the quietest one counts."""
    found = [_measure(name, pid, port, case, turn, lags=lags)]
    while found[-1].foreign > FOREIGN and len(found) <= _AGAIN and turn >= 0:
        found.append(_measure(name, pid, port, case, turn, lags=lags))
    return min(found, key=lambda figures: figures.foreign)


def _measure(name: str, pid: int | None, port: int, case: Case, turn: int, *, lags: bool) -> Figures:
    before, busy, children, began = cpu_seconds(pid), _busy_seconds(), _children_seconds(), time.monotonic()
    upstream = cpu_seconds(UPSTREAM.pid)
    load = _wrk(port, case)
    if lags:
        _wait_until_done(pid)
    used = cpu_seconds(pid) - before
    known = used + _children_seconds() - children + cpu_seconds(UPSTREAM.pid) - upstream
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
        foreign=max(0.0, _busy_seconds() - busy - known) / (time.monotonic() - began),
    )


def _wait_until_done(pid: int | None) -> None:
    """What it began, it shall end: until it is as good as idle."""
    deadline = time.monotonic() + _LAG_S
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.2)
        if cpu_seconds(pid) - before < 0.004:
            return


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


def _busy_seconds() -> float:
    """Time that all cores were not idle so far; what the host took away included."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _children_seconds() -> float:
    """Of the load generators that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
