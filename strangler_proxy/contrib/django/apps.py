"""The Django application `strangler_contrib`: puts fence recorder and sandbox on every database connection."""

from __future__ import annotations

from django.apps import AppConfig
from django.db import connections
from django.db.backends.signals import connection_created


class StranglerContribConfig(AppConfig):
    """Named so that it cannot meet an app of yours."""

    name = "strangler_proxy.contrib.django"
    label = "strangler_contrib"
    verbose_name = "Strangler toolkit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Record on connections that exist already, and on each that is made."""
        from strangler_proxy.contrib import threads
        from strangler_proxy.contrib.django import census_install, recorder, shadow_checks, shadow_install, write_checks

        threads.install()
        connection_created.connect(recorder.on_connection_created, dispatch_uid="strangler_recorder")
        connection_created.connect(shadow_install.on_connection_created, dispatch_uid="strangler_shadow")
        for connection in connections.all(initialized_only=True):
            recorder.install(connection)
        shadow_install.install()
        census_install.install()
        shadow_checks.register()
        write_checks.register()
