"""Every command on the tutorial and how-to pages is run, in order, as a reader would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack
from tests.conftest import STACK_PORT_OFFSET
from tests.servers import ROOT, free_port

pytestmark = pytest.mark.long

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
OFFSET = 23_000
"""Ports of pages that start a stack of their own are moved by this much; the others use the stack that tests share."""

STARTS_ITSELF = {"your-first-migration.md", "run-side-by-side.md"}
RUN_ON_THE_SHARED_STACK = {"find-who-still-uses-the-tables.md", "flip-a-route.md", "go-back.md"}
RUN_ALONE = {
    "carry-stragglers-over.md",
    "try-in-front-of-your-monolith.md",
    "shadow-reads.md",
    "shadow-writes.md",
    "read-a-shadow-report.md",
}
RUN_ELSEWHERE = {
    "move-your-own-schema.md",  # tests/integration/test_oscar_move.py types it for django-oscar
    "put-a-front-before-it.md",  # tests/integration/test_fronts.py runs its files as printed
    "retire.md",  # tests/acceptance/test_retire.py, while people shop
}
PAGES = sorted([*(ROOT / "docs/tutorial").glob("*.md"), *(ROOT / "docs/how-to").glob("*.md")])


def script(page: Path, offset: int) -> str:
    """The page's commands as one shell script that stops at the first failure."""
    text = "\n".join(BLOCK.findall(page.read_text()))
    for port in sorted({int(p) for p in re.findall(r"127\.0\.0\.1:(\d{4,5})", text)}, reverse=True):
        if port < 9000:
            text = text.replace(f":{port}", f":{port + offset}")
    for port in (9000, 9001, 9002):
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    text = text.replace("make .venv/.ready", ":").replace("source .venv/bin/activate", ":")
    return f"set -eum\n{text}"


def run_page(page: Path, var: Path, offset: int) -> None:
    """Type what the page says."""
    text = page.read_text()
    assert BLOCK.search(text), f"{page} has no commands"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("STRANGLER_", "SHOP_"))},
        "STRANGLER_VAR": str(var),
        "STRANGLER_PORT_OFFSET": str(offset),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", script(page, offset)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_every_page_is_run_by_a_test() -> None:
    assert {page.name for page in PAGES} == RUN_ON_THE_SHARED_STACK | RUN_ALONE | RUN_ELSEWHERE | STARTS_ITSELF


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(RUN_ALONE))
def test_the_commands_of_a_page_that_needs_no_stack_work(name: str, tmp_path: Path) -> None:
    run_page(ROOT / "docs/how-to" / name, tmp_path / "var", 0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(RUN_ON_THE_SHARED_STACK))
def test_the_commands_of_the_page_work(name: str, stack: Stack) -> None:
    stack.flip("auth", "monolith")
    try:
        run_page(ROOT / "docs/how-to" / name, stack.var, STACK_PORT_OFFSET)
    finally:
        stack.flip("auth", "monolith")
        stack.flip("auth", "shadow")
        stack.flip("auth", "canary", "--weight", "50%")


@pytest.fixture(scope="module")
def own_var(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that pages share which start and end their stack, as a reader's would be."""
    folder = tmp_path_factory.mktemp("docs") / "var"
    yield folder
    Stack(folder).run("down", expect=None, timeout_s=90.0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(STARTS_ITSELF))
def test_the_commands_of_a_page_that_starts_a_stack_work(name: str, own_var: Path) -> None:
    (page,) = [page for page in PAGES if page.name == name]
    Stack(own_var).run("down", expect=None, timeout_s=90.0)
    run_page(page, own_var, OFFSET)
