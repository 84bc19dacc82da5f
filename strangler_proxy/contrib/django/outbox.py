"""Outbox on Django's connections: write a message in the open transaction, and find the relay's database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional
from uuid import UUID

from django.db import connections

from strangler_proxy.contrib import messaging
from strangler_proxy.contrib.django.configuration import configuration

_LIBPQ = ("host", "port", "dbname", "user", "password", "passfile", "service", "sslmode", "sslrootcert", "options")


def enqueue(event: str, data: Mapping[str, Any], *, message_id: Optional[UUID] = None) -> UUID:
    """`messaging.enqueue` on the database of `settings.STRANGLER`; its id.

    Inside `atomic` it is published if and only if that commits; outside, it stands by itself.
    """
    with connections[configuration().database].cursor() as cursor:
        return messaging.enqueue(cursor, event, data, message_id=message_id)


def dsn() -> str:
    """What `messaging.run_relay` connects with, from Django's settings. For psycopg 3."""
    from psycopg.conninfo import make_conninfo

    params = connections[configuration().database].get_connection_params()
    return make_conninfo(**{name: params[name] for name in _LIBPQ if params.get(name)})
