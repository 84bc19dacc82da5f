"""`manage.py check` says what shadow mode cannot capture in this project, as far as that can be seen.

All are warnings: a project may know better, or shadow reads only. Those about databases need a look at them and run
with `manage.py check --database default`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from django.conf import settings
from django.core import checks
from django.core.cache import CacheHandler, caches
from django.core.checks import CheckMessage, Tags
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.utils.module_loading import import_string

from strangler_proxy.contrib import shadow_calls, shadow_rows
from strangler_proxy.contrib.django import shadow_install

BEFORE = (
    "strangler_proxy.contrib.django.middleware.RequestContextMiddleware",
    "strangler_proxy.contrib.django.middleware.FenceMiddleware",
)
"""Middleware that may stand before `ShadowMiddleware`: they write nothing."""
SESSIONS = frozenset(
    f"django.contrib.sessions.backends.{name}" for name in ("db", "cache", "cached_db", "file", "signed_cookies")
)


def register() -> None:
    """Have Django run them; safe to repeat."""
    checks.register(check_project)
    checks.register(check_databases, Tags.database)


def check_project(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """What the settings say."""
    if not shadow_install.wanted():
        return []
    return [*_middleware(), *_secret(), *_mail(), *_caches(), *_storages(), *_sessions(), *_calls(), *_vendors()]


def check_databases(app_configs: Any = None, databases: Optional[Sequence[str]] = None, **_: Any) -> list[CheckMessage]:
    """Is each database prepared, so that it refuses by itself to commit what is mirrored?"""
    if not shadow_install.wanted():
        return []
    found = []
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor != "postgresql":
            continue
        try:
            with connection.cursor() as cursor:
                cursor.execute(shadow_rows.GUARD_EXISTS)
                (prepared,) = cursor.fetchone()
        except Error as error:
            found.append(_warning(12, f"database {alias!r} does not answer: {error}".strip(), "Check it again later."))
            continue
        if not prepared:
            found.append(
                _warning(
                    11,
                    f"database {alias!r} is not prepared: mirrored writes are undone by rollback alone, and the rows"
                    " that requests write are not told.",
                    "Run `strangler sync start FLAG`, or strangler_proxy.contrib.shadow_rows.schema_sql().",
                )
            )
    return found


def _middleware() -> Iterable[CheckMessage]:
    listed = list(settings.MIDDLEWARE)
    before = [name for name in listed[: listed.index(shadow_install.MIDDLEWARE)] if name not in BEFORE]
    if before:
        yield _warning(
            1,
            f"middleware before ShadowMiddleware is not captured: {', '.join(before)}",
            "Put ShadowMiddleware third, behind RequestContextMiddleware and FenceMiddleware.",
        )


def _secret() -> Iterable[CheckMessage]:
    from strangler_proxy.contrib.django.shadow import keys

    try:
        known = keys()
    except (ValueError, OSError, ImproperlyConfigured) as error:
        yield _warning(2, f"the secret of shadow mode cannot be used: {error}", "Give at least 16 bytes.")
        return
    if known is None:
        yield _warning(
            2,
            "no secret: nothing can be proved, so that no write is mirrored here",
            "Set STRANGLER['SHADOW_SECRET'] or STRANGLER_SIGNING_SECRET to the proxy's signing secret.",
        )


def _mail() -> Iterable[CheckMessage]:
    from strangler_proxy.contrib.django import shadow_mail

    try:
        backend = import_string(settings.EMAIL_BACKEND)
    except ImportError:
        return  # Django says so when it sends
    shadow_mail.install()
    if not isinstance(backend, type) or not shadow_mail.wrapped(backend):
        yield _warning(
            3,
            f"EMAIL_BACKEND {settings.EMAIL_BACKEND!r} is no class with send_messages derived from BaseEmailBackend:"
            " only what goes through EmailMessage.send is captured",
            "Derive it from django.core.mail.backends.base.BaseEmailBackend.",
        )


def _caches() -> Iterable[CheckMessage]:
    from strangler_proxy.contrib.django.shadow_cache import CapturedCache

    for alias in settings.CACHES:
        try:
            cache = caches[alias]
        except Exception as error:  # noqa: BLE001  (whatever a backend raises)
            yield _warning(4, f"cache {alias!r} cannot be made: {error}", "See CACHES.")
            continue
        if not isinstance(cache, CapturedCache):
            yield _warning(4, f"cache {alias!r} ({type(cache).__name__}) cannot be captured", "Do not use __slots__.")
    if not isinstance(caches, CacheHandler):
        yield _warning(4, "django.core.cache.caches was replaced: caches are not captured", "Leave it in place.")


def _storages() -> Iterable[CheckMessage]:
    from django.core.files.storage import storages

    from strangler_proxy.contrib.django import shadow_files

    for alias in getattr(settings, "STORAGES", {}):
        if alias == "staticfiles":
            continue
        try:
            storage = type(storages[alias])
        except Exception as error:  # noqa: BLE001  (whatever a storage raises)
            yield _warning(5, f"storage {alias!r} cannot be made: {error}", "See STORAGES.")
            continue
        shadow_files.install()
        if not shadow_files.wrapped(storage):
            yield _warning(
                5,
                f"storage {alias!r} ({storage.__name__}) is not derived from Storage: its files are not captured",
                "Derive it from django.core.files.storage.Storage.",
            )


def _sessions() -> Iterable[CheckMessage]:
    if settings.SESSION_ENGINE not in SESSIONS:
        yield _warning(
            6,
            f"SESSION_ENGINE {settings.SESSION_ENGINE!r} is not Django's own: it is captured only as far as it keeps"
            " sessions in Django's databases and caches",
            "See docs/how-to/shadow-writes.md.",
        )


def _calls() -> Iterable[CheckMessage]:
    if not shadow_calls.installed():
        yield _warning(7, "outgoing HTTP calls are not captured", "Keep strangler_proxy.contrib.django installed.")


def _vendors() -> Iterable[CheckMessage]:
    from strangler_proxy.contrib.django.shadow_transaction import VENDORS

    for alias in connections:
        vendor = connections[alias].vendor
        if vendor not in VENDORS:
            yield _warning(
                9, f"database {alias!r} is of {vendor}: mirrored requests that use it fail", "Shadow others."
            )
        elif vendor != "postgresql":
            yield _warning(
                8,
                f"database {alias!r} is of {vendor}: mirrored writes are undone by rollback alone, and the rows that"
                " requests write are not told",
                "What commits by itself there (DDL in MySQL) is to be kept out of shadow mode.",
            )


def _warning(number: int, message: str, hint: str) -> CheckMessage:
    return checks.Warning(f"Shadow mode: {message}", hint=hint, id=f"strangler.W{number:03}")
