"""Settings of each process, from `STRANGLER_*` environment variables. Bad values stop the start, all listed at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from strangler_proxy.core.errors import DeclarationError

DATA_URL_PREFIX = "STRANGLER_DATA_URL__"

_S = TypeVar("_S", bound=BaseSettings)


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="STRANGLER_", frozen=True, extra="ignore")


class SigningSettings(_Settings):
    """The secret that signs cookies, overrides and the table file; the same for all proxies."""

    signing_secret: SecretStr | None = Field(None, description="Secret of at least 16 characters.")
    signing_secret_file: Path | None = Field(None, description="File that holds the secret.")

    def secret(self) -> bytes | None:
        """The secret as bytes, None where none is configured."""
        if self.signing_secret is not None:
            return self.signing_secret.get_secret_value().encode()
        if self.signing_secret_file is not None:
            return self.signing_secret_file.read_bytes().strip()
        return None


class ServeSettings(SigningSettings):
    """`strangler serve`."""

    listen: str = Field("127.0.0.1:8000", description="HOST:PORT or :PORT that clients connect to.")
    admin_listen: str = Field("", description="HOST:PORT of health and metrics; empty: none.")
    database_url: str = Field("", description="Control database; empty: no flag table, `upstream` gets everything.")
    upstream: str = Field("", description="URL of the default cluster when there is no table yet, or no database.")
    state_dir: Path = Field(Path("var/proxy"), description="Table file, kill files, read-your-writes map.")
    proxy_id: str = Field("", description="Name of this process in the table of proxies; default HOST-PID.")
    tls_certificate: Path | None = Field(None, description="PEM file of the certificate chain; clients then speak TLS.")
    tls_key: Path | None = Field(None, description="PEM file of its key, not encrypted.")
    trusted_proxies: str = Field("", description="Comma-separated CIDRs whose X-Forwarded-* are appended to.")
    connect_timeout_s: float = Field(2.0, gt=0, le=60, description="Seconds to connect to an upstream.")
    first_byte_timeout_s: float = Field(30.0, gt=0, le=3600, description="Seconds until the head of an answer.")
    idle_timeout_s: float = Field(60.0, gt=0, le=3600, description="Seconds without a byte, either side.")
    total_timeout_s: float = Field(300.0, gt=0, le=86400, description="Seconds for a whole request.")
    header_timeout_s: float = Field(10.0, gt=0, le=600, description="Seconds for a request's head to arrive.")
    max_header_bytes: int = Field(65_536, ge=1024, description="Bytes of a request's head; more is 431.")
    max_header_count: int = Field(128, ge=8, le=10_000, description="Fields of a request's head; more is 431.")
    max_target_bytes: int = Field(8_192, ge=64, description="Bytes of a request's target; more is 414.")
    max_body_bytes: int = Field(1 << 30, ge=0, description="Bytes of a request's body; more is 413.")
    keep_alive_s: float = Field(75.0, gt=0, le=3600, description="Seconds that a client's connection may be idle.")
    upstream_keep_alive_s: float = Field(1.5, gt=0, le=3600, description="The same for upstreams; less than theirs.")
    connection_limit: int = Field(20_000, ge=1, description="Client connections of a process; more get 503.")
    pool_limit: int = Field(256, ge=1, description="Connections to one endpoint.")
    pool_wait_limit: int = Field(1_024, ge=0, description="Requests that wait for one of them; more get 503.")
    pool_wait_s: float = Field(5.0, gt=0, le=60, description="Seconds that a request waits for one.")
    pending_limit: int = Field(8_192, ge=1, description="Requests at or waiting for upstreams; more get 503.")
    tunnel_limit: int = Field(4_096, ge=0, description="WebSockets of a process; more get 503.")
    tunnel_idle_timeout_s: float = Field(300.0, gt=0, le=86400, description="Seconds a WebSocket may be silent.")
    hold_limit: int = Field(1000, ge=0, description="Requests held at once per flag during a cutover.")
    hold_timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds a request is held at most.")
    replay_body_bytes: int = Field(262_144, ge=0, description="Body kept for one replay after a fenced answer.")
    replay_total_bytes: int = Field(67_108_864, ge=0, description="Bound on all kept bodies together.")
    drain_notice_s: float = Field(0.0, ge=0, description="Seconds that /readyz fails before the listener closes.")
    drain_s: float = Field(30.0, ge=0, description="Seconds for requests in flight when the process leaves.")
    access_log: float = Field(1.0, ge=0, le=1, description="Share of requests that get their line in the log.")
    workers: int = Field(1, ge=1, le=64, description="Processes that share the port.")
    candidate: str = Field("", description="URL that gets copies of what goes to `upstream`, without a flag table.")
    shadow: str = Field("100%", description="Share of what flags and routes let be mirrored; 0: nothing is mirrored.")
    shadow_sticky: bool = Field(False, description="Mirror the same subjects always, instead of drawing each time.")
    shadow_secret: SecretStr | None = Field(
        None, description="Marks mirrored requests where there is no signing secret; made up at the start if not given."
    )
    evidence: str = Field(
        "", description="Path or URL of the evidence; default: the control database, else ./strangler-shadow.sqlite."
    )
    report: Path | None = Field(None, description="File .json or .html for the report at the end.")
    mirror_queue_limit: int = Field(1_000, ge=1, description="Copies that wait; more are dropped.")
    mirror_memory_bytes: int = Field(64 << 20, ge=1 << 16, description="Bytes that copies hold, all together.")
    mirror_body_bytes: int = Field(1 << 20, ge=0, description="Body of a request that is mirrored at most.")
    mirror_answer_bytes: int = Field(1 << 20, ge=1_024, description="Body of an answer that is compared at most.")
    mirror_answer_s: float = Field(60.0, gt=0, le=3600, description="Seconds that a compared answer may take.")
    mirror_connection_limit: int = Field(64, ge=1, description="Copies under way to one cluster at once.")
    mirror_connect_timeout_s: float = Field(2.0, gt=0, le=60, description="Seconds to connect to a candidate.")
    mirror_deadline_s: float = Field(10.0, gt=0, le=600, description="Seconds for a copy, and to wait for its turn.")

    @property
    def evidence_url(self) -> str:
        """Where evidence is kept, as a URL."""
        if "://" in self.evidence or self.evidence == "memory:":
            return self.evidence
        if not self.evidence and self.database_url:
            return self.database_url
        return f"sqlite://{quote(str(Path(self.evidence or 'strangler-shadow.sqlite').absolute()))}"

    @property
    def name(self) -> str:
        """This process in the table of proxies."""
        return self.proxy_id or f"{socket.gethostname()}-{os.getpid()}"


class ControlSettings(_Settings):
    """`strangler control`."""

    control_listen: str = Field("127.0.0.1:8010", description="HOST:PORT of the control plane's API.")
    database_url: str = Field(description="Control database.")
    control_token: SecretStr | None = Field(None, description="Token that callers must send; 16 characters or more.")
    control_token_file: Path | None = Field(None, description="File that holds the token.")
    viewer_token: SecretStr | None = Field(None, description="A second token, which may look and change nothing.")
    viewer_token_file: Path | None = Field(None, description="File that holds the second token.")


class ClientSettings(_Settings):
    """Verbs of the CLI that talk to the control plane."""

    control_url: str = Field("http://127.0.0.1:8010", description="Address of the control plane.")
    control_token: SecretStr | None = Field(None, description="Token to send.")
    control_token_file: Path | None = Field(None, description="File that holds the token.")
    control_timeout_s: float = Field(10.0, gt=0, le=300, description="Seconds for one call.")
    acknowledge_timeout_s: float = Field(10.0, gt=0, le=300, description="How long a flip waits for live proxies.")
    plans_dir: Path = Field(Path("migrations_plan"), description="Folder of the capability files that apply reads.")


class WorkerSettings(_Settings):
    """`strangler worker`."""

    database_url: str = Field(description="Control database.")
    worker_id: str = Field("", description="Name of this worker; default HOST-PID.")
    worker_listen: str = Field("", description="HOST:PORT of health and metrics; empty: none.")
    cutover_deadline_s: float = Field(3.0, gt=0, le=30, description="From the first hold to the decision.")
    batch_target_ms: int = Field(100, ge=10, le=10_000, description="Duration that catch-up batches adapt to.")

    @property
    def name(self) -> str:
        """This worker in leases and audit entries."""
        return self.worker_id or f"{socket.gethostname()}-{os.getpid()}"


def data_urls() -> dict[str, str]:
    """Connection strings of the data databases by lower-case name, from `STRANGLER_DATA_URL__NAME`."""
    return {
        key.removeprefix(DATA_URL_PREFIX).lower(): value
        for key, value in os.environ.items()
        if key.startswith(DATA_URL_PREFIX) and value
    }


def load(kind: type[_S], **overrides: object) -> _S:
    """Settings of one process; options of the command win over the environment.

    Raises DeclarationError with every bad value at once.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return kind(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        raise DeclarationError(
            [
                f"{prefix}{str(problem['loc'][0]).upper()}: {problem['msg']} (got {problem.get('input')!r})"
                if problem["type"] != "missing"
                else f"{prefix}{str(problem['loc'][0]).upper()} is not set"
                for problem in error.errors()
            ]
        ) from None


__all__ = [
    "ClientSettings",
    "ControlSettings",
    "ServeSettings",
    "SigningSettings",
    "WorkerSettings",
    "data_urls",
    "load",
]
