"""The driver's connection below Django's, in a mirrored request: its cursors and commits are within the sandbox too.

For psycopg 3. A connection of psycopg 2 takes no attributes: there only what passes Django's own cursors is seen, so
that an answer carries no proof, and no write is mirrored.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from strangler_proxy.contrib.shadow_capture import refusal

if TYPE_CHECKING:
    from strangler_proxy.contrib.django.shadow_transaction import Sandbox

_SANDBOX = "strangler_django_sandbox"

_ENDS = re.compile(
    r"(?:^|;)\s*(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b))\b",
    re.IGNORECASE,
)


def ends_transaction(sql: str) -> bool:
    """Would this statement end the transaction that it is sent in?

    >>> ends_transaction("select 1; commit"), ends_transaction("ROLLBACK TO SAVEPOINT a")
    (True, False)
    """
    return _ENDS.search(sql) is not None


class Watch:
    """What psycopg's cursors ask before each statement while the sandbox is open: see `psycopg_recording`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def before(self, query: Any) -> Generator[Any, Any, None]:
        """Raises NotCaptured for a statement that would end the transaction below Django."""
        self.check(query)
        yield from ()

    def check(self, query: Any) -> None:
        """The same, where nothing may be sent."""
        if query is not None and self._sandbox.active() and ends_transaction(_text(query)):
            raise refusal("a statement that ends the transaction itself")


def watch(driver: Any, sandbox: Sandbox, *, on: bool) -> None:
    """Begin or end to look at what is sent on the driver's own cursors; where that cannot be, nothing is proved."""
    if hasattr(driver, _SANDBOX):
        driver.strangler_sandbox = Watch(sandbox) if on else None
    elif on and sandbox.capture is not None and sandbox.connection.vendor == "postgresql":
        sandbox.capture.unproven("driver_psycopg2")


def gate(driver: Any, sandbox: Sandbox) -> None:
    """Lead cursors, commits and rollbacks of this connection through the sandbox; safe to repeat.

    A pool lends one connection to several of Django's, one after the other: the sandbox is that of the last.
    """
    known = hasattr(driver, _SANDBOX)
    try:
        setattr(driver, _SANDBOX, sandbox)
    except AttributeError:  # written in C: psycopg 2, sqlite3, mysqlclient
        return
    if known or sandbox.connection.vendor != "postgresql":
        return
    cursor, commit, rollback = driver.cursor, driver.commit, driver.rollback

    def gated_cursor(*args: Any, **kwargs: Any) -> Any:
        owner: Sandbox = getattr(driver, _SANDBOX)
        owner.refuse_when_ended()
        if owner.active():
            owner.enter()
        return cursor(*args, **kwargs)

    def gated_commit() -> None:
        owner: Sandbox = getattr(driver, _SANDBOX)
        if owner.active():
            owner.commit()
        else:
            commit()

    def gated_rollback() -> None:
        owner: Sandbox = getattr(driver, _SANDBOX)
        if owner.active():
            owner.back()
        else:
            rollback()

    driver.cursor, driver.commit, driver.rollback = gated_cursor, gated_commit, gated_rollback


def _text(query: Any) -> str:
    return bytes(query).decode("utf-8", "replace") if isinstance(query, (bytes, bytearray)) else str(query)
