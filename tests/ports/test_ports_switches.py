"""Switchboard, TableSource and Records: the same on memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import aclosing

import pytest

from strangler_proxy.core.capability import Capability
from strangler_proxy.core.errors import DeclarationError, GateRefused, RevisionMoved, UnknownName
from strangler_proxy.core.ports import Heartbeat
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store
from tests.ports.store_samples import CATALOG, LEDGER, applied, cluster

SICK = {"breakers": ["catalog/catalog-list open"], "ejected": ["catalog 127.0.0.1:8005 probe"]}


async def test_an_empty_database_has_an_empty_table_without_a_default(store: Store) -> None:
    table = await store.tables.load()
    assert (table.revision, table.default_cluster.endpoints, await store.tables.revision()) == (0, (), 0)


async def test_what_was_applied_comes_back_as_it_was_declared(store: Store) -> None:
    revision = await applied(store)
    table = await store.tables.load()
    assert table.revision == revision == await store.tables.revision() == 1
    assert {r.name: r for r in table.routes} == {r.name: r for r in (*CATALOG.routes, *LEDGER.routes)}
    assert set(table.clusters.values()) == {*CATALOG.clusters, *LEDGER.clusters}
    assert table.default_cluster.name == "monolith"
    flag = table.flags["catalog"]
    assert (flag.stage, flag.weight, flag.owns_data, flag.owner, flag.salt) == (
        Stage.MONOLITH,
        0,
        False,
        Origin.MONOLITH,
        "catalog",
    )
    assert (flag.allow, flag.deny, flag.fallback_safe, flag.mirror_sample) == (
        CATALOG.allow,
        CATALOG.deny,
        False,
        2_500,
    )
    assert flag.changed_by == "ada"
    assert flag.reason == "first"
    assert flag.changed_at is not None
    assert table.flags["ledger"].owns_data
    assert table.flags["ledger"].salt == "pepper"


async def test_applying_the_same_again_is_no_change(store: Store) -> None:
    revision = await applied(store)
    assert await applied(store, (LEDGER, CATALOG)) == revision
    assert len(await store.records.history(None, 10)) == 3  # two capabilities, and the default cluster


async def test_applying_again_replaces_routes_and_keeps_what_was_switched(store: Store) -> None:
    await applied(store)
    await store.switches.set_stage("catalog", stage=Stage.SHADOW, weight=0, by="bob", reason="go", expected_revision=1)
    changed = dataclasses.replace(CATALOG, routes=CATALOG.routes[:1], mirror_sample=1)
    assert await applied(store, (changed,)) == 3
    table = await store.tables.load()
    assert {r.name for r in table.routes} == {"catalog-list", "ledger"}
    flag = table.flags["catalog"]
    assert (flag.stage, flag.mirror_sample, flag.changed_by) == (Stage.SHADOW, 1, "bob")


@pytest.mark.parametrize(
    ("capability", "says"),
    [
        (
            dataclasses.replace(CATALOG, routes=(dataclasses.replace(CATALOG.routes[0], flag="ledger"),)),
            "names the flag",
        ),
        (dataclasses.replace(CATALOG, clusters=CATALOG.clusters[:1]), "unknown cluster"),
        (
            dataclasses.replace(CATALOG, clusters=(cluster("monolith", 9), CATALOG.clusters[1])),
            'cluster "monolith" is 127.0.0.1:8001 in "ledger", but 127.0.0.1:9 in "catalog"',
        ),
        (
            dataclasses.replace(
                CATALOG,
                routes=(*CATALOG.routes, dataclasses.replace(LEDGER.routes[0], name="x", flag="catalog")),
                clusters=(*CATALOG.clusters, LEDGER.clusters[1]),
            ),
            "match the same requests",
        ),
    ],
)
async def test_declarations_that_do_not_compile_write_nothing(store: Store, capability: Capability, says: str) -> None:
    await applied(store, (LEDGER,))
    with pytest.raises(DeclarationError, match=says):
        await applied(store, (capability,))
    assert await store.tables.revision() == 1
    assert "catalog" not in (await store.tables.load()).flags


async def test_a_first_apply_needs_a_default_cluster(store: Store) -> None:
    with pytest.raises(DeclarationError, match="no default cluster"):
        await store.switches.apply((CATALOG,), default_cluster=None, by="a", reason="", expected_revision=None)


async def test_a_stage_is_set_once_and_again_is_no_change(store: Store) -> None:
    await applied(store)
    for _ in range(2):
        revision = await store.switches.set_stage(
            "catalog", stage=Stage.CANARY, weight=2_500, by="bob", reason="try", expected_revision=None
        )
        assert revision == 2
    flag = (await store.tables.load()).flags["catalog"]
    assert (flag.stage, flag.weight, flag.changed_by, flag.reason) == (Stage.CANARY, 2_500, "bob", "try")


async def test_a_revision_that_moved_on_is_refused_and_nothing_changes(store: Store) -> None:
    await applied(store)
    with pytest.raises(RevisionMoved, match="revision 1, not 7"):
        await store.switches.set_stage("catalog", stage=Stage.SHADOW, weight=0, by="b", reason="", expected_revision=7)
    with pytest.raises(RevisionMoved):
        await store.switches.apply((), default_cluster="ledger", by="b", reason="", expected_revision=7)
    assert (await store.tables.load()).flags["catalog"].stage is Stage.MONOLITH
    assert await store.tables.revision() == 1


async def test_unknown_flags_and_bad_weights_are_refused_with_a_sentence(store: Store) -> None:
    await applied(store)
    with pytest.raises(UnknownName, match='no flag "nothing"'):
        await store.switches.set_stage("nothing", stage=Stage.SHADOW, weight=0, by="b", reason="", expected_revision=1)
    with pytest.raises(DeclarationError, match="weight 12000 is outside"):
        await store.switches.set_stage(
            "catalog", stage=Stage.CANARY, weight=12_000, by="b", reason="", expected_revision=1
        )
    with pytest.raises(UnknownName):
        await store.manifests.manifest("nothing")
    with pytest.raises(UnknownName, match="owns no data"):
        await store.manifests.manifest("catalog")


async def test_the_manifest_comes_back_whole(store: Store) -> None:
    await applied(store)
    assert await store.manifests.manifest("ledger") == LEDGER.manifest


async def test_a_change_is_announced_to_whoever_listens(store: Store) -> None:
    async with aclosing(store.tables.changes()) as changes:
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.2)
        await applied(store)
        assert await asyncio.wait_for(first, 2) == 1
        await store.switches.set_stage("catalog", stage=Stage.SHADOW, weight=0, by="b", reason="", expected_revision=1)
        assert await asyncio.wait_for(anext(changes), 2) == 2


async def test_a_heartbeat_is_answered_with_clock_revision_and_replication(store: Store) -> None:
    await applied(store)
    pulse = await store.tables.beat(
        Heartbeat(proxy_id="p1", revision=1, holding={"ledger": 3}, unsafe_in_flight={"ledger": 1}, address="h:1")
    )
    assert (pulse.revision, dict(pulse.replicated_through)) == (1, {})
    await store.flags.replicated("ledger", pulse.clock)
    again = await store.tables.beat(Heartbeat(proxy_id="p1", revision=1, refused_table="because", upstreams=SICK))
    assert dict(again.replicated_through) == {"ledger": pulse.clock}
    assert again.clock > pulse.clock
    (live,) = await store.flags.live_proxies()
    assert (live.proxy_id, live.revision, live.refused_table, dict(live.holding)) == ("p1", 1, "because", {})
    assert dict(live.upstreams) == SICK
    assert live.started_at is not None
    assert live.seen_at == again.clock
    assert await store.tables.revision() == 1, "replication is not a revision"
    with pytest.raises(UnknownName):
        await store.flags.replicated("nothing", pulse.clock)


async def test_a_proxy_is_live_for_three_seconds_unless_it_leaves(store: Store) -> None:
    for name in ("p1", "p2", "p3"):
        await store.tables.beat(Heartbeat(proxy_id=name, revision=0))
    await store.tables.leave("p2")
    assert [h.proxy_id for h in await store.flags.live_proxies()] == ["p1", "p3"]
    await asyncio.sleep(1.5)
    await store.tables.beat(Heartbeat(proxy_id="p3", revision=0))
    await asyncio.sleep(1.7)
    assert [h.proxy_id for h in await store.flags.live_proxies()] == ["p3"]
    assert [h.proxy_id for h in await store.records.proxies()] == ["p1", "p3"]


async def test_every_change_has_its_entry_in_an_unbroken_chain(store: Store) -> None:
    await applied(store)
    await store.switches.set_stage("catalog", stage=Stage.SHADOW, weight=0, by="b", reason="why", expected_revision=1)
    await store.switches.request("sync_start", "ledger", {}, by="c", reason="now")
    entries = await store.records.history(None, 10)
    assert [(e.id, e.verb, e.subject, e.actor, e.revision) for e in entries] == [
        (5, "sync_start", "ledger", "c", 2),
        (4, "flip", "catalog", "b", 2),
        (3, "apply", "*", "ada", 1),
        (2, "apply", "ledger", "ada", 1),
        (1, "apply", "catalog", "ada", 1),
    ]
    assert (dict(entries[1].before), dict(entries[1].after)) == ({"stage": "monolith"}, {"stage": "shadow"})
    assert [e.id for e in await store.records.history("catalog", 10)] == [4, 1]
    assert [e.id for e in await store.records.history(None, 2)] == [5, 4]
    verdict = await store.records.verify_audit()
    assert (verdict.entries, verdict.broken_at) == (5, None)


async def test_an_operation_is_requested_once_until_it_is_over(store: Store) -> None:
    await applied(store)
    first = await store.switches.request("cutover", "ledger", {"to": "extracted"}, by="a", reason="r")
    with pytest.raises(GateRefused, match=f"operation {first.id}"):
        await store.switches.request("cutover", "ledger", {}, by="a", reason="r")
    await store.switches.request("sync_start", "ledger", {}, by="a", reason="r")
    with pytest.raises(UnknownName):
        await store.switches.request("cutover", "nothing", {}, by="a", reason="r")
    assert [o.kind for o in await store.records.operations("ledger", 10)] == ["sync_start", "cutover"]
    assert await store.records.operations("catalog", 10) == []
