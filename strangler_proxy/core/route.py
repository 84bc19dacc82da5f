"""Routes and clusters: what is declared."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from strangler_proxy.core.balance import Balance
from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.core.rate import Rate
from strangler_proxy.core.stage import Origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 section 9.2.1. Everything else, unknown methods included, is unsafe."""

_USUAL_OUTLIER = OutlierPolicy()
_USUAL_BREAKER = BreakerPolicy()


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
    """A named group of like upstreams.

    `max_pending` requests are at it, or wait for it, at once; more are answered 503. `slow_start_s`: an endpoint that
    comes (back) gets its full part of the requests only after so long. `outlier` counts where there are several
    endpoints; `probe` None: nobody asks the endpoints how they are.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    balance: Balance = Balance.LEAST_PENDING
    max_pending: int = 1_024
    slow_start_s: float = 10.0
    outlier: OutlierPolicy = _USUAL_OUTLIER
    probe: ProbePolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A match and where it leads.

    `path` is a template: literal segments, `{name}` for exactly one segment, and `/**` at the end for any rest
    (none included). `methods` empty means every method; GET implies HEAD. `host` empty means every host.
    More literal segments win over parameters, parameters over `**`, then more predicates win; two routes that would
    tie for a request are refused when the table is compiled.

    `retries`: attempts after the first. `idempotency_key`: both origins keep Idempotency-Keys in one migrated table, so
    that a POST with one may be retried. `breaker` holds for each of its clusters, `rate` for each targeting key.
    `mirror_sample` 0..10000 of its eligible requests are mirrored, None: as its flag says.

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
    breaker: BreakerPolicy = _USUAL_BREAKER
    rate: Rate | None = None
    idempotency_key: bool = False
    mirror_sample: int | None = None
