"""Named statements of the `.sql` files: plain ones as bytes, templates with `{names}` as psycopg compositions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from psycopg import sql


@functools.cache
def _sections(file: str) -> Mapping[str, str]:
    text = resources.files("strangler_proxy.sync").joinpath("sql", f"{file}.sql").read_text("utf-8")
    found: dict[str, str] = {}
    for section in text.split("-- name: ")[1:]:
        name, _, body = section.partition("\n")
        found[name.strip()] = body.strip()
    return MappingProxyType(found)


def statement(file: str, name: str) -> bytes:
    """A statement whose only variables are its parameters."""
    return _sections(file)[name].encode()


def template(file: str, name: str, **parts: sql.Composable) -> sql.Composed:
    """A statement with identifiers and literals filled in, quoted by psycopg."""
    return sql.SQL(_sections(file)[name]).format(**parts)


def template_names(file: str) -> tuple[str, ...]:
    """All names of a file, in its order."""
    return tuple(_sections(file))
