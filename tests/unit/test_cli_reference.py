"""The reference page of the command line names every command, argument and option; `--help` stays quick."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from strangler_proxy.cli.main import COMMANDS, load
from strangler_proxy.control.api import ENDPOINTS
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()
HEAVY = ("psycopg", "httpx", "starlette", "uvicorn", "pydantic_settings", "structlog", "strangler_proxy.forward")


def section(command: str) -> str:
    """The part of the page below the heading of a command."""
    _, found, rest = PAGE.partition(f"\n### strangler {command}\n")
    assert found, f'docs/reference/cli.md has no section "### strangler {command}"'
    return re.split(r"\n##+ ", rest)[0]


def commands(name: str, command: Any = None) -> list[tuple[str, Any]]:
    """A command, or those of a group and of the groups in it."""
    command = load(name) if command is None else command
    inner = getattr(command, "commands", None)
    if not inner:
        return [(name, command)]
    return [found for each, one in inner.items() for found in commands(f"{name} {each}", one)]


@pytest.mark.parametrize("top", COMMANDS)
def test_every_command_and_option_is_in_the_reference(top: str) -> None:
    for name, command in commands(top):
        text = section(name)
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                word = re.sub(r"[^A-Z]", "", (parameter.metavar or parameter.name).upper())
                assert word in text.upper(), f"{name}: argument {word}"
            else:
                for option in [*parameter.opts, *parameter.secondary_opts]:
                    assert f"`{option}`" in text, f"{name}: option {option}"


@pytest.mark.parametrize("top", COMMANDS)
def test_every_command_leads_with_an_example(top: str) -> None:
    for name, command in commands(top):
        assert f"Example: strangler {name}" in " ".join((command.help or "").split())


def test_the_reference_names_no_command_that_does_not_exist() -> None:
    known = {name for top in COMMANDS for name, _ in commands(top)}
    assert {match.strip() for match in re.findall(r"\n### strangler ([a-z -]+)", PAGE)} == known


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_every_call_of_the_api_is_in_the_reference(endpoint: Any) -> None:
    path = re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), endpoint.path)
    assert f"`{endpoint.method} {path}`" in PAGE


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from strangler_proxy.cli.main import main; sys.argv = ['strangler', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", done.stdout)
