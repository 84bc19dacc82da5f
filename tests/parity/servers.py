"""Both implementations as real processes on fresh databases, each with a card processor of its own (blocking calls)."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from extracted.auth.make_signing_key import make_signing_key
from tests.fakes.card_processor.running import TOKEN, WEBHOOK_SECRET, RunningCardProcessor
from tests.servers import ROOT, free_port

START_WITHIN_S = 60.0
WEBHOOK_PATH = "/api/payments/webhooks/card-processor"


class ServerProcess:
    """One process with a log file, on 127.0.0.1; started, killed and started again at the same port."""

    def __init__(self, name: str, command: list[str], *, port: int, folder: Path, env: Mapping[str, str]) -> None:
        self.name, self.port, self.url = name, port, f"http://127.0.0.1:{port}"
        self._command = command
        self._environment = {**_bare_environment(), **env}
        self.log_path = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> ServerProcess:
        """Start it; do not wait."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def wait_ready(self) -> ServerProcess:
        """Wait until `/readyz` says so."""
        until = time.monotonic() + START_WITHIN_S
        while not self._answers():
            if time.monotonic() > until or self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{self.name} did not start:\n{self.log_path.read_text()[-4000:]}")
            time.sleep(0.05)
        return self

    def start(self) -> ServerProcess:
        """Start it and wait until it is ready."""
        return self.launch().wait_ready()

    def kill(self) -> None:
        """`kill -9`, children too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            self._process = None

    def stop(self) -> int:
        """SIGTERM, and by force after 15 s; its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            code = self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9
        self._process = None
        return code

    def log(self) -> str:
        """What it wrote."""
        return self.log_path.read_text()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def run(*arguments: str, env: Mapping[str, str]) -> str:
    """A one-shot `python -m ...`; its output. Raises with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**_bare_environment(), **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


class Keys:
    """The signing keys of both sides in one folder, and tokens minted with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for kid in ("monolith-1", "auth-1"):
            make_signing_key(kid, folder)

    def private(self, kid: str) -> Path:
        """The private key's file."""
        return self.folder / f"{kid}.pem"

    def mint(
        self,
        user_id: int | str,
        *scopes: str,
        kid: str = "monolith-1",
        signed_by: Path | None = None,
        age_s: float = 0,
        **changes: object,
    ) -> str:
        """An access token of that side, `age_s` old; `changes` replace claims (None: leave out)."""
        now = int(time.time() - age_s)
        claims: dict[str, object] = {
            "iss": kid.split("-")[0],
            "aud": "shop",
            "sub": str(user_id),
            "iat": now,
            "exp": now + 900,
            "jti": uuid.uuid4().hex,
            **({"scope": " ".join(scopes)} if scopes else {}),
            **changes,
        }
        key = load_pem_private_key((signed_by or self.private(kid)).read_bytes(), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        present = {name: value for name, value in claims.items() if value is not None}
        signed = f"{_part({'alg': 'EdDSA', 'kid': kid})}.{_part(present)}"
        return f"{signed}.{_base64url(key.sign(signed.encode()))}"


def _part(document: Mapping[str, object]) -> str:
    return _base64url(json.dumps(document).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(kw_only=True)
class Side:
    """One implementation, running: where it answers, and what is behind it."""

    name: str
    keys: Keys
    processor: RunningCardProcessor
    auth: ServerProcess
    payments: ServerProcess
    payments_database: str
    processes: list[ServerProcess] = field(default_factory=list)

    def url(self, path: str) -> str:
        """The address of a path of the API."""
        return (self.payments if path.startswith("/api/payments") else self.auth).url + path

    def stop(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
        self.processor.kill()
        self.processor.client.close()


def services(
    folder: Path, *, auth_database: str, payments_database: str, keys: Keys, webhooks: bool = True, **env: str
) -> Side:
    """Start the extracted services; without `webhooks` the card processor tells nothing by itself."""
    port = free_port()
    webhook_url = f"http://127.0.0.1:{port}{WEBHOOK_PATH}" if webhooks else ""
    processor = RunningCardProcessor(folder, webhook_url=webhook_url)
    auth_env = {"SHOP_DATABASE_URL": auth_database, "SHOP_SIGNING_KEY_FILE": str(keys.private("auth-1"))}
    payments_env = {
        "SHOP_DATABASE_URL": payments_database,
        "SHOP_PROCESSOR_URL": processor.url,
        "SHOP_PROCESSOR_TOKEN": TOKEN,
        "SHOP_PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    both = {"SHOP_PUBLIC_KEYS_DIR": str(keys.folder), "SHOP_PBKDF2_ITERATIONS": "100", **env}
    run("extracted.auth", "migrate", env=auth_env)
    run("extracted.payments", "migrate", env=payments_env)
    auth = _service("auth", free_port(), folder, {**both, **auth_env})
    payments = _service("payments", port, folder, {**both, **payments_env})
    side = Side(
        name="services",
        keys=keys,
        processor=processor,
        auth=auth,
        payments=payments,
        payments_database=payments_database,
        processes=[auth, payments],
    )
    return _started(side)


def monolith(folder: Path, *, database: str, keys: Keys) -> Side:
    """Start the monolith's web process."""
    port = free_port()
    processor = RunningCardProcessor(folder, webhook_url=f"http://127.0.0.1:{port}{WEBHOOK_PATH}")
    env = {
        "SHOP_DATABASE_URL": database,
        "SHOP_SECRET_KEY": "a-key-for-tests-that-is-long-enough-0123456789-0123456789",
        "SHOP_PUBLIC_KEYS_DIR": str(keys.folder),
        "SHOP_SIGNING_KEY_FILE": str(keys.private("monolith-1")),
        "SHOP_PROCESSOR_URL": processor.url,
        "SHOP_PROCESSOR_TOKEN": TOKEN,
        "SHOP_PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SHOP_PBKDF2_ITERATIONS": "100",
        "SHOP_EMAIL_DIR": str(folder / "mail"),
        "SHOP_PROXY_URL": "http://127.0.0.1:1",
        "SHOP_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    run("monolith.manage", "migrate", env=env)
    command = [sys.executable, "-m", "gunicorn", "monolith.config.wsgi:application", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "1", "--threads", "16", "--worker-tmp-dir", str(folder)]
    web = ServerProcess("monolith", command, port=port, folder=folder, env=env)
    side = Side(
        name="monolith",
        keys=keys,
        processor=processor,
        auth=web,
        payments=web,
        payments_database=database,
        processes=[web],
    )
    return _started(side)


def _started(side: Side) -> Side:
    try:
        for process in side.processes:
            process.launch()
        side.processor.start()
        for process in side.processes:
            process.wait_ready()
    except BaseException:
        side.stop()
        raise
    return side


def _service(name: str, port: int, folder: Path, env: Mapping[str, str]) -> ServerProcess:
    command = [sys.executable, "-m", f"extracted.{name}", "serve", "--port", str(port)]
    return ServerProcess(name, command, port=port, folder=folder, env=env)


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SHOP_", "STRANGLER_"))}
