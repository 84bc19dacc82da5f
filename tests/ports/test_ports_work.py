"""FlagBoard, OperationQueue and SyncBoard: the same on memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt

import pytest

from strangler_proxy.core.epoch import Ownership
from strangler_proxy.core.errors import DeclarationError, GateRefused, UnknownName
from strangler_proxy.core.flag import Hold
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.store import Store
from tests.ports.store_samples import LEDGER, applied

DEADLINE = dt.datetime(2026, 11, 22, 12, 0, 3, 250_000, tzinfo=dt.UTC)
MOVED = Ownership(owner=Origin.EXTRACTED, epoch=2)


async def test_a_hold_is_seen_in_the_table_and_refuses_flips(store: Store) -> None:
    await applied(store)
    assert await store.flags.hold("ledger", "c1", DEADLINE, by="w") == 2
    assert await store.flags.hold("ledger", "c1", DEADLINE, by="w") == 2, "idempotent"
    flag = (await store.tables.load()).flags["ledger"]
    assert flag.hold == Hold(cutover_id="c1", deadline_at=DEADLINE)
    with pytest.raises(GateRefused, match="cutover"):
        await store.switches.set_stage("ledger", stage=Stage.SHADOW, weight=0, by="b", reason="", expected_revision=2)
    with pytest.raises(GateRefused, match="cutover"):
        await applied(store, (dataclasses.replace(LEDGER, salt="other"),))


async def test_a_release_brings_owner_epoch_and_stage_at_once(store: Store) -> None:
    await applied(store)
    await store.flags.replicated("ledger", DEADLINE)
    await store.flags.hold("ledger", "c1", DEADLINE, by="w")
    for _ in range(2):
        revision = await store.flags.release(
            "ledger", MOVED, stage="extracted", weight=0, by="w", reason="cutover c1 committed"
        )
        assert revision == 3, "idempotent"
    flag, revision = await store.flags.flag("ledger")
    assert (flag.hold, flag.owner, flag.owner_epoch, flag.stage, revision) == (
        None,
        Origin.EXTRACTED,
        2,
        Stage.EXTRACTED,
        3,
    )
    assert flag.changed_by == "w"
    assert flag.replicated_through is None, "the copy is the other side now"


async def test_an_older_grant_never_wins_and_does_not_end_a_newer_hold(store: Store) -> None:
    await applied(store)
    await store.flags.release("ledger", MOVED, stage="extracted", weight=None, by="w", reason="")
    await store.flags.hold("ledger", "c2", DEADLINE, by="w")
    late = Ownership(owner=Origin.MONOLITH, epoch=1)
    assert await store.flags.release("ledger", late, stage="monolith", weight=0, by="w", reason="late") == 3
    flag, _ = await store.flags.flag("ledger")
    assert (flag.owner, flag.stage, flag.hold is not None) == (Origin.EXTRACTED, Stage.EXTRACTED, True)


async def test_an_abort_keeps_the_owner_with_the_newer_epoch(store: Store) -> None:
    await applied(store)
    await store.flags.hold("ledger", "c1", DEADLINE, by="w")
    kept = Ownership(owner=Origin.MONOLITH, epoch=2)
    await store.flags.release("ledger", kept, stage=None, weight=None, by="w", reason="aborted")
    flag, _ = await store.flags.flag("ledger")
    assert (flag.owner, flag.owner_epoch, flag.hold, flag.changed_by) == (Origin.MONOLITH, 2, None, "ada")


async def test_a_manifest_cannot_be_dropped_while_extracted_owns(store: Store) -> None:
    await applied(store)
    await store.flags.release("ledger", MOVED, stage="extracted", weight=0, by="w", reason="")
    with pytest.raises(DeclarationError, match="extracted owns the data"):
        await applied(store, (dataclasses.replace(LEDGER, manifest=None),))


async def test_holds_of_unknown_flags_are_refused(store: Store) -> None:
    for call in (
        store.flags.flag("nothing"),
        store.flags.hold("nothing", "c", DEADLINE, by="w"),
        store.flags.release("nothing", MOVED, stage=None, weight=None, by="w", reason=""),
        store.sync.want("nothing", True),
        store.sync.publish("nothing", {}),
    ):
        with pytest.raises(UnknownName):
            await call


async def test_operations_are_claimed_once_in_order_and_end_with_their_steps(store: Store) -> None:
    await applied(store)
    await store.switches.request("sync_start", "ledger", {}, by="a", reason="r")
    await store.switches.request("cutover", "ledger", {"to": "extracted"}, by="a", reason="r")
    first, second, third = [await store.operations.claim(w) for w in ("w1", "w2", "w3")]
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind, third) == ("sync_start", "cutover", None)
    assert (second.status, dict(second.args)) == ("running", {"to": "extracted"})
    await store.operations.step(second.id, "w2", "hold", "2 proxies")
    await store.operations.step(second.id, "w9", "hold", "not mine")
    await store.operations.step(second.id, "w2", "decide", "")
    for status in ("done", "failed"):
        await store.operations.finish(second.id, "w2", status, "held_ms=213 epoch=4")
    (shown, _) = await store.records.operations("ledger", 2)
    assert (shown.status, shown.detail) == ("done", "held_ms=213 epoch=4")
    assert [(s["name"], s["detail"]) for s in shown.steps] == [("hold", "2 proxies"), ("decide", "")]
    assert shown.finished_at is not None
    assert shown.requested_at is not None
    again = await store.switches.request("cutover", "ledger", {}, by="a", reason="r")
    assert again.id > second.id


async def test_only_an_operation_that_nobody_has_taken_is_withdrawn(store: Store) -> None:
    await applied(store)
    asked = await store.switches.request("cutover", "ledger", {"to": "extracted"}, by="ada", reason="")
    gone = await store.switches.withdraw(asked.id, by="bob", reason="too early")
    assert (gone.status, gone.detail) == (
        "aborted",
        "withdrawn by bob, before a worker had taken it: too early",
    )
    assert await store.operations.claim("w1") is None
    entry = (await store.records.history("ledger", 1))[0]
    assert (entry.verb, entry.actor, entry.after["operation"]) == ("withdraw", "bob", asked.id)
    assert (await store.records.verify_audit()).broken_at is None
    again = await store.switches.request("cutover", "ledger", {"to": "extracted"}, by="ada", reason="")
    assert await store.operations.claim("w1") is not None
    with pytest.raises(GateRefused, match="a worker has taken it"):
        await store.switches.withdraw(again.id, by="bob", reason="")
    with pytest.raises(GateRefused, match="over"):
        await store.switches.withdraw(asked.id, by="bob", reason="")
    with pytest.raises(UnknownName, match="no operation 999"):
        await store.switches.withdraw(999, by="bob", reason="")


async def test_an_operation_whose_worker_is_gone_is_taken_over_with_its_steps(store: Store) -> None:
    await applied(store)
    asked = await store.switches.request("cutover", "ledger", {}, by="a", reason="r")
    await store.operations.claim("w1")
    await store.operations.step(asked.id, "w1", "hold", "")
    await asyncio.sleep(0.25)
    assert await store.operations.renew(asked.id, "w1")
    await asyncio.sleep(0.25)
    assert await store.operations.claim("w2") is None, "renewed"
    await asyncio.sleep(0.3)
    taken = await store.operations.claim("w2")
    assert taken is not None
    assert [s["name"] for s in taken.steps] == ["hold"]
    assert not await store.operations.renew(asked.id, "w1")
    await store.operations.finish(asked.id, "w1", "failed", "late")
    (shown,) = await store.records.operations(None, 1)
    assert shown.status == "running"


async def test_streams_are_wanted_until_they_are_not(store: Store) -> None:
    await applied(store)
    assert await store.sync.wanted() == []
    await store.sync.want("ledger", True)
    await store.sync.want("ledger", True)
    assert await store.sync.wanted() == ["ledger"]
    assert await store.sync.status("ledger") is None
    await store.sync.publish("ledger", {"mode": "live", "lag_seconds": 0.12, "eta_seconds": None})
    await store.sync.publish("ledger", {"mode": "live", "lag_seconds": 0.25, "tables": [{"done": True}]})
    found = await store.sync.status("ledger")
    assert found is not None
    assert dict(found[0]) == {"mode": "live", "lag_seconds": 0.25, "tables": [{"done": True}]}
    assert 0 <= found[1] < 30, "its age, by the store's clock"
    await store.sync.want("ledger", False)
    assert await store.sync.wanted() == []


async def test_a_pause_stays_until_it_is_ended_and_a_person_s_word_replaces_a_worker_s(store: Store) -> None:
    await applied(store)
    assert await store.pauses.paused() == {}
    first = await store.pauses.pause("ledger", by="w1", reason="a column is gone", drift=True)
    assert (await store.pauses.pause("ledger", by="w2", reason="a table is gone", drift=True)).since == first.since
    person = await store.pauses.pause("ledger", by="ann", reason="looking at it")
    assert (person.since, person.by, person.drift) == (first.since, "ann", False)
    for by, drift in (("w1", True), ("ben", False)):
        assert await store.pauses.pause("ledger", by=by, reason="no", drift=drift) == person
    assert await store.pauses.paused() == {"ledger": person}
    assert not await store.pauses.resume("ledger", by="w1", reason="fits again", only_drift=True)
    assert await store.pauses.resume("ledger", by="ann", reason="done")
    assert not await store.pauses.resume("ledger", by="ann", reason="done")
    told = [(e.verb, e.actor, e.before, e.after) for e in reversed(await store.records.history("ledger", 4))]
    assert [each[:2] for each in told] == [
        ("sync_pause", "w1"),
        ("sync_pause", "w2"),
        ("sync_pause", "ann"),
        ("sync_resumed", "ann"),
    ]
    assert told[-1][2] == told[-2][3]
    await store.pauses.pause("ledger", by="ann", reason="")
    await store.sync.want("ledger", True)
    assert "ledger" in await store.pauses.paused()
    await store.sync.want("ledger", False)
    assert await store.pauses.paused() == {}, "a stream that is stopped is not paused any more"
    with pytest.raises(UnknownName):
        await store.pauses.pause("nobody", by="a", reason="")


async def test_a_lease_has_one_holder_until_it_runs_out(store: Store) -> None:
    assert await store.sync.lease("stream:ledger", "w1", 0.3)
    assert not await store.sync.lease("stream:ledger", "w2", 0.3)
    assert await store.sync.lease("stream:other", "w2", 0.3)
    assert await store.sync.lease("stream:ledger", "w1", 0.3), "renewed"
    await asyncio.sleep(0.4)
    assert await store.sync.lease("stream:ledger", "w2", 0.3)
    assert not await store.sync.lease("stream:ledger", "w1", 0.3)


async def test_a_lease_from_before_the_clock_was_set_back_is_over(store: Store) -> None:
    """It would end in an hour; nobody can have asked for one that long."""
    await applied(store)
    assert await store.sync.lease("stream:ledger", "w1", 3600.0)
    assert await store.sync.lease("stream:ledger", "w2", 4.0)
