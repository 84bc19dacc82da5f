"""Declarations that store and follower tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from strangler_proxy.core.balance import Balance
from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.capability import Capability
from strangler_proxy.core.manifest import Column, Manifest, OnDelete, SoftReference, Table
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.core.rate import Rate
from strangler_proxy.core.route import Access, Cluster, Endpoint, Predicate, Route, Timeouts
from strangler_proxy.core.stage import Origin
from strangler_proxy.store import Store


def cluster(name: str, *ports: int) -> Cluster:
    """A cluster on this host."""
    return Cluster(name=name, endpoints=tuple(Endpoint(host="127.0.0.1", port=port) for port in ports))


MONOLITH = cluster("monolith", 8001)

CATALOG = Capability(
    key="catalog",
    file_name="catalog.toml",
    file_text='key = "catalog"\n',
    routes=(
        Route(
            name="catalog-list",
            flag="catalog",
            path="/api/catalog",
            methods=frozenset({"GET"}),
            clusters={Origin.MONOLITH: "monolith", Origin.EXTRACTED: "catalog"},
        ),
        Route(
            name="catalog-rest",
            flag="catalog",
            host="example.test",
            path="/api/catalog/{id}/**",
            headers=(Predicate(name="X-Beta"), Predicate(name="X-Kind", value="a")),
            query=(Predicate(name="page", value="1"),),
            timeouts=Timeouts(connect_s=0.5, first_byte_s=3, idle_s=4, total_s=9),
            access=Access.BEARER,
            retries=2,
            fallback=False,
            breaker=BreakerPolicy(failures=3, share=20, window_s=4.0, open_s=0.5, trials=2),
            rate=Rate(per_s=2.5, burst=9),
            idempotency_key=True,
            mirror_sample=1_250,
            clusters={Origin.MONOLITH: "monolith", Origin.EXTRACTED: "catalog"},
        ),
    ),
    clusters=(
        MONOLITH,
        dataclasses.replace(
            cluster("catalog", 8005, 8006),
            balance=Balance.ROUND_ROBIN,
            max_pending=77,
            slow_start_s=0.0,
            outlier=OutlierPolicy(failures=2, eject_s=1.5, longest_s=9.0, share=34),
            probe=ProbePolicy(path="/up?deep=1", interval_s=0.5, timeout_s=0.2, unwell=1, well=4),
        ),
    ),
    allow=frozenset({"ada"}),
    deny=frozenset({"bob", "cyd"}),
    fallback_safe=False,
    mirror_sample=2_500,
)

LEDGER_MANIFEST = Manifest(
    flag="ledger",
    databases={Origin.MONOLITH: "monolith", Origin.EXTRACTED: "ledger"},
    tables=(
        Table(
            monolith="ledger_line",
            extracted="line",
            key=("id",),
            columns=(Column(monolith="id", extracted="id"), Column(monolith="user_id", extracted="customer_id")),
            sequence="id",
            soft_references=(
                SoftReference(column="user_id", references="accounts_user.id", on_delete=OnDelete.REFUSE),
            ),
            money=("amount",),
            money_by=("currency",),
        ),
    ),
    idempotency_table="ledger_key",
)

LEDGER = Capability(
    key="ledger",
    file_name="ledger.toml",
    file_text='key = "ledger"\n',
    routes=(
        Route(
            name="ledger",
            flag="ledger",
            path="/api/ledger/**",
            clusters={Origin.MONOLITH: "monolith", Origin.EXTRACTED: "ledger"},
        ),
    ),
    clusters=(MONOLITH, cluster("ledger", 8007)),
    salt="pepper",
    manifest=LEDGER_MANIFEST,
)


def at_upstreams(capability: Capability, *, monolith: int, extracted: int) -> Capability:
    """The same capability with its clusters on other ports."""
    return dataclasses.replace(capability, clusters=(cluster("monolith", monolith), cluster(capability.key, extracted)))


async def applied(store: Store, capabilities: Sequence[Capability] = (CATALOG, LEDGER)) -> int:
    """Apply the samples; the revision."""
    return await store.switches.apply(
        capabilities, default_cluster="monolith", by="ada", reason="first", expected_revision=None
    )
