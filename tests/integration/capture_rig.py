"""The Django project of the tests as a side of shadow mode, and checksums of all that a request could change."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis

from strangler_proxy.contrib import shadow_rows
from strangler_proxy.core.shadow_wire import (
    EFFECTS_HEADER,
    PROOF_HEADER,
    RECORDED_HEADER,
    SHADOW_HEADER,
    ShadowKeys,
    ShadowRole,
    decode_effects,
    digest_of,
    encode_effects,
    proven,
    request_value,
)
from tests.servers import ROOT, EmbeddedPostgres, EmbeddedValkey, create_database, drop_database, free_port

SETTINGS = "tests.integration.contrib_project.shadow_settings"
OTHER_LIBRARIES = [folder] if (folder := os.environ.get("CONTRIB_TEST_LIBRARIES")) else []
"""A folder with another Django or another driver, to run these tests against."""
SECRET = b"of-the-mirror-of-a-test-0123456789"
KEYS = ShadowKeys(SECRET)

_TABLES = """
CREATE TABLE parcel (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE TABLE note (id bigserial PRIMARY KEY, text text NOT NULL);
CREATE TABLE label (id bigserial PRIMARY KEY,
                    parcel_id bigint NOT NULL REFERENCES parcel DEFERRABLE INITIALLY DEFERRED);
"""
_REPORTED = """SELECT strangler.report_rows('parcel', 'parcel', '{"id": "id", "name": "title"}', '{id}')"""
_ROWS = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname IN ('public', 'strangler') ORDER BY 1
"""


class Provider:
    """Somebody else's HTTP service, with a ledger."""

    def __init__(self) -> None:
        self.ledger: list[tuple[str, str]] = []
        rig = self

        class Desk(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                rig.ledger.append((self.path, body))
                answer = json.dumps({"id": f"charge-{len(rig.ledger)}"}).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Desk)
        self.url = f"http://127.0.0.1:{self._server.server_port}/charges"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class World:
    """All that a request could change."""

    def __init__(self, postgres: EmbeddedPostgres, valkey: EmbeddedValkey, folder: Path) -> None:
        self.folder, self._postgres = folder, postgres
        self.url, self.second = (create_database(postgres, name) for name in ("captured", "second"))
        self.valkey_url = valkey.url()
        self.valkey = redis.Redis.from_url(self.valkey_url)
        self.provider = Provider()
        for name in ("mail", "media", "cache", "logs"):
            (folder / name).mkdir()

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a process of the project."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("STRANGLER_")},
            "CONTRIB_TEST_DATABASE_URL": self.url,
            "CONTRIB_TEST_SECOND_URL": self.second,
            "CONTRIB_TEST_FOLDER": str(self.folder),
            "CONTRIB_TEST_VALKEY": f"{self.valkey_url.rpartition('/')[0]}/1",
            "CONTRIB_TEST_BROKER": f"{self.valkey_url.rpartition('/')[0]}/2",
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "STRANGLER_LOG": "json",
            "PYTHONPATH": os.pathsep.join([*OTHER_LIBRARIES, str(ROOT)]),
            **changes,
        }

    def make(self, *, prepared: bool = True) -> World:
        """Tables in three databases; the first prepared for shadow mode, the second not."""
        self.manage("migrate", "-v0")
        self.run(_TABLES)
        if prepared:
            self.run(shadow_rows.schema_sql())
            self.run(_REPORTED)
        self.run("CREATE TABLE note (id bigserial PRIMARY KEY, text text NOT NULL)", url=self.second)
        code = "import django; django.setup(); from django.db import connections as c\n"
        code += "c['lite'].cursor().execute('CREATE TABLE note (id integer PRIMARY KEY, text text NOT NULL)')"
        subprocess.run([sys.executable, "-c", code], env=self.environment(), cwd=self.folder, timeout=60, check=True)
        return self

    def manage(self, *arguments: str, **changes: str) -> str:
        """Run a management command; what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            env=self.environment(**changes), cwd=self.folder, timeout=60, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, statement: str, *values: object, url: str = "") -> None:
        """One statement or several, committed."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            connection.execute(statement.encode(), values or None)

    def rows(self, query: str, url: str = "") -> list[tuple[Any, ...]]:
        """Ask a database."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def sums(self) -> dict[str, str]:
        """A checksum of each table, file and key: equal before and after is unchanged byte for byte."""
        found: dict[str, str] = {}
        for url in (self.url, self.second):
            with psycopg.connect(url, autocommit=True) as connection:
                for (table,) in connection.execute(_ROWS).fetchall():
                    query = f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} AS t"
                    (sum_,) = connection.execute(query.encode()).fetchone()  # type: ignore[misc]
                    found[f"{url.rpartition('/')[2]}:{table}"] = sum_
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.parent.name != "logs":
                found[str(path.relative_to(self.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        for number in (0, 1, 2):
            client = redis.Redis.from_url(f"{self.valkey_url.rpartition('/')[0]}/{number}")
            for key in sorted(client.keys()):  # type: ignore[union-attr, type-var]
                found[f"valkey{number}:{key!r}"] = hashlib.sha256(client.dump(key) or b"").hexdigest()  # type: ignore[arg-type]
            client.close()
        found["ledger"] = repr(self.provider.ledger)
        return found

    def close(self) -> None:
        """Drop and end everything."""
        self.provider.stop()
        self.valkey.close()
        for url in (self.url, self.second):
            drop_database(self._postgres, url)


class Answer:
    """An answer with its effects, and whether they are proved."""

    def __init__(self, response: httpx.Response, id_: str, role: ShadowRole) -> None:
        self.response, self.status = response, response.status_code
        self.fields = [response.headers[EFFECTS_HEADER]] if EFFECTS_HEADER in response.headers else []
        self.proven = proven(
            KEYS, id=id_, role=role, effects_values=self.fields, proof=response.headers.get(PROOF_HEADER)
        )

    @property
    def effects(self) -> list[dict[str, Any]]:
        """What the side says that it did."""
        return decode_effects(self.fields)

    def kind(self, kind: str) -> list[Any]:
        """Details of the effects of one kind."""
        return [effect["detail"] for effect in self.effects if effect["kind"] == kind]


class Site:
    """The project served by one process."""

    def __init__(self, world: World, server: str, *, atomic: bool = False, **changes: str) -> None:
        self.world, self.atomic = world, atomic
        changes = {"CONTRIB_TEST_ATOMIC": str(int(atomic)), **changes}
        self.port, self.log = free_port(), world.folder / "logs" / f"{server}-{secrets.token_hex(3)}.log"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)
        package = "tests.integration.contrib_project"
        commands = {
            "wsgi": ["gunicorn", f"{package}.wsgi:application", "--bind", f"127.0.0.1:{self.port}", "--threads", "4"],
            "asgi": ["uvicorn", f"{package}.asgi:application", "--port", str(self.port), "--lifespan", "off"],
        }
        with self.log.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *commands[server]],
                env=world.environment(**changes), cwd=world.folder, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self) -> Site:
        """Until it answers."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                self.http.get("/healthz")
                return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def reset(self) -> None:
        """The state that each test begins with."""
        world = self.world
        world.run("TRUNCATE parcel, note, label, django_session, auth_user, outbox_message RESTART IDENTITY CASCADE")
        world.run("INSERT INTO parcel (name) VALUES ('p1'), ('first'); INSERT INTO note (text) VALUES ('first')")
        world.run("TRUNCATE note", url=world.second)
        world.valkey.flushall()
        for path in (world.folder / "mail").iterdir():
            path.unlink()
        for path in (world.folder / "media").iterdir():
            path.unlink()
        (world.folder / "media" / "kept.txt").write_text("kept")
        self.http.cookies.clear()
        self.http.post("/prepare")

    def stop(self) -> None:
        """End it."""
        self.http.close()
        self._process.terminate()
        self._process.wait(15)

    def ask(
        self,
        role: str,
        path: str,
        *,
        method: str = "POST",
        body: bytes = b"",
        recorded: Sequence[dict[str, Any]] = (),
        fields: dict[str, str] | None = None,
        **params: str,
    ) -> Answer:
        """A marked request, as the proxy sends it; `fields` are added, or put in place of the mark's."""
        id_ = secrets.token_hex(16)
        values = encode_effects(recorded) if recorded else []
        mark = request_value(
            KEYS, role=role, id=id_, at=time.time(), flag="parcels", body_sha256=digest_of(body), recorded=values
        )
        headers = {SHADOW_HEADER: mark, **({RECORDED_HEADER: ", ".join(values)} if values else {}), **(fields or {})}
        response = self.http.request(method, path, params=params, content=body, headers=headers)
        return Answer(response, id_, ShadowRole(role))
