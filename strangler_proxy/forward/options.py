"""What the data plane is told at its start: plain values, already parsed and valid."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from strangler_proxy.core.route import Timeouts

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Limits and budgets of one proxy process. Seconds, bytes and counts as the names say.

    `timeouts` hold where a route declares none of its own. `keep_alive_s`: an idle client connection is closed after
    it; `upstream_keep_alive_s` must be shorter than the upstreams' own (gunicorn's default is 2 s). `pool_limit`
    connections an endpoint, `pool_wait_limit` requests that wait for one, each for `pool_wait_s` at most;
    `pending_limit` requests are at upstreams or wait for them, all clusters together. `pseudonym` is our name in `Via`
    and `Proxy-Status`: requests that carry it already are loops. `sweep_s`: how often deadlines are looked at.
    `access_log`: share 0..1 of requests that get their line in the log. `connection_limit` client
    connections are open at once; `tunnel_limit` of them may be WebSockets, closed after `tunnel_idle_s` of silence.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    header_timeout_s: float = 10.0
    keep_alive_s: float = 75.0
    upstream_keep_alive_s: float = 1.5
    linger_s: float = 2.0
    max_header_bytes: int = 65_536
    max_header_count: int = 128
    max_target_bytes: int = 8_192
    max_body_bytes: int = 1 << 30
    hold_limit: int = 1_000
    hold_timeout_s: float = 5.0
    replay_body_bytes: int = 262_144
    replay_total_bytes: int = 67_108_864
    pool_limit: int = 256
    pool_wait_limit: int = 1_024
    pool_wait_s: float = 5.0
    pending_limit: int = 8_192
    connection_limit: int = 20_000
    tunnel_limit: int = 4_096
    tunnel_idle_s: float = 300.0
    own_write_s: float = 30.0
    retry_after_s: int = 1
    trusted_proxies: tuple[Network, ...] = ()
    session_cookies: tuple[str, ...] = ("sessionid",)
    pseudonym: str = "strangler-proxy"
    sweep_s: float = 0.25
    access_log: float = 0.0


def parse_networks(text: str) -> tuple[Network, ...]:
    """Comma-separated addresses and CIDRs. Raises ValueError with the part that is not one.

    >>> parse_networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Is an address in one of the networks? False for what is no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
