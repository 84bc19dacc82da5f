"""How far a judge gives way: to whoever else wants its processor, and to a share of it at most."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from strangler_proxy.shadow.priority import TURN_NS
from tests.integration.judge_rig import judging, until
from tests.pairs import answer, pair

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="the idle class is Linux's")]

DUTY = 0.05
SECONDS = 4.0
MORE = 1.5
"""Times its share at most: what it does between two looks counts too."""


def gives_way(pid: int) -> bool:
    """Is it in the idle class, or last of the others where that is not permitted?"""
    return os.sched_getscheduler(pid) == os.SCHED_IDLE or psutil.Process(pid).nice() == 19


def test_a_process_steps_back_and_comes_forward() -> None:
    code = """
import os
from strangler_proxy.shadow.priority import come_forward, step_back
idle = step_back()
assert (os.sched_getscheduler(0) == os.SCHED_IDLE) is idle
assert idle or os.nice(0) == 19
come_forward(os.getpid())
print(os.sched_getscheduler(0) == os.SCHED_OTHER or "not permitted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, start_new_session=True
    )
    assert done.stdout.strip() in ("True", "not permitted")
    if os.geteuid() == 0:
        assert done.stdout.strip() == "True"


async def test_a_judge_gives_way_and_uses_no_more_than_its_share(tmp_path: Path) -> None:
    """Every pair differs, and more of them come than any judge can take."""
    path = tmp_path / "evidence.db"
    ours, theirs = ([{"id": n, "price": n * factor} for n in range(150)] for factor in (1, 2))
    different = pair(answer(ours), answer(theirs))
    async with judging(path, duty=DUTY, waiting_pairs=100) as (link, _):
        await until(lambda: link.is_ready)
        await until(lambda: gives_way(link.pid))
        judge = psutil.Process(link.pid)
        began, before = time.monotonic(), sum(judge.cpu_times()[:2])
        while time.monotonic() - began < SECONDS:
            for _ in range(50):
                link.take(different)
            await asyncio.sleep(0.01)
        used, passed = sum(judge.cpu_times()[:2]) - before, time.monotonic() - began
        assert used <= MORE * DUTY * passed
        assert link.drops["comparer_full"] > 0
        await until(lambda: link.facts.get("pairs", 0) > 0)


def test_the_turns_of_who_stepped_back_are_short_until_it_comes_forward() -> None:
    number = {"x86_64": 315, "aarch64": 275}.get(platform.machine())  # sched_getattr
    if number is None or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12):
        pytest.skip("looked at on Linux from 6.12 on, and where the number of the system call is known")
    code = f"""
import ctypes, os, struct
os.nice(3)
from strangler_proxy.shadow.priority import come_forward, step_back

def turn_ns():
    said = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall({number}, 0, said, 56, 0) == 0
    return struct.unpack_from("=IIQiIQ", said.raw)[5]

before = turn_ns()
step_back()
print(turn_ns())
come_forward(os.getpid())
assert os.getpriority(os.PRIO_PROCESS, 0) == 3
print(turn_ns() == before or "not permitted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, start_new_session=True
    )
    turn, after = done.stdout.split("\n", 1)
    assert int(turn) == TURN_NS
    assert after.strip() == "True" or os.geteuid() != 0
