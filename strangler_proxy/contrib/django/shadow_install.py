"""Put the captures of shadow mode in place, once per process: without a marked request they let everything through.

Only a project that has `ShadowMiddleware` among its middleware gets them.
"""

from __future__ import annotations

import importlib
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from strangler_proxy.contrib import shadow_calls, shadow_smtp, shadow_threads

MIDDLEWARE = "strangler_proxy.contrib.django.shadow.ShadowMiddleware"

_SENDERS = (
    ("celery", "strangler_proxy.contrib.celery", "capture_sends"),
    ("kombu", "strangler_proxy.contrib.shadow_kombu", "install"),
)


def wanted() -> bool:
    """Does this project take part in shadow mode?"""
    return MIDDLEWARE in settings.MIDDLEWARE


def install() -> None:
    """Wrap mail, caches, files, calls, threads, and Celery and Kombu where they are loaded. Safe to repeat."""
    if not wanted():
        return
    from strangler_proxy.contrib.django import shadow_cache, shadow_files, shadow_mail, shadow_transaction

    shadow_mail.install()
    shadow_cache.install()
    shadow_files.install()
    shadow_calls.install_http()
    shadow_smtp.install()
    shadow_threads.install()
    _install_senders()
    for connection in connections.all(initialized_only=True):
        shadow_transaction.install(connection)


def _install_senders() -> None:
    """Wrap Celery and Kombu where they are installed, by name: this part needs neither."""
    for library, module, function in _SENDERS:
        try:
            importlib.import_module(library)
        except ImportError:
            continue
        getattr(importlib.import_module(module), function)()


def on_connection_created(sender: Any, connection: BaseDatabaseWrapper, **_: object) -> None:
    """Receiver of Django's `connection_created`; comes after the fence's recorder."""
    if wanted():
        from strangler_proxy.contrib.django import shadow_transaction

        shadow_transaction.install(connection)
