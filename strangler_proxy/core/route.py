"""Routes and clusters: what is declared."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from strangler_proxy.core.stage import Origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 section 9.2.1. Everything else, unknown methods included, is unsafe."""


class Access(enum.Enum):
    """Who may use a route from outside."""

    PUBLIC = "public"
    BEARER = "bearer"  # a bearer token or a session cookie must be present, else 401 at the edge
    CLOSED = "closed"  # 404 at the edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """A condition on one header or query field: present, or present with exactly this value."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Budgets of one request in seconds, all finite."""

    connect_s: float = 2.0
    first_byte_s: float = 30.0
    idle_s: float = 60.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address of a cluster; plain HTTP/1.1."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A named group of like upstreams."""

    name: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A match and where it leads.

    `path` is a template: literal segments, `{name}` for exactly one segment, and `/**` at the end for any rest
    (none included). `methods` empty means every method; GET implies HEAD. `host` empty means every host.
    More literal segments win over parameters, parameters over `**`, then more predicates win; two routes that would
    tie for a request are refused when the table is compiled.

    >>> Route(name="me", flag="auth", path="/api/auth/me", clusters={}).path
    '/api/auth/me'
    """

    name: str
    flag: str
    path: str
    clusters: dict[Origin, str]
    host: str = ""
    methods: frozenset[str] = field(default_factory=frozenset)
    headers: tuple[Predicate, ...] = ()
    query: tuple[Predicate, ...] = ()
    timeouts: Timeouts = Timeouts()
    access: Access = Access.PUBLIC
    retries: int = 1
    fallback: bool = True
