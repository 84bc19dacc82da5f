"""Secrets that are made once and kept in files only their user can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


class SecretFiles:
    """A folder (mode 0700) of files (mode 0600), one secret each, as URL-safe text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Where the secret stands."""
        return self._folder / name

    def get(self, name: str, *, entropy_bytes: int = 32) -> str:
        """The secret; made now if there is none. A file that others could read is closed to them."""
        path = self.path(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        try:
            kept = path.read_text().strip()
        except FileNotFoundError:
            kept = ""
        if kept:
            path.chmod(0o600)
            return kept
        made = secrets.token_urlsafe(entropy_bytes)
        write_private(path, made)
        return made


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        aside.chmod(0o600)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
