"""A report as a file: JSON for programs, one HTML page for people."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strangler_proxy.core.errors import DeclarationError, StranglerError
from strangler_proxy.core.sample import Sample

SUFFIXES = (".json", ".html")


def check_report_path(path: Path) -> None:
    """Refuse a path to which no report can be written, before anything runs. Raises DeclarationError."""
    problems = []
    if path.suffix not in SUFFIXES:
        problems.append(f"report {str(path)!r}: the name must end in .json or .html")
    folder = path.absolute().parent
    if not folder.is_dir():
        problems.append(f"report {str(path)!r}: there is no folder {str(folder)!r}")
    elif path.is_dir() or not os.access(folder, os.W_OK):
        problems.append(f"report {str(path)!r}: it cannot be written there")
    if problems:
        raise DeclarationError(problems)


def write_report(path: Path, document: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Write the report in the form that the name asks for: whole or not at all. Raises StranglerError."""
    if path.suffix == ".html":
        from strangler_proxy.report_html import html

        text = html(document, samples)
    else:
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise StranglerError(f"report {str(path)!r} cannot be written: {os.strerror(error.errno or 0)}") from error
