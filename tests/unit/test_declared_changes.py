"""What `apply` would change, line by line."""

from __future__ import annotations

import dataclasses

from strangler_proxy.core.declaration import declared_changes
from strangler_proxy.plan import load_plans, read_files
from strangler_proxy.plan.plans import Plans
from strangler_proxy.store.memory import memory_store
from tests.servers import ROOT


def example() -> Plans:
    return load_plans(read_files([ROOT / "migrations_plan"]), {})


async def lines_after(changed: Plans) -> list[str]:
    """The difference of `changed` to a table where the example was applied."""
    store, plans = memory_store(), example()
    await store.switches.apply(
        plans.capabilities, default_cluster=plans.default_cluster, by="me", reason="", expected_revision=None
    )
    table = await store.records.table()
    manifests = {key: await store.manifests.manifest(key) for key in table.flags}
    await store.close()
    return [str(change) for change in declared_changes(table, manifests, changed.capabilities, changed.default_cluster)]


async def test_the_same_files_again_are_no_difference() -> None:
    assert await lines_after(example()) == []


async def test_every_kind_of_change_is_a_line_of_its_own() -> None:
    plans = example()
    auth, payments = plans.capabilities
    first, second, *others = auth.routes
    changed = dataclasses.replace(
        auth,
        allow=frozenset({"ada"}),
        routes=(dataclasses.replace(first, retries=0, path="/api/auth/join"), *others),
        clusters=(
            dataclasses.replace(auth.clusters[0], endpoints=auth.clusters[0].endpoints * 2),
            *auth.clusters[1:],
        ),
        manifest=None,
    )
    assert await lines_after(Plans(capabilities=(changed, payments), default_cluster="auth")) == [
        "~ table: default cluster monolith -> auth",
        '~ flag "auth": owns data yes -> no',
        '~ flag "auth": allow - -> ada',
        '~ cluster "auth": endpoints 127.0.0.1:8002 -> 127.0.0.1:8002, 127.0.0.1:8002',
        '~ route "auth-register": path /api/auth/register -> /api/auth/join',
        '~ route "auth-register": retries 1 -> 0',
        f'- route "{second.name}" {second.path}',
        '- data "auth" databases',
        '- data "auth" table accounts_user',
        '- data "auth" table accounts_refreshtoken',
    ]
