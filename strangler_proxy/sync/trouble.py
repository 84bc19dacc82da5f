"""What a database refuses for want of something, in a sentence that says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import psycopg

from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.link import Link, first_line

ADVICE: Mapping[str, str] = {
    "53100": "free space on its disk: the stream goes on by itself, and nothing is lost meanwhile",
    "53200": "it is short of memory: the stream tries again by itself",
    "53300": "it has no connection left: the stream tries again by itself",
    "25006": "it takes no writes: STRANGLER_DATA_URL__NAME is to name the primary",
    "42501": "the worker's role may not do that: it is to be a member of the role that owns the tables",
}
"""By SQLSTATE."""


@contextlib.contextmanager
def at(origin: Origin, link: Link) -> Iterator[None]:
    """Errors from inside carry the side that refused."""
    try:
        yield
    except psycopg.Error as error:
        error.add_note(f"{origin.value} (database {link.info.dbname!r})")
        raise


def said(error: psycopg.Error) -> str:
    """The database's first line, with the side and with what to do where that is known."""
    where = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    advice = ADVICE.get(error.sqlstate or "")
    return where + first_line(error) + (f"; {advice}" if advice else "")
