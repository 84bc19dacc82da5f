"""The house rules that a machine can see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLKIT = ROOT / "strangler_proxy"
PYTHON_FILES = sorted(
    path
    for folder in ("strangler_proxy", "monolith", "extracted", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)


def identifiers(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name():
                names.add(node.id)
            case ast.arg():
                names.add(node.arg)
            case ast.Attribute():
                names.add(node.attr)
    return names


def words(identifier: str) -> set[str]:
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", identifier).lower().split("_")
    return {part for part in parts if part}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_avoided_word_is_part_of_an_identifier(path: Path) -> None:
    avoided = {"legacy", "whitelist", "blacklist", "toggle", "switchover"}
    found = {name for name in identifiers(path) if words(name) & avoided}
    assert not found, f"{path.relative_to(ROOT)}: {sorted(found)}: see the glossary for the word to use"


def test_no_word_of_the_example_stands_in_the_toolkit() -> None:
    pattern = re.compile(r"\b(payments?|accounts?|shop|checkout|refunds?|monolith\.(accounts|orders|payments))\b", re.I)
    found = []
    for path in sorted(TOOLKIT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                if pattern.search(node.value):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.value[:60]!r}")
            elif isinstance(node, ast.Name | ast.FunctionDef | ast.ClassDef | ast.arg):
                name = getattr(node, "id", None) or getattr(node, "name", None) or getattr(node, "arg", "")
                if words(name) & {"payment", "payments", "shop", "checkout", "refund"}:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not found, "\n".join(found)


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PYTHON_FILES
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long, f"over 400 lines: {long}"


def test_locks_carry_hashes_and_no_addresses() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock
        pinned = re.findall(r"^[A-Za-z0-9_.-]+(?:\[[^\]]+\])?==", text, re.M)
        assert pinned
        assert text.count("--hash=sha256:") >= len(pinned), lock


def test_every_dependency_of_the_project_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=;~! ]", line)[0].lower().replace("_", "-") for line in wanted} - {project["name"]}
    locked = {
        match.lower().replace("_", "-")
        for match in re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements/dev.txt").read_text(), re.M)
    }
    assert names <= locked


def test_imports_keep_to_the_layers() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_wheel_holds_the_toolkit_only(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
         "-w", str(tmp_path), str(ROOT)],
        check=True,
        timeout=110,
        capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("strangler_toolkit-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"strangler_proxy"}
    assert any(name.endswith(".sql") for name in names), "SQL files are part of the toolkit"
    assert "strangler_proxy/py.typed" in names
