"""The servers of `strangler up`: embedded ones that keep their data, or those that the environment names."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.local.postgres import EmbeddedPostgres
from strangler_proxy.local.valkey import EmbeddedValkey
from tests.integration.local_project import LocalProject, wait_until
from tests.servers import free_port

TEXT = """
[ports]
postgres = {postgres}
valkey = {valkey}
[postgres]
url_env = "STRANGLER_POSTGRES_URL"
[postgres.roles.{app}]
[postgres.roles.{app}_sync]
member_of = ["{app}"]
create_on = ["{app}"]
[postgres.databases.{app}]
owner = "{app}"
url_env = "APP_DATABASE_URL"
role_url_env = {{ {app}_sync = "APP_SYNC_URL" }}
[valkey]
url_env = "STRANGLER_BROKER_URL"
[[steps]]
name = "show"
command = "sh -c 'echo $DB $SYNC $BROKER'"
env = {{ DB = "{{databases.{app}}}", SYNC = "{{databases.{app}.{app}_sync}}", BROKER = "{{broker}}" }}
[[processes]]
name = "stay"
command = "sleep 600"
"""


def project_text(app: str) -> str:
    return TEXT.format(postgres=free_port(), valkey=free_port(), app=app)


def test_embedded_servers_have_roles_with_passwords_and_survive_kill_9_with_their_data(tmp_path: Path) -> None:
    project = LocalProject(tmp_path / "project", project_text("app"))
    try:
        done = project.run("up", "--detach", "--timeout", "60", timeout_s=80)
        assert done.returncode == 0, done.stderr
        url, sync_url, broker = project.run("logs", "show").stdout.split()
        assert project.ps()["databases"] == {"app": url}
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (n integer)")
            connection.execute("INSERT INTO kept VALUES (42)")
        with psycopg.connect(sync_url) as connection:
            connection.execute("UPDATE kept SET n = n + 1")
            connection.execute("CREATE SCHEMA toolkit")
        secret = (project.var / "secrets" / "postgres-app").read_text()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace(secret, "wrong"), connect_timeout=5)
        before = project.unit("postgres")["pid"]
        os.kill(before, signal.SIGKILL)
        wait_until(
            lambda: project.unit("postgres")["state"] == "ready" and project.unit("postgres")["pid"] != before, 30
        )
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (43,)
        assert broker.startswith("redis://127.0.0.1:")
        os.kill(project.state()["pid"], signal.SIGKILL)
        done = project.run("up", "--detach", "--timeout", "60", timeout_s=80)
        assert done.returncode == 0, done.stderr
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (43,)
    finally:
        project.close()


def test_configured_servers_are_used_and_nothing_embedded_starts(
    tmp_path: Path, postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    env = {"STRANGLER_POSTGRES_URL": postgres.url(), "STRANGLER_BROKER_URL": valkey.url(5)}
    project = LocalProject(tmp_path / "project", project_text("configured_app"), env=env)
    try:
        done = project.run("up", "--detach", "--timeout", "30")
        assert done.returncode == 0, done.stderr
        url, _, broker = project.run("logs", "show").stdout.split()
        assert f"127.0.0.1:{postgres.port}/configured_app" in url
        assert broker == valkey.url(5)
        assert [unit["name"] for unit in project.ps()["processes"] if unit["pid"]] == ["stay"]
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            found = connection.execute("SELECT count(*) FROM pg_database WHERE datname = 'configured_app'").fetchone()
            assert found == (1,)
    finally:
        project.close()
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS configured_app WITH (FORCE)")
            connection.execute("DROP ROLE IF EXISTS configured_app_sync")
            connection.execute("DROP ROLE IF EXISTS configured_app")


def test_a_configured_database_is_used_as_it_is_and_asks_for_its_other_roles(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    env = {"APP_DATABASE_URL": "postgresql://me@db.invalid/mine", "STRANGLER_BROKER_URL": valkey.url()}
    project = LocalProject(tmp_path / "half", project_text("app"), env=env)
    try:
        done = project.run("up")
        assert done.returncode == 2
        assert 'APP_DATABASE_URL is set, so APP_SYNC_URL must be too (database "app")' in done.stderr
    finally:
        project.close()
    whole = LocalProject(
        tmp_path / "whole", project_text("app"), env={**env, "APP_SYNC_URL": "postgresql://sync@db.invalid/mine"}
    )
    try:
        done = whole.run("up", "--detach", "--timeout", "20")
        assert done.returncode == 0, done.stderr
        shown = whole.run("logs", "show").stdout.split()
        assert shown[:2] == ["postgresql://me@db.invalid/mine", "postgresql://sync@db.invalid/mine"]
        assert "postgres" not in {unit["name"] for unit in whole.ps()["processes"]}
    finally:
        whole.close()
