"""Each seeded bug of the proof still fits the code that it breaks."""

from __future__ import annotations

import subprocess
import sys

from tests.prove.bugs import BUGS
from tests.servers import ROOT

_SEED_EACH = """
import os, sys
from pathlib import Path
from tests.prove import bugs, faulty_worker
for name in bugs.BUGS:
    child = os.fork()
    if child == 0:
        try:
            bugs.seed(name)
            faulty_worker.shorten()
            faulty_worker.arm(Path("/nowhere"))
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_there_are_twenty_and_each_can_be_seeded() -> None:
    assert len(BUGS) == 20
    done = subprocess.run([sys.executable, "-c", _SEED_EACH], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr[-500:]
