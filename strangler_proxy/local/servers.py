"""Which servers a run uses: the embedded ones, or those that the environment names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.local.databases import make_databases
from strangler_proxy.local.declaration import Broker, Database, Postgres
from strangler_proxy.local.ports import LOOPBACK
from strangler_proxy.local.postgres import EmbeddedPostgres
from strangler_proxy.local.probes import CallProbe
from strangler_proxy.local.references import POSTGRES, VALKEY
from strangler_proxy.local.secret_files import SecretFiles
from strangler_proxy.local.unit import Job, Service
from strangler_proxy.local.valkey import EmbeddedValkey

ADMINISTRATOR = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """`urls` by placeholder name (`databases.NAME`, `databases.NAME.ROLE`); `unit` starts or prepares the server, None
    where every database is configured by itself.
    """

    urls: Mapping[str, str]
    unit: Service | Job | None


def set_up_databases(
    declared: Postgres,
    *,
    port: int,
    var: Path,
    secrets: SecretFiles,
    environ: Mapping[str, str],
    env: Mapping[str, str],
) -> Databases:
    """Decide for each database where it is. `env` is the environment of the embedded server.

    Raises DeclarationError where a database is configured but a connection as another role is not.
    """
    here = [database for database in declared.databases if not environ.get(database.url_env or "")]
    urls = _configured(declared, environ)
    if not here:
        return Databases(urls=urls, unit=None)
    passwords = {role.name: secrets.get(f"postgres-{role.name}") for role in declared.roles}
    admin_url = environ.get(declared.url_env) if declared.url_env else None
    server = None
    if not admin_url:
        server = EmbeddedPostgres(
            var / "postgres",
            port=port,
            settings=declared.settings,
            password=secrets.get(f"postgres-{ADMINISTRATOR}"),
        )
        admin_url = server.url()
    for database in here:
        urls |= _urls_on(admin_url, database, passwords)
    complete = partial(make_databases, admin_url, declared.roles, here, passwords)
    return Databases(urls=urls, unit=_embedded(server, complete, env) if server else Job(name=POSTGRES, call=complete))


def set_up_broker(
    declared: Broker, *, port: int, var: Path, environ: Mapping[str, str], env: Mapping[str, str]
) -> tuple[str, Service | None]:
    """Address of the broker, and the embedded server that gives it, None where one is configured."""
    configured = environ.get(declared.url_env or "")
    if configured:
        return configured, None
    server = EmbeddedValkey(var / "valkey", port=port)
    unit = Service(
        name=VALKEY,
        command=tuple(server.command()),
        env=env,
        folder=var,
        probe=CallProbe(call=lambda: "" if server.ready() else "no PONG yet"),
        within_s=30.0,
        every_s=10.0,
        ports=(port,),
        url=server.url(),
        prepare=server.prepare,
    )
    return server.url(), unit


def _embedded(server: EmbeddedPostgres, complete: partial[str], env: Mapping[str, str]) -> Service:
    return Service(
        name=POSTGRES,
        command=tuple(server.command()),
        env={**env, **server.environment()},
        folder=server.data.parent,
        probe=CallProbe(call=lambda: _answers(server.url())),
        within_s=60.0,
        every_s=10.0,
        stop_signal=server.stop_signal,
        grace_s=20.0,
        ports=(server.port,),
        url=f"postgresql://{LOOPBACK}:{server.port}",
        prepare=server.prepare,
        complete=complete,
    )


def _answers(url: str) -> str:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error as error:
        return str(error).strip().replace("\n", " ")
    return ""


def _configured(declared: Postgres, environ: Mapping[str, str]) -> dict[str, str]:
    urls: dict[str, str] = {}
    problems = []
    for database in declared.databases:
        url = environ.get(database.url_env or "")
        if not url:
            continue
        urls[f"databases.{database.name}"] = urls[f"databases.{database.name}.{database.owner}"] = url
        for role, variable in database.role_url_env.items():
            if environ.get(variable):
                urls[f"databases.{database.name}.{role}"] = environ[variable]
            else:
                problems.append(f'{database.url_env} is set, so {variable} must be too (database "{database.name}")')
    if problems:
        raise DeclarationError(problems)
    return urls


def _urls_on(admin_url: str, database: Database, passwords: Mapping[str, str]) -> dict[str, str]:
    urls = {
        f"databases.{database.name}.{role}": _url(admin_url, database.name, role, passwords[role]) for role in passwords
    }
    urls[f"databases.{database.name}"] = urls[f"databases.{database.name}.{database.owner}"]
    return urls


def _url(admin_url: str, database: str, role: str, password: str) -> str:
    parts = urlsplit(admin_url)
    address = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(role, safe='')}:{quote(password, safe='')}@{address}"
    return urlunsplit((parts.scheme, netloc, f"/{database}", parts.query, ""))
