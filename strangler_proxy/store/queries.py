"""Named queries: each `.sql` file holds sections `-- name: NAME` and a description; values are parameters only."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType


@functools.cache
def queries(file: str) -> Mapping[str, bytes]:
    """All queries of `sql/FILE.sql` by name, as bytes (psycopg takes those as they are).

    >>> sorted(queries("sync"))[0]
    'lease'
    """
    text = resources.files("strangler_proxy.store").joinpath("sql", f"{file}.sql").read_text("utf-8")
    found: dict[str, bytes] = {}
    for section in text.split("-- name: ")[1:]:
        name, _, body = section.partition("\n")
        found[name.strip()] = body.strip().encode()
    return MappingProxyType(found)
