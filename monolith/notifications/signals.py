"""Receivers of Django's signals."""

from __future__ import annotations

from typing import Any

from monolith.notifications import letters


def user_saved(sender: type[Any], instance: Any, created: bool, raw: bool = False, **_: Any) -> None:
    """A user was made by this process. The event `user.registered` says the same of every user."""
    if created and not raw:
        letters.welcome(instance.pk)
