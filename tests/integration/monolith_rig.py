"""The monolith as real processes, the card processor beside it, and its rows under a real fence."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg

from extracted.auth.make_signing_key import make_signing_key
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan.capability_file import parse_capability
from strangler_proxy.sync.install import install, set_fence
from strangler_proxy.sync.link import close, connect
from tests.fakes.card_processor.running import TOKEN, WEBHOOK_SECRET, RunningCardProcessor
from tests.parity.servers import ServerProcess, run
from tests.servers import ROOT, free_port

PASSWORD = "correct horse battery"
SEED_PASSWORD = "shop example password"


class Monolith:
    """The monolith's database and processes. `proxy_url` is what its seams call instead of the proxy."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self.keys = folder / "keys"
        for kid in ("monolith-1", "auth-1"):
            make_signing_key(kid, self.keys)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processor = RunningCardProcessor(folder)  # without webhooks: nobody records an outcome but who asked
        self.mail = folder / "mail"
        self.environment = {
            "SHOP_DATABASE_URL": database,
            "SHOP_SECRET_KEY": "a-key-for-tests-that-is-long-enough-0123456789-0123456789",
            "SHOP_PUBLIC_KEYS_DIR": str(self.keys),
            "SHOP_SIGNING_KEY_FILE": str(self.keys / "monolith-1.pem"),
            "SHOP_PROCESSOR_URL": self.processor.url,
            "SHOP_PROCESSOR_TOKEN": TOKEN,
            "SHOP_PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "SHOP_PBKDF2_ITERATIONS": "100",
            "SHOP_EMAIL_DIR": str(self.mail),
            "SHOP_PROXY_URL": self.url,
            "SHOP_BROKER_URL": "redis://127.0.0.1:1/0",
        }
        self._processes: list[ServerProcess] = []

    def migrate(self) -> None:
        """Bring the schema up to date."""
        self.manage("migrate", "-v0")

    def manage(self, *arguments: str) -> str:
        """Run a management command."""
        return run("monolith.manage", *arguments, env=self.environment)

    def python(self, code: str, **changes: str) -> str:
        """Run code in a child process with Django set up; what it printed."""
        head = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'monolith.config.settings'; django.setup()\n"
        environment = {**os.environ, **self.environment, **changes}
        done = subprocess.run(
            [sys.executable, "-c", head + code],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    def serve(self, port: int | None = None, **changes: str) -> str:
        """Start a web process; its URL. `wait` for it."""
        port = port or self.port
        command = [sys.executable, "-m", "gunicorn", "monolith.config.wsgi:application", "--bind", f"127.0.0.1:{port}"]
        command += ["--workers", "1", "--threads", "16", "--worker-tmp-dir", str(self.folder)]
        environment = {**self.environment, **changes}
        return self.service("monolith", command, port=port, env=environment).url

    def service(self, name: str, command: list[str], *, port: int, env: dict[str, str]) -> ServerProcess:
        """Start any process. `wait` for it."""
        process = ServerProcess(f"{name}-{port}", command, port=port, folder=self.folder, env=env)
        self._processes.append(process)
        return process.launch()

    def wait(self) -> None:
        """Until all processes are ready."""
        for process in self._processes:
            process.wait_ready()

    def log(self) -> str:
        """What all processes wrote."""
        return "".join(process.log() for process in self._processes)

    def stop(self) -> None:
        """End everything."""
        for process in self._processes:
            process.kill()
        self.processor.kill()
        self.processor.client.close()

    def rows(self, query: str, *given: object, database: str = "") -> list[tuple[Any, ...]]:
        """Ask a database."""
        with psycopg.connect(database or self.database, autocommit=True) as connection:
            return connection.execute(query.encode(), given).fetchall()

    def write(self, query: str, *given: object, database: str = "") -> None:
        """Change a database behind the shop's back."""
        with psycopg.connect(database or self.database, autocommit=True) as connection:
            connection.execute(query.encode(), given)


class Shopper:
    """A client with a token."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.email = f"s{uuid.uuid4().hex[:12]}@example.com"

    def __enter__(self) -> Shopper:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def register(self) -> int:
        """Register and sign in by token; the user's id."""
        body = {"email": self.email, "password": PASSWORD, "name": "Sam"}
        made = self.http.post("/api/auth/register", json=body)
        assert made.status_code == 201, made.text
        answer = self.http.post("/api/auth/token", json={"email": self.email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return int(made.json()["user"]["id"])

    def order(self, product: int = 1, quantity: int = 1) -> httpx.Response:
        """Order one product."""
        return self.http.post("/api/orders", json={"items": [{"product_id": product, "quantity": quantity}]})

    def pay(self, order: int, card: str = "tok_visa") -> httpx.Response:
        """Pay an order."""
        return self.http.post(f"/api/orders/{order}/pay", json={"card_token": card})

    def form(self, path: str, to: str = "", **fields: str) -> httpx.Response:
        """Fill in the form at `path` as a browser does, token and all, and send it."""
        page = self.http.get(path)
        assert page.status_code == 200, page.text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None, page.text
        return self.http.post(to or path, data={**fields, "csrfmiddlewaretoken": token[1]})


class Fence:
    """The toolkit's own triggers and ownership record, on the monolith's and the service's database."""

    def __init__(self, flag: str, monolith: str, service: str) -> None:
        self.flag, self._urls = flag, {Origin.MONOLITH: monolith, Origin.EXTRACTED: service}
        path = ROOT / "migrations_plan" / f"{flag}.toml"
        manifest = parse_capability(path.read_text(), path.name, {}).manifest
        assert manifest is not None
        self._manifest = manifest

    def install(self) -> None:
        """The first grant is the monolith's."""
        asyncio.run(self._run(lambda links, layout: None))

    def give(self, owner: Origin) -> None:
        """Move the writer, as a cutover does when nothing is in flight."""
        self.up(owner is not Origin.MONOLITH, owner is not Origin.EXTRACTED)
        for origin in Origin:
            with psycopg.connect(self._urls[origin], autocommit=True) as connection:
                connection.execute(
                    b"UPDATE strangler.ownership SET owner = %s, open = %s, epoch = epoch + 1 WHERE flag = %s",
                    (owner.value, owner is origin, self.flag),
                )

    def up(self, monolith: bool, service: bool) -> None:
        """Put the triggers up or down, and leave the record."""

        async def change(links: Any, layout: Any) -> None:
            for origin, wanted in ((Origin.MONOLITH, monolith), (Origin.EXTRACTED, service)):
                async with links[origin].transaction():
                    await set_fence(links[origin], layout, origin, up=wanted)

        asyncio.run(self._run(change))

    async def _run(self, change: Callable[[Any, Any], Any]) -> None:
        links = {origin: await connect(url, application="fence") for origin, url in self._urls.items()}
        try:
            layout = await install(self._manifest, links)
            done = change(links, layout)
            if done is not None:
                await done
        finally:
            await close(*links.values())
