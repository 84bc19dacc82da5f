"""Every command on the tutorial and how-to pages is run, in order, as a reader would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, free_port

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
OFFSET = 17_000
"""Ports of the pages are moved by this much, so that a demo that runs on this machine is not met."""

STARTS_ITSELF = {"docs/tutorial/your-first-migration.md", "docs/how-to/run-side-by-side.md"}
PAGES = sorted([*(ROOT / "docs/tutorial").glob("*.md"), *(ROOT / "docs/how-to").glob("*.md")])


def script(page: Path) -> str:
    """The page's commands as one shell script that stops at the first failure."""
    text = "\n".join(BLOCK.findall(page.read_text()))
    for port in sorted({int(p) for p in re.findall(r"127\.0\.0\.1:(\d{4,5})", text)}, reverse=True):
        if port < 9000:
            text = text.replace(f":{port}", f":{port + OFFSET}")
    for port in (9000, 9001):
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    text = text.replace("make .venv/.ready", ":").replace("source .venv/bin/activate", ":")
    return f"set -eum\n{text}"


def environment(var: Path) -> dict[str, str]:
    return {
        **os.environ,
        "STRANGLER_VAR": str(var),
        "STRANGLER_PORT_OFFSET": str(OFFSET),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that all pages share, as a reader's would."""
    folder = tmp_path_factory.mktemp("docs") / "var"
    yield folder
    subprocess.run(["strangler", "down"], cwd=ROOT, env=environment(folder), timeout=90, check=False)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_commands_of_the_page_work(page: Path, var: Path) -> None:
    name = str(page.relative_to(ROOT))
    env = environment(var)
    assert BLOCK.search(page.read_text()), f"{name} has no commands"
    if name not in STARTS_ITSELF and "strangler serve" not in script(page):
        subprocess.run(["strangler", "up", "--detach"], cwd=ROOT, env=env, check=True, timeout=240)
        subprocess.run(["strangler", "flip", "auth", "monolith"], cwd=ROOT, env=env, check=False, timeout=60)
    done = subprocess.run(
        ["bash", "-c", script(page)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, f"{name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
