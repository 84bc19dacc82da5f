"""EvidenceBook and RuleBook: the same in memory, in an SQLite file and on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.errors import DeclarationError, UnknownName
from strangler_proxy.core.evidence import GONE_S, Bounds
from strangler_proxy.core.rules import RuleKind
from strangler_proxy.store import migrate, open_store
from strangler_proxy.store.evidence_memory import MemoryEvidence
from strangler_proxy.store.evidence_opened import Evidence, open_evidence
from strangler_proxy.store.evidence_sqlite import SqliteEvidence
from tests.ports.evidence_samples import NEW, NOW, OLD, key, rule, sample, stratum, tally
from tests.ports.store_samples import applied

AGES = dt.timedelta(days=400)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def evidence(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Evidence]:
    """Empty evidence of each kind; on PostgreSQL the flag `catalog` is declared."""
    url = {"memory": "memory:", "sqlite": f"sqlite://{tmp_path}/evidence.sqlite"}.get(request.param, "")
    if not url:
        url = request.getfixturevalue("database")
        migrate(url)
        store = open_store(url)
        await applied(store)
        await store.close()
    async with open_evidence(url) as opened:
        yield opened


async def test_publishing_again_replaces_what_a_writer_said_and_counts_once(evidence: Evidence) -> None:
    for _ in range(2):
        await evidence.publish("w1", tally(list=stratum(10), one=stratum(5, 1)))
    (found,) = await evidence.tallies("catalog")
    assert found == tally(list=stratum(10), one=stratum(5, 1))


async def test_strata_that_are_not_published_again_stay(evidence: Evidence) -> None:
    await evidence.publish("w1", tally(list=stratum(10), one=stratum(5, 1)))
    later = tally(one=stratum(8, 2))
    later.eligible = 250
    await evidence.publish("w1", later)
    (found,) = await evidence.tallies("catalog")
    assert found.strata == {key("/list"): stratum(10), key("/one"): stratum(8, 2)}
    assert (found.eligible, found.mirrored, found.drops) == (250, 90, {"queue_full": 7, "not_sampled": 3})


async def test_what_the_caller_counts_on_is_not_what_was_published(evidence: Evidence) -> None:
    counting = tally(list=stratum(10))
    await evidence.publish("w1", counting)
    counting.stratum(key("/list")).matched += 1
    counting.drops["queue_full"] += 1
    (found,) = await evidence.tallies("catalog")
    assert found == tally(list=stratum(10))
    found.stratum(key("/list")).matched += 1
    assert list(await evidence.tallies("catalog")) == [tally(list=stratum(10))]


async def test_writers_are_added_up(evidence: Evidence) -> None:
    await evidence.publish("w1", tally(list=stratum(10), one=stratum(5, 1, sample="a")))
    await evidence.publish("w2", tally(list=stratum(7)))
    (found,) = await evidence.tallies("catalog")
    assert (found.eligible, found.mirrored, found.drops["queue_full"], found.rule_uses) == (200, 180, 14, {"r1": 4})
    both = stratum(10)
    both.merge(stratum(7))
    assert found.strata == {key("/list"): both, key("/one"): stratum(5, 1, sample="a")}


async def test_bases_stay_apart_and_the_one_published_last_comes_first(evidence: Evidence) -> None:
    await evidence.publish("w1", tally(basis=OLD, list=stratum(10)))
    await evidence.publish("w1", tally(basis=NEW, list=stratum(3)))
    await evidence.publish("w2", tally(basis=OLD, list=stratum(1)))
    assert [(t.basis, t.compared) for t in await evidence.tallies("catalog")] == [(OLD, 11), (NEW, 3)]
    await evidence.publish("w1", tally(basis=NEW, list=stratum(4)))
    assert [(t.basis, t.compared) for t in await evidence.tallies("catalog")] == [(NEW, 4), (OLD, 11)]


async def test_since_leaves_out_writers_that_ended_before(evidence: Evidence) -> None:
    await evidence.publish("w1", tally(list=stratum(10)))
    await asyncio.sleep(0.05)
    between = dt.datetime.now(dt.UTC)
    await asyncio.sleep(0.05)
    await evidence.publish("w2", tally(list=stratum(3)))
    assert [t.compared for t in await evidence.tallies("catalog", since=between)] == [3]
    assert [t.compared for t in await evidence.tallies("catalog", since=between - AGES)] == [13]
    assert list(await evidence.tallies("catalog", since=between + AGES)) == []


async def test_evidence_belongs_to_a_flag_and_no_flag_is_one_too(evidence: Evidence) -> None:
    assert (list(await evidence.tallies("catalog")), list(await evidence.flags())) == ([], [])
    await evidence.publish("w1", tally(flag="", list=stratum(10)))
    await evidence.publish("w1", tally(flag="ledger"))
    await evidence.keep([sample(1)])
    assert list(await evidence.tallies("catalog")) == []
    assert [t.compared for t in await evidence.tallies("")] == [10]
    assert [t.compared for t in await evidence.tallies("ledger")] == [0]
    assert list(await evidence.flags()) == ["", "catalog", "ledger"]


async def test_samples_come_back_whole_and_the_newest_first(evidence: Evidence) -> None:
    await evidence.keep([sample(2), sample(1)])
    await evidence.keep([sample(3)])
    assert list(await evidence.samples("catalog", limit=10)) == [sample(3), sample(2), sample(1)]
    assert list(await evidence.samples("catalog", limit=2)) == [sample(3), sample(2)]
    assert list(await evidence.samples("ledger", limit=2)) == []


async def test_samples_of_a_path_of_an_id_and_of_all_flags(evidence: Evidence) -> None:
    await evidence.keep([sample(1), sample(2, path="name"), sample(3, flag="ledger", path="name")])
    assert [s.id for s in await evidence.samples("catalog", limit=9, path="name")] == [sample(2).id]
    assert [s.id for s in await evidence.samples("", limit=9, path="name")] == [sample(3).id, sample(2).id]
    assert [s.id for s in await evidence.samples("", limit=9)] == [sample(n).id for n in (3, 2, 1)]
    assert [s.flag for s in await evidence.samples("", limit=1, sample_id=sample(3).id)] == ["ledger"]
    assert list(await evidence.samples("catalog", limit=1, sample_id=sample(3).id)) == []


async def test_samples_go_on_where_a_page_ended(evidence: Evidence) -> None:
    same = [sample(n, minutes=7.0) for n in (1, 2, 3)]
    await evidence.keep([*same, sample(4, minutes=8.0), sample(5, minutes=6.0)])
    seen: list[str] = []
    last = None
    while page := await evidence.samples("catalog", limit=2, before=last):
        seen += [each.id for each in page]
        last = page[-1].at, page[-1].id
    assert seen == [sample(n).id for n in (4, 1, 2, 3, 5)]


async def test_a_sample_takes_the_place_of_others(evidence: Evidence) -> None:
    await evidence.keep([sample(1), sample(2), sample(3)])
    await evidence.keep([sample(4, path="name")], instead_of=[sample(1).id, sample(3).id, "unknown"])
    await evidence.keep([sample(2, path="title")])
    await evidence.keep([], instead_of=[sample(4).id])
    assert list(await evidence.samples("catalog", limit=9)) == [sample(2, path="title")]
    assert list(await evidence.samples("catalog", limit=9, path="price")) == []


async def test_hostile_text_is_kept_as_it_is(evidence: Evidence) -> None:
    nasty = "\0 \ud800 \U0001f600 é ' \" % { $1 \\u0000 " + "x" * 20_000
    kept = sample(1, path=nasty, body=nasty)
    await evidence.keep([kept])
    assert list(await evidence.samples("catalog", limit=1, path=nasty)) == [kept]
    hostile = dataclasses.replace(key("/list"), path_template=nasty, content_type=nasty)
    said = tally()
    said.strata[hostile] = stratum(3, 1, sample=nasty)
    await evidence.publish("w1", said)
    assert list(await evidence.tallies("catalog")) == [said]


async def test_pruning_forgets_the_oldest_beyond_the_number_and_the_bytes(evidence: Evidence) -> None:
    await evidence.keep([sample(n, body="x" * 1_000) for n in range(1, 11)])
    await evidence.keep([sample(99, flag="ledger")])
    assert await evidence.prune("catalog", Bounds(), NOW) == 0
    assert await evidence.prune("catalog", Bounds(samples=8), NOW) == 2
    assert [s.id for s in await evidence.samples("catalog", limit=99)] == [sample(n).id for n in range(10, 2, -1)]
    assert await evidence.prune("catalog", Bounds(sample_bytes=7_000), NOW) == 5
    assert [s.id for s in await evidence.samples("catalog", limit=99)] == [sample(n).id for n in (10, 9, 8)]
    assert await evidence.prune("catalog", Bounds(samples=0), NOW) == 3
    assert len(await evidence.samples("ledger", limit=99)) == 1


async def test_pruning_forgets_what_is_too_old_tallies_too(evidence: Evidence) -> None:
    await evidence.keep([sample(1, minutes=-3 * 24 * 60), sample(2)])
    await evidence.publish("w1", tally(list=stratum(10)))
    assert await evidence.prune("catalog", Bounds(days=2), NOW) == 1
    assert [s.id for s in await evidence.samples("catalog", limit=99)] == [sample(2).id]
    assert [t.compared for t in await evidence.tallies("catalog")] == [10]
    await evidence.prune("catalog", Bounds(days=2), dt.datetime.now(dt.UTC) + dt.timedelta(days=3))
    assert list(await evidence.tallies("catalog")) == []


async def test_many_samples_and_strata_are_kept_in_batches(evidence: Evidence) -> None:
    strata = {f"s{n}": stratum(1) for n in range(450)}
    await evidence.publish("w1", tally(**strata))
    await evidence.keep([sample(n) for n in range(1, 251)])
    (found,) = await evidence.tallies("catalog")
    assert (len(found.strata), found.eligible) == (450, 100)
    assert len(await evidence.samples("catalog", limit=999)) == 250


async def test_a_rule_that_was_added_is_there_until_it_expires_and_after(evidence: Evidence) -> None:
    assert list(await evidence.rules("catalog")) == []
    await evidence.add_rule("catalog", rule("b"), by="ada")
    await evidence.add_rule("catalog", rule("a", "name"), by="ada")
    assert list(await evidence.rules("catalog")) == [rule("a", "name"), rule("b")]
    ended = dt.date(2026, 11, 27)
    await evidence.expire_rule("catalog", "b", ended, by="bob", reason="fixed in 812")
    assert list(await evidence.rules("catalog")) == [rule("a", "name"), rule("b", expires_on=ended)]


async def test_evidence_of_no_flag_has_no_rules_at_first(evidence: Evidence) -> None:
    assert list(await evidence.rules("")) == []


async def test_rules_that_are_taken_impossible_or_unknown_are_refused(evidence: Evidence) -> None:
    await evidence.add_rule("catalog", rule("a"), by="ada")
    with pytest.raises(DeclarationError, match='rule "a" is there already'):
        await evidence.add_rule("catalog", rule("a", "name"), by="ada")
    with pytest.raises(DeclarationError, match="a keyed array needs the field"):
        await evidence.add_rule("catalog", dataclasses.replace(rule("b"), kind=RuleKind.KEYED), by="ada")
    with pytest.raises(UnknownName, match='no rule "z"'):
        await evidence.expire_rule("catalog", "z", dt.date(2026, 11, 27), by="ada", reason="")
    assert list(await evidence.rules("catalog")) == [rule("a")]


async def test_many_writers_at_once_lose_nothing(evidence: Evidence) -> None:
    async def write(writer: int) -> None:
        for turn in range(1, 6):
            await evidence.publish(f"w{writer}", tally(list=stratum(turn)))
            await evidence.keep([sample(writer * 100 + turn)], instead_of=[sample(writer * 100 + turn - 1).id])

    await asyncio.gather(*(write(writer) for writer in range(8)))
    (found,) = await evidence.tallies("catalog")
    assert (found.compared, found.eligible) == (40, 800)
    assert len(await evidence.samples("catalog", limit=99)) == 8


async def test_tallies_of_writers_that_have_ended_are_put_together_and_read_the_same(
    evidence: Evidence, request: pytest.FixtureRequest
) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=GONE_S + 60)
    for number in range(12):
        await evidence.publish(f"w{number}", tally(basis=OLD, list=stratum(10 + number), one=stratum(5, 1, sample="a")))
    await evidence.publish("w3", tally(basis=NEW, list=stratum(4)))
    await evidence.publish("w4", tally(basis=NEW, one=stratum(2)))
    before = list(await evidence.tallies("catalog"))
    assert await evidence.prune("catalog", Bounds(), dt.datetime.now(dt.UTC)) == 0
    assert writers_of(evidence, request) in (14, None), "none of them has ended yet"
    for _ in range(3):
        await evidence.prune("catalog", Bounds(), later)
    assert list(await evidence.tallies("catalog")) == before
    assert writers_of(evidence, request) in (2, None), "one for each basis"
    await evidence.prune("catalog", Bounds(days=1), later)
    assert list(await evidence.tallies("catalog")) == [], "they are as old as the last of them"


def writers_of(evidence: Evidence, request: pytest.FixtureRequest) -> int | None:
    """How many there are in the tables; None in memory, which lasts as long as its only writer."""
    if isinstance(evidence, MemoryEvidence):
        return None
    if isinstance(evidence, SqliteEvidence):
        with contextlib.closing(sqlite3.connect(evidence.path)) as file:
            return int(file.execute("SELECT count(*) FROM writer").fetchone()[0])
    with psycopg.connect(request.getfixturevalue("database")) as connection:
        (found,) = connection.execute("SELECT count(*) FROM strangler.evidence_writer").fetchone() or (0,)
        return int(found)
