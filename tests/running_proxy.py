"""A real `strangler serve` with real upstreams, for tests (blocking calls)."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from tests.servers import ROOT, free_port

START_WITHIN_S = 20.0
SECRET = "a secret for tests only"


class NamedUpstream:
    """Answers every request with its name; a path that ends in `/slow` takes a second."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        upstream = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                upstream.requests += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.endswith("/slow"):
                    time.sleep(1.0)
                body = upstream.name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 -- the name is http.server's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


class RunningProxy:
    """One `strangler serve`; `environment` are its settings; `tls` is the certificate that clients trust."""

    def __init__(self, folder: Path, *, workers: int = 1, tls: Path | None = None, **environment: str) -> None:
        self.port = free_port()
        self.admin_port = free_port(together=4)  # process K has its own after it
        self.state_dir = folder / "state"
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._verify: bool | ssl.SSLContext = True if tls is None else ssl.create_default_context(cafile=str(tls))
        self.log_path = folder / "proxy.log"
        self.workers = workers
        self.environment = {
            "STRANGLER_LISTEN": f"127.0.0.1:{self.port}",
            "STRANGLER_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "STRANGLER_STATE_DIR": str(self.state_dir),
            "STRANGLER_SIGNING_SECRET": SECRET,
            "STRANGLER_WORKERS": str(workers),
            "STRANGLER_DRAIN_S": "5",
            "STRANGLER_LOG": "json",
            **environment,
        }
        self.arguments: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            for process in self.family():
                process.kill()
            self.process.wait(10)

    def start(self) -> float:
        """Start it and wait for its first answer; how many seconds that took."""
        begun = time.monotonic()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STRANGLER_")}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "strangler"), "serve", *self.arguments],
                cwd=ROOT,
                env=inherited | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        while True:
            try:
                httpx.get(f"{self.url}/", timeout=2, trust_env=False, verify=self._verify)
                return time.monotonic() - begun
            except httpx.TransportError:
                if time.monotonic() - begun > START_WITHIN_S or self.process.poll() is not None:
                    raise RuntimeError(f"the proxy did not start: {self.log()}") from None
            time.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        """The process and its children."""
        assert self.process is not None
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def get(self, path: str) -> str:
        """Body of a GET through the proxy."""
        answer = httpx.get(f"{self.url}{path}", timeout=10, trust_env=False, verify=self._verify)
        answer.raise_for_status()
        return answer.text

    def health(self, path: str, number: int = 0) -> tuple[int, str]:
        """Status and body from the health listener of one process."""
        answer = httpx.get(f"http://127.0.0.1:{self.admin_port + number}{path}", timeout=5, trust_env=False)
        return answer.status_code, answer.text

    def metric(self, name: str, number: int = 0) -> float:
        """One number of /metrics."""
        for line in self.health("/metrics", number)[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise KeyError(name)

    def log(self) -> str:
        """What it wrote."""
        return self.log_path.read_text()


class Traffic:
    """Requests one after the other on a kept-alive connection, from a thread; failures and durations are kept."""

    def __init__(self, url: str, paths: Mapping[str, str], *, pause_s: float = 0.01) -> None:
        self.failures: list[str] = []
        self.seconds: list[float] = []
        self._url = url
        self._paths = paths
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)

    def _drive(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            while not self._stop.wait(self._pause_s):
                for path, method in self._paths.items():
                    begun = time.monotonic()
                    try:
                        answer = client.request(method, path)
                        if answer.status_code != 200:
                            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text}")
                    except httpx.HTTPError as error:
                        self.failures.append(f"{method} {path}: {error!r}")
                    self.seconds.append(time.monotonic() - begun)
