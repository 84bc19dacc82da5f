"""Put the census in place, once per process, where the project asks for it (`STRANGLER["CENSUS"]`)."""

from __future__ import annotations

from django.conf import settings
from django.db import connections
from django.db.backends.signals import connection_created


def install() -> None:
    """Watch connections that exist already, and each that is made. Safe to repeat; without the setting: nothing."""
    if not getattr(settings, "STRANGLER", {}).get("CENSUS"):
        return
    from strangler_proxy.contrib.django import census

    connection_created.connect(census.on_connection_created, dispatch_uid="strangler_census")
    for connection in connections.all(initialized_only=True):
        census.install(connection)
