"""Settings of a proxy, parsed: addresses, the default upstream, the signer, and the engine's options."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from strangler_proxy.core.bucketing import parse_weight
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.route import Cluster, Endpoint, Timeouts
from strangler_proxy.core.signing import MIN_SECRET_BYTES, Signer
from strangler_proxy.forward.mirror_options import MirrorOptions
from strangler_proxy.forward.options import Options, parse_networks
from strangler_proxy.forward.tls import Certificate
from strangler_proxy.settings import ServeSettings

T = TypeVar("T")
Address = tuple[str, int]

DEFAULT_CLUSTER = "default"
"""Name of the cluster that `--upstream` makes."""
CANDIDATE_CLUSTER = "candidate"
"""Name of the cluster that `--candidate` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """What a proxy process is started with. `admin` None: no health listener; `upstream` None: none is configured.

    `certificate` None: clients speak plain HTTP; `mirror` None: nothing is mirrored.
    """

    listen: Address
    admin: Address | None
    upstream: Cluster | None
    signer: Signer | None
    options: Options
    certificate: Certificate | None = None
    mirror: MirrorOptions | None = None

    @property
    def has_candidate(self) -> bool:
        """Does somebody get copies without a flag table?"""
        return self.mirror is not None and self.mirror.candidate is not None

    @property
    def address(self) -> str:
        """Where clients connect, as text."""
        return f"{self.listen[0]}:{self.listen[1]}"

    @classmethod
    def of(cls, settings: ServeSettings) -> ServePlan:
        """Parse everything. Raises DeclarationError with all that does not fit."""
        problems: list[str] = []
        listen = _read(problems, "STRANGLER_LISTEN", lambda: parse_address(settings.listen))
        admin = _read(
            problems,
            "STRANGLER_ADMIN_LISTEN",
            lambda: parse_address(settings.admin_listen) if settings.admin_listen else None,
        )
        upstream = _read(
            problems, "STRANGLER_UPSTREAM", lambda: parse_upstream(settings.upstream) if settings.upstream else None
        )
        signer = _read(problems, "STRANGLER_SIGNING_SECRET", lambda: _signer(settings))
        options = _read(problems, "STRANGLER_TRUSTED_PROXIES", lambda: options_of(settings))
        certificate = _read(problems, "STRANGLER_TLS_CERTIFICATE", lambda: _certificate(settings))
        share = _read(problems, "STRANGLER_SHADOW", lambda: parse_weight(settings.shadow))
        mirror = _read(problems, "STRANGLER_CANDIDATE", lambda: _mirror(settings, share or 0))
        if mirror is not None:
            _read(problems, "STRANGLER_EVIDENCE", lambda: _check_evidence(settings.evidence_url))
        if settings.report is not None and not settings.candidate:
            problems.append(
                "STRANGLER_REPORT: a report at the end is of --candidate; of a flag: strangler shadow report FLAG"
            )
        if not settings.upstream and not settings.database_url:
            problems.append(
                "nothing to forward to: give --upstream http://HOST:PORT, or STRANGLER_DATABASE_URL for the flag table"
            )
        if problems or listen is None or options is None:
            raise DeclarationError(problems)
        return cls(
            listen=listen,
            admin=admin,
            upstream=upstream,
            signer=signer,
            options=options,
            certificate=certificate,
            mirror=mirror,
        )


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `[IPV6]:PORT` or `:PORT` (every interface). Raises ValueError.

    >>> parse_address("127.0.0.1:8000"), parse_address("[::1]:80"), parse_address(":8000")
    (('127.0.0.1', 8000), ('::1', 80), ('0.0.0.0', 8000))
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f'"{text}" is not HOST:PORT')
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


def parse_upstream(text: str, name: str = DEFAULT_CLUSTER) -> Cluster:
    """A URL as a cluster of one endpoint. Raises ValueError.

    >>> parse_upstream("http://localhost:8001").endpoints
    (Endpoint(host='localhost', port=8001),)
    """
    url = urlsplit(text)
    if url.scheme != "http" or not url.hostname:
        raise ValueError(f'"{text}" is not http://HOST:PORT (upstreams are spoken to in plain HTTP/1.1)')
    if url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise ValueError(f'"{text}": only host and port count, targets are forwarded as they are')
    return Cluster(name=name, endpoints=(Endpoint(host=url.hostname, port=url.port or 80),))


def options_of(settings: ServeSettings) -> Options:
    """The engine's options. Raises ValueError for trusted proxies that are no networks."""
    return Options(
        timeouts=Timeouts(
            connect_s=settings.connect_timeout_s,
            first_byte_s=settings.first_byte_timeout_s,
            idle_s=settings.idle_timeout_s,
            total_s=settings.total_timeout_s,
        ),
        header_timeout_s=settings.header_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        max_header_count=settings.max_header_count,
        max_target_bytes=settings.max_target_bytes,
        max_body_bytes=settings.max_body_bytes,
        keep_alive_s=settings.keep_alive_s,
        upstream_keep_alive_s=settings.upstream_keep_alive_s,
        connection_limit=settings.connection_limit,
        pool_limit=settings.pool_limit,
        pool_wait_limit=settings.pool_wait_limit,
        pool_wait_s=settings.pool_wait_s,
        pending_limit=settings.pending_limit,
        tunnel_limit=settings.tunnel_limit,
        tunnel_idle_s=settings.tunnel_idle_timeout_s,
        hold_limit=settings.hold_limit,
        hold_timeout_s=settings.hold_timeout_s,
        replay_body_bytes=settings.replay_body_bytes,
        replay_total_bytes=settings.replay_total_bytes,
        trusted_proxies=parse_networks(settings.trusted_proxies),
        access_log=settings.access_log,
    )


def _mirror(settings: ServeSettings, share: int) -> MirrorOptions | None:
    """None where nothing can be mirrored. Raises ValueError for a candidate that is none, or that nobody needs."""
    candidate = parse_upstream(settings.candidate, CANDIDATE_CLUSTER) if settings.candidate else None
    if candidate is not None and settings.database_url:
        raise ValueError("with a flag table the routes name who gets copies: leave out --candidate or the database")
    if candidate is not None and not settings.upstream:
        raise ValueError("who answers the clients is missing: give --upstream http://HOST:PORT too")
    if not share or (candidate is None and not settings.database_url):
        return None
    secret = settings.secret()
    if secret is None and settings.shadow_secret is not None:
        secret = settings.shadow_secret.get_secret_value().encode()
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"STRANGLER_SHADOW_SECRET: {len(secret)} bytes are too few, give {MIN_SECRET_BYTES}")
    return MirrorOptions(
        secret=secret or os.urandom(32),
        candidate=candidate,
        share=share,
        sticky=settings.shadow_sticky,
        queue_limit=settings.mirror_queue_limit,
        memory_bytes=settings.mirror_memory_bytes,
        body_bytes=settings.mirror_body_bytes,
        answer_bytes=settings.mirror_answer_bytes,
        answer_s=settings.mirror_answer_s,
        connection_limit=settings.mirror_connection_limit,
        connect_s=settings.mirror_connect_timeout_s,
        deadline_s=settings.mirror_deadline_s,
        keep_alive_s=settings.upstream_keep_alive_s,
        max_header_bytes=settings.max_header_bytes,
        max_header_count=settings.max_header_count,
    )


def _check_evidence(url: str) -> None:
    """Raises ValueError for a file that cannot be made or written."""
    if not url.startswith("sqlite://"):
        return
    path = Path(unquote(url.removeprefix("sqlite://")))
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f'evidence cannot be written to "{path}"')


def _signer(settings: ServeSettings) -> Signer | None:
    secret = settings.secret()
    return None if secret is None else Signer(secret)


def _certificate(settings: ServeSettings) -> Certificate | None:
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise ValueError("certificate and key go together: set STRANGLER_TLS_KEY too, or none of them")
    return Certificate(settings.tls_certificate, settings.tls_key)


def _read(problems: list[str], setting: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (ValueError, OSError) as error:
        problems.append(f"{setting}: {error}")
        return None
