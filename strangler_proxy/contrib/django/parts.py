"""Saying that a view commits in parts on purpose: `manage.py check` (strangler.W020) then leaves it alone."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

_ATTRIBUTE = "strangler_commits_in_parts"

V = TypeVar("V", bound=Callable[..., Any])


def commits_in_parts(reason: str) -> Callable[[V], V]:
    """Decorator of a view: a function, a method, or a class. `reason` says why its first commit may stand alone.

    It changes nothing else: a fence met after the first commit still answers 500 and is not replayed.

    >>> @commits_in_parts("the order stays pending, and paying it again finds what was done")
    ... def pay(request): ...

    Raises ValueError for an empty reason.
    """
    if not reason.strip():
        raise ValueError("commits_in_parts needs a reason: why may the first commit stand alone?")

    def mark(view: V) -> V:
        setattr(view, _ATTRIBUTE, reason)
        return view

    return mark


def says_why(view: Any) -> bool:
    """Was it decorated, or what it wraps?"""
    while view is not None:
        if getattr(view, _ATTRIBUTE, ""):
            return True
        view = getattr(view, "__wrapped__", None)
    return False
