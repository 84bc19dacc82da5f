"""Settings of a proxy, parsed: addresses, the default upstream, the signer, and the engine's options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.route import Cluster, Endpoint, Timeouts
from strangler_proxy.core.signing import Signer
from strangler_proxy.forward.options import Options, parse_networks
from strangler_proxy.forward.tls import Certificate
from strangler_proxy.settings import ServeSettings

T = TypeVar("T")
Address = tuple[str, int]

DEFAULT_CLUSTER = "default"
"""Name of the cluster that `--upstream` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """What a proxy process is started with. `admin` None: no health listener; `upstream` None: none is configured.

    `certificate` None: clients speak plain HTTP.
    """

    listen: Address
    admin: Address | None
    upstream: Cluster | None
    signer: Signer | None
    options: Options
    certificate: Certificate | None = None

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
        if not settings.upstream and not settings.database_url:
            problems.append(
                "nothing to forward to: give --upstream http://HOST:PORT, or STRANGLER_DATABASE_URL for the flag table"
            )
        if problems or listen is None or options is None:
            raise DeclarationError(problems)
        return cls(
            listen=listen, admin=admin, upstream=upstream, signer=signer, options=options, certificate=certificate
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


def parse_upstream(text: str) -> Cluster:
    """A URL as a cluster of one endpoint. Raises ValueError.

    >>> parse_upstream("http://localhost:8001").endpoints
    (Endpoint(host='localhost', port=8001),)
    """
    url = urlsplit(text)
    if url.scheme != "http" or not url.hostname:
        raise ValueError(f'"{text}" is not http://HOST:PORT (upstreams are spoken to in plain HTTP/1.1)')
    if url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise ValueError(f'"{text}": only host and port count, targets are forwarded as they are')
    return Cluster(name=DEFAULT_CLUSTER, endpoints=(Endpoint(host=url.hostname, port=url.port or 80),))


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
