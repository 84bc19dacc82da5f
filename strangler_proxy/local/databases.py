"""Makes the declared roles and databases on a server; what is there stays, so it can run at every start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.local.declaration import Database, Role

TIMEOUT_S = 10
LOCK_KEY = 0x5374726E


class DatabasesFailed(StranglerError):
    """Roles or databases cannot be made on the server; the message is the server's."""


def make_databases(
    admin_url: str, roles: Sequence[Role], databases: Sequence[Database], passwords: Mapping[str, str]
) -> str:
    """Make what is missing, set the passwords, grant what is declared. What was made, in words.

    Raises DatabasesFailed. Several at once wait for each other.
    """
    try:
        with psycopg.connect(admin_url, autocommit=True, connect_timeout=TIMEOUT_S) as connection:
            connection.execute("SET statement_timeout = '60s'")
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
            made = [role.name for role in roles if _role(connection, role.name, passwords[role.name])]
            for role in roles:
                for other in role.member_of:
                    _member(connection, role.name, other)
            made += [database.name for database in databases if _database(connection, database)]
            names = {database.name for database in databases}
            for database in databases:
                _may_connect(connection, database, roles)
            for role in roles:
                for name in names.intersection(role.create_on):
                    connection.execute(_compose("GRANT CREATE ON DATABASE {} TO {}", name, role.name))
    except psycopg.Error as error:
        raise DatabasesFailed(f"roles and databases cannot be made: {str(error).strip()}") from error
    return f"made {', '.join(made)}" if made else "roles and databases are there"


def _role(connection: psycopg.Connection, name: str, password: str) -> bool:
    new = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is None
    if new:
        connection.execute(_compose("CREATE ROLE {} LOGIN", name))
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
    connection.execute(statement)
    return new


def _member(connection: psycopg.Connection, name: str, other: str) -> None:
    template = "GRANT {} TO {} WITH INHERIT TRUE" if connection.info.server_version >= 160000 else "GRANT {} TO {}"
    connection.execute(_compose(template, other, name))


def _database(connection: psycopg.Connection, database: Database) -> bool:
    found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [database.name]).fetchone()
    if found is not None:
        return False
    # An administrator that is no superuser must be a member of the owner to give it a database.
    superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if superuser is not None and not superuser[0]:
        connection.execute(_compose("GRANT {} TO CURRENT_USER", database.owner))
    connection.execute(
        _compose("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'", database.name, database.owner)
    )
    return True


def _may_connect(connection: psycopg.Connection, database: Database, roles: Sequence[Role]) -> None:
    members = [role.name for role in roles if database.owner in role.member_of or database.name in role.create_on]
    connection.execute(_compose("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC", database.name))
    for name in (database.owner, *members):
        connection.execute(_compose("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}", database.name, name))


def _compose(template: str, *names: str) -> sql.Composed:
    return sql.SQL(template).format(*map(sql.Identifier, names))
