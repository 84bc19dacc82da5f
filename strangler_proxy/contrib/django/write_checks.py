"""`manage.py check --tag strangler`: views that commit more than once, without `atomic` around them; Celery's settings.

Such a view may commit a first write and then meet the fence: that answer is a 500 and nobody replays it. A warning,
read from the source: silence it with `SILENCED_SYSTEM_CHECKS`, or say why at the view with `parts.commits_in_parts`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.db import connections
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import autodiscover_modules

from strangler_proxy.contrib.django.commit_reading import commits_of, is_atomic
from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.django.parts import says_why

TAG = "strangler"
ID = "strangler.W020"
TASKS_ID = "strangler.W021"

_METHODS = (
    "get",
    "post",
    "put",
    "patch",
    "delete",
    "form_valid",
    "perform_create",
    "perform_update",
    "perform_destroy",
)
"""Of view classes, Django REST framework's generic ones too; view sets name more of them."""


def register() -> None:
    """Have Django run it; safe to repeat."""
    checks.register(check_views, TAG)
    checks.register(check_tasks, TAG)


def check_views(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """One warning for each view, or method of one, that commits more than once."""
    if not getattr(settings, "ROOT_URLCONF", ""):
        return []
    found: dict[str, CheckMessage] = {}
    for route, view in _views(get_resolver().url_patterns, ""):
        if _in_atomic_request(view) or says_why(view) or is_atomic(view):
            continue
        for name, function, owner in _functions(view):
            places = commits_of(function, owner)
            if len(places) > 1 and name not in found:
                found[name] = _warning(name, route, function, places)
    return list(found.values())


def check_tasks(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """What in the settings of the project's Celery application would lose tasks; nothing where there is none."""
    celery = sys.modules.get("celery")
    if celery is None:
        return []
    ours = importlib.import_module("strangler_proxy.contrib.celery")  # by name: this part needs no Celery
    autodiscover_modules("tasks")  # not by Celery's loader, which has all checks run once more
    return [
        checks.Warning(f"Celery: {doubt}", hint="See docs/how-to/carry-stragglers-over.md.", id=TASKS_ID)
        for doubt in ours.doubts(celery.current_app)
    ]


def _views(patterns: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def _in_atomic_request(view: Any) -> bool:
    """Does Django put `atomic` around it, on the database with the rows that move?"""
    alias = configuration().database
    exempt: set[str] = getattr(view, "_non_atomic_requests", set())
    return bool(connections.settings[alias].get("ATOMIC_REQUESTS")) and alias not in exempt


def _functions(view: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, function, class) of what answers: the view itself, or its class's methods."""
    owner = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if owner is None:
        plain = inspect.unwrap(view)
        yield f"{plain.__module__}.{getattr(plain, '__qualname__', repr(plain))}", view, None
        return
    if says_why(owner) or is_atomic(getattr(owner, "dispatch", None)):
        return
    actions = getattr(view, "actions", None) or {}
    for name in dict.fromkeys((*_METHODS, *actions.values())):
        method = getattr(owner, name, None)
        if method is not None and not says_why(method):
            yield f"{owner.__module__}.{owner.__qualname__}.{name}", method, owner


def _warning(name: str, route: str, function: Any, places: tuple[str, ...]) -> CheckMessage:
    code = inspect.unwrap(function).__code__
    where = ", ".join(dict.fromkeys(_short(place) for place in places))
    return checks.Warning(
        f'view {name} (route "{route or "/"}") commits more than once: {where}. If the first commit is done when the'
        " second write meets the fence, the request is answered 500 and nobody replays it.",
        hint="Put transaction.atomic around all of it, or say why at the view with"
        " strangler_proxy.contrib.django.parts.commits_in_parts(reason).",
        obj=_short(f"{code.co_filename}:{code.co_firstlineno}"),
        id=ID,
    )


def _short(place: str) -> str:
    """Below the working folder without it, as an editor takes it."""
    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118  (as text, to be cut off)
    return place[len(here) :] if place.startswith(here) else place
