"""Real servers for tests: embedded PostgreSQL and Valkey, and where they are missing, what is not run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import psycopg
from psycopg import sql

from strangler_proxy.local.postgres import EmbeddedPostgres, free_port
from strangler_proxy.local.valkey import EmbeddedValkey

ROOT = Path(__file__).resolve().parents[1]
RABBITMQ_URL = "STRANGLER_TEST_RABBITMQ_URL"

_numbers = itertools.count(1)

__all__ = [
    "RABBITMQ_URL",
    "ROOT",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "create_database",
    "drop_database",
    "free_port",
]


def create_database(server: EmbeddedPostgres, hint: str = "test") -> str:
    """A new empty database; its URL as superuser."""
    name = f"{hint}_{os.getpid()}_{next(_numbers)}".lower()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    return server.url(name)


def drop_database(server: EmbeddedPostgres, url: str) -> None:
    """Drop it, whoever is connected."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
