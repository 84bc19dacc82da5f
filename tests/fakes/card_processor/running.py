"""Start, kill and restart a real card processor in tests and harnesses (blocking calls)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "processor-token-for-tests"
WEBHOOK_SECRET = "webhook-secret-for-tests"
START_WITHIN_S = 30.0


class RunningCardProcessor:
    """A card processor process on 127.0.0.1; its ledger stays in `folder` over restarts.

    >>> with RunningCardProcessor(tmp_path, webhook_url="http://127.0.0.1:8003/...") as processor:  # doctest: +SKIP
    ...     processor.switch(decline_rate=0.5)
    ...     processor.ledger()["succeeded_charges"]
    """

    def __init__(self, folder: Path, *, webhook_url: str = "", port: int | None = None) -> None:
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "SHOP_PROCESSOR_TOKEN": TOKEN,
            "SHOP_PROCESSOR_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "SHOP_PROCESSOR_WEBHOOK_URL": webhook_url,
            "SHOP_PROCESSOR_LEDGER": str(folder / "ledger.sqlite3"),
        }
        self._log_path = folder / "card_processor.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
        )

    def __enter__(self) -> RunningCardProcessor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.client.close()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "tests.fakes.card_processor", "--port", str(self.port)]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + START_WITHIN_S
        while True:
            try:
                if self.client.get("/readyz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError(f"the card processor did not start: {self._log_path.read_text()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def stop(self) -> None:
        """End it politely, by force after 10 s."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None

    def switch(self, **switches: Any) -> None:
        """`PUT /v1/switches`."""
        self.client.put("/v1/switches", json=switches).raise_for_status()

    def ledger(self) -> dict[str, Any]:
        """`GET /v1/ledger`."""
        answer = self.client.get("/v1/ledger")
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
