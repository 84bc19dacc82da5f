"""`var/shell.env`: what other terminals need to speak to the run, as lines of a shell, readable by its user alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from strangler_proxy.local.secret_files import write_private

NAME = "shell.env"
VAR_VARIABLE = "STRANGLER_VAR"


def write(var: Path, values: Mapping[str, str]) -> None:
    """Write `export NAME=VALUE` lines; no file where there are no values."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    if lines:
        write_private(var / NAME, "\n".join(lines) + "\n")
    else:
        (var / NAME).unlink(missing_ok=True)


def read(var: Path) -> dict[str, str]:
    """What `write` wrote; nothing where there is no such file."""
    try:
        text = (var / NAME).read_text()
    except OSError:
        return {}
    words = [word for line in text.splitlines() for word in shlex.split(line)[1:2]]
    return dict(word.split("=", 1) for word in words if "=" in word)


def adopt() -> None:
    """Take the values of the run in `STRANGLER_VAR` (else `./var`) into this process where nothing else is set."""
    for name, value in read(Path(os.environ.get(VAR_VARIABLE) or "var")).items():
        os.environ.setdefault(name, value)
