"""django-oscar in an environment of its own (its lock is requirements/oscar.txt), and its database as a shop begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from strangler_proxy.local.postgres import EmbeddedPostgres, binaries
from tests.servers import ROOT

VENV = ROOT / ".venv-oscar"
LOCK = ROOT / "requirements" / "oscar.txt"
SETTINGS = "tests.foreign.oscar.settings"
SHOP, SERVICE, SYNC = "oscar_shop", "oscar_service", "oscar_sync"


def python() -> str:
    """The interpreter that has oscar; the first time, and after the lock has changed, it is installed.

    Where that cannot be, the test is skipped with the reason, or fails if everything has to run.
    """
    stamp = VENV / ".ready"
    interpreter = VENV / "bin" / "python"
    if stamp.exists() and stamp.stat().st_mtime >= LOCK.stat().st_mtime:
        return str(interpreter)
    pip = [str(interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, timeout=120)
        subprocess.run([*pip, "-r", str(LOCK)], check=True, timeout=300, capture_output=True, text=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        if os.environ.get("STRANGLER_REQUIRE_ALL") == "1":
            raise
        said = str(error.stderr or error).strip().splitlines() or ["nothing"]
        pytest.skip(f"django-oscar cannot be installed: {said[-1]}")
    stamp.touch()
    return str(interpreter)


def environment(monolith: str, service: str = "") -> dict[str, str]:
    """Of oscar's processes."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("STRANGLER_", "DJANGO_"))}
    return {
        **given,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "OSCAR_DATABASE_URL": monolith,
        "OSCAR_SERVICE_URL": service or monolith,
    }


def shop(words: list[str], given: dict[str, str], *, seconds: float = 120) -> None:
    """A command of the shop, to its end."""
    done = subprocess.run(
        [python(), *words], env=given, cwd=ROOT, timeout=seconds, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def create(server: EmbeddedPostgres, name: str, role: str) -> str:
    """A database whose tables are to be `role`'s; the worker's role is a member of it. Its URL as superuser."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        for each in (role, SYNC):
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (each,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(each)))
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(SYNC)))
        database, worker = sql.Identifier(name), sql.Identifier(SYNC)
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, worker))
    url = server.url(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(role)))
    return url


def as_role(url: str, role: str) -> str:
    """The same database as another role."""
    return make_conninfo(url, user=role)


def migrate(url: str) -> None:
    """All of oscar's migrations as the shop's role. They take half a minute, so what they made is kept as SQL."""
    kept = VENV / "migrated.sql"
    if kept.exists() and kept.stat().st_mtime >= (VENV / ".ready").stat().st_mtime:
        psql(as_role(url, SHOP), kept.read_text())
        return
    shop(["-m", "django", "migrate", "-v0"], environment(as_role(url, SHOP)))
    command = [str(binaries() / "pg_dump"), "--no-owner", "--no-privileges", url]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    kept.write_text(done.stdout)


def psql(url: str, text: str) -> None:
    """Run a script; it stops at its first error."""
    command = [str(binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", url]
    done = subprocess.run(command, input=text, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def database_of(url: str) -> str:
    """The database's name."""
    return str(conninfo_to_dict(url)["dbname"])


def history(path: Path) -> list[dict[str, str]]:
    """What the shop wrote."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
