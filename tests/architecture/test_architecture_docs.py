"""Reference pages name everything that exists: settings, log events, metrics."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from strangler_proxy import settings

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCES = sorted((ROOT / "strangler_proxy").rglob("*.py"))
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z_]+\.[a-z_]+\Z")


def logged_events() -> set[str]:
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if (
                    node.func.attr in LOG_METHODS
                    and isinstance(first, ast.Constant)
                    and isinstance(first.value, str)
                    and EVENT.match(first.value)
                ):
                    found.add(first.value)
    return found


def metric_names() -> set[str]:
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                value = node.value
                if re.fullmatch(
                    r"(strangler|http)_[a-z_]+_(total|seconds|bytes|info|requests|revision|rows|ratio|count)", value
                ):
                    found.add(value)
    return found


@pytest.mark.parametrize("event", sorted(logged_events()))
def test_every_log_event_is_in_the_reference(event: str) -> None:
    assert f"`{event}`" in (REFERENCE / "events.md").read_text()


@pytest.mark.parametrize("name", sorted(metric_names()))
def test_every_metric_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in (REFERENCE / "metrics.md").read_text()


def every_setting() -> list[str]:
    names: set[str] = set()
    for value in vars(settings).values():
        if isinstance(value, type) and issubclass(value, BaseSettings) and not value.__name__.startswith("_"):
            prefix = str(value.model_config.get("env_prefix", ""))
            names |= {f"{prefix}{field}".upper() for field in value.model_fields}
    return sorted(names - {"AliasChoices"})


@pytest.mark.parametrize("name", [n for n in every_setting() if n.startswith("STRANGLER_")])
def test_every_setting_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in (REFERENCE / "settings.md").read_text()


def test_relative_links_in_the_docs_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not broken, broken


def test_every_promise_names_tests_that_exist() -> None:
    rows = [line for line in (REFERENCE / "promises.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    missing = []
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        if not named and "~~" not in row:
            missing.append(row)
        for path, name in named:
            if not (ROOT / path).exists() or (name and f"def {name}(" not in (ROOT / path).read_text()):
                missing.append(f"{path}::{name}")
    assert len(rows) == 30
    assert not missing, missing
