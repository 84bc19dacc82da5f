"""Real servers for tests: embedded PostgreSQL and Valkey, and where they are missing, what is not run."""

from __future__ import annotations

import itertools
import os
import random
import socket
from pathlib import Path

import psycopg
from psycopg import sql

from strangler_proxy.local.postgres import EmbeddedPostgres
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


def free_port(together: int = 1) -> int:
    """A port that nobody listens on; `together`: the ports after it are free as well.

    Below those that the kernel gives to outgoing connections, so that none of these takes it before it is used.
    """
    while True:
        port = random.randrange(26_500, 32_700)
        if all(_is_free(each) for each in range(port, port + together)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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
