"""The judging process: pairs go in at the proxy's end, evidence comes out in a file; real processes, a real file."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from strangler_proxy.core.pair import NOT_SAMPLED, Answer, Pair, Side
from strangler_proxy.core.rules import Rule, RuleKind
from strangler_proxy.shadow.link import JudgeLink
from strangler_proxy.shadow.options import JudgeSettings
from strangler_proxy.store import migrate
from strangler_proxy.store.evidence_opened import open_evidence
from tests.integration.judge_rig import judging, tallies, two_prices, until
from tests.pairs import SECRET, Answering, answer, pair, seen

pytestmark = pytest.mark.long


async def test_pairs_and_notes_become_tallies_in_the_evidence(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    async with judging(path) as (link, asker):
        for number in range(50):
            link.note(seen(path=b"/items/%d" % number))
        link.note(seen(NOT_SAMPLED))
        link.note(seen("queue_full"))
        link.take(pair(answer({"price": 1}), answer({"price": 2})))
        link.take(pair(answer({"price": 1, "b": 2}), answer({"b": 2, "price": 1.0})))
        await until(lambda: link.facts.get("pairs") == 2)
    (tally,) = await tallies(path)
    (key,) = tally.strata
    stratum = tally.strata[key]
    assert (key.path_template, key.content_type, stratum.route) == ("/items/{id}", "application/json", "items")
    assert (tally.eligible, tally.mirrored, tally.drops) == (54, 52, {"queue_full": 1})
    assert (stratum.requests, stratum.matched, stratum.mismatched, stratum.confirmed) == (54, 51, 1, 1)
    assert [(path, kind.value) for path, kind in stratum.differences] == [("price", "value")]
    assert sorted(asker.sides()) == ["candidate", "control"]
    assert stratum.control_ms.total == 52


async def test_a_killed_judge_is_started_again_and_nothing_is_counted_twice_or_unsaid(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    async with judging(path) as (link, _):
        link.take(pair(answer({"a": 1}), answer({"a": 1.0})))
        for _ in range(100):
            link.note(seen())
        await until(lambda: link.facts.get("published", 0) >= 1)
        await until(lambda: "not_kept=0" in repr(link))
        first = link.pid
        os.kill(first, signal.SIGSTOP)  # it reads no more: what comes now is in flight when it is killed
        for _ in range(7):
            link.take(pair(answer({"a": 1}), answer({"a": 1.0})))
        for _ in range(11):
            link.note(seen())
        await asyncio.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        await until(lambda: not link.is_up)
        link.take(pair(answer({"a": 1}), answer({"a": 1.0})))
        link.note(seen())
        await until(lambda: link.is_up and link.pid != first)
        link.take(pair(answer({"a": 1}), answer({"a": 1.0})))
        assert link.restarts == 1
        assert link.drops == {"judge_down": 8}
    (tally,) = await tallies(path)
    assert sum(one.matched for one in tally.strata.values()) == 1 + 100 + 11 + 1 + 1
    assert tally.drops == {"judge_down": 8}
    assert tally.eligible == 114 + 8
    assert tally.mirrored == tally.eligible


def test_it_works_on_the_loop_that_proxies_run_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with judging(tmp_path / "evidence.db") as (link, asker):
            link.take(pair(answer({"price": 1}), answer({"price": 2})))
            await until(lambda: link.facts.get("mismatched") == 1)
            assert sorted(asker.sides()) == ["candidate", "control"]
            while [each.compared for each in await tallies(tmp_path / "evidence.db")] != [1]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # what was not published yet dies with it
            os.kill(link.pid, signal.SIGKILL)
            await until(lambda: link.restarts == 1 and link.is_up)
            link.take(pair(answer({"price": 1}), answer({"price": 1})))
        (tally,) = await tallies(tmp_path / "evidence.db")
        assert (tally.compared, tally.drops) == (2, {})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_a_judge_that_does_not_read_costs_a_bounded_space_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    async with judging(path, waiting_bytes=1_000_000, waiting_pairs=50) as (link, _):
        link.take(pair(answer({}), answer({})))
        await until(lambda: link.facts.get("pairs") == 1)
        os.kill(link.pid, signal.SIGSTOP)
        large = answer({"a": "x" * 50_000})
        longest = 0.0
        for number in range(2_000):
            began = time.perf_counter()
            link.take(pair(large, answer({"a": 1}), method="POST"))
            link.note(seen())
            longest = max(longest, time.perf_counter() - began)
            if number % 100 == 0:
                await asyncio.sleep(0.02)
        assert longest < 1.0
        wire = repr(link)
        full = link.drops["comparer_full"]
        assert full > 1_800, wire
        os.kill(link.pid, signal.SIGCONT)
        await until(lambda: link.facts.get("pairs", 0) == 2_001 - full)
        assert link.restarts == 0
    (tally,) = await tallies(path)
    assert (tally.eligible, tally.drops) == (4_001, {"comparer_full": full})
    assert tally.compared == 4_001 - full


async def test_closing_ends_in_time_though_the_judge_hangs(tmp_path: Path) -> None:
    async with judging(tmp_path / "evidence.db") as (link, _):
        link.take(pair(answer({}), answer({})))
        os.kill(link.pid, signal.SIGSTOP)
        began = time.monotonic()
        await link.close(2.0)
        assert time.monotonic() - began < 8.0
        with pytest.raises(ProcessLookupError):
            os.kill(link.pid, 0)


async def test_closing_asks_what_waits_without_the_delay(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    async with judging(path, again_after_s=3_600.0) as (link, asker):
        link.take(pair(answer({"price": 1}), answer({"price": 2})))
        await until(lambda: link.facts.get("waiting") == 1)
    assert sorted(asker.sides()) == ["candidate", "control"]
    (tally,) = await tallies(path)
    assert [one.confirmed for one in tally.strata.values()] == [1]


async def test_at_most_so_many_are_asked_at_once_and_the_rest_stay_unconfirmed(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    under_way = most = 0

    class Slow(Answering):
        async def ask(self, one: Pair, side: Side) -> Answer:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await answering.wait()
            under_way -= 1
            return await super().ask(one, side)

    answering = asyncio.Event()
    async with judging(path, asks_at_once=2, asks_waiting=3, asker=Slow(two_prices)) as (link, asker):
        for number in range(12):
            link.take(pair(answer({"price": 1}), answer({"price": 2}), target=b"/%c" % (97 + number)))
        await until(lambda: link.facts.get("not_asked_again") == 7)
        answering.set()
        await until(lambda: link.facts.get("mismatched") == 12)
        assert link.facts["not_asked_again"] == 7
    assert (most, len(asker.asked)) == (4, 10)
    (tally,) = await tallies(path)
    assert sum(one.confirmed for one in tally.strata.values()) == 5


async def test_a_share_of_safe_pairs_is_asked_of_the_control_twice(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    async with judging(path, aa_share=0.2, aa_per_s=100_000.0) as (link, asker):
        asker.answers = lambda one, side: one.control
        link.take(pair(answer({"a": 1}), answer({"a": 1})))
        await until(lambda: any(link.exact for _ in range(20)))
        chosen = 0
        for number in range(1_000):
            if link.exact:
                link.note(seen())
            else:
                chosen += 1
                link.take(pair(answer({"a": 1}), answer({"a": 1})))
            if number % 100 == 0:
                await asyncio.sleep(0.15)
        assert 120 < chosen < 280
        await until(lambda: link.facts.get("waiting") == 0 and link.facts.get("pairs") == chosen + 1)
    assert asker.sides() == ["control"] * chosen
    ((_, one),) = (await tallies(path))[0].strata.items()
    assert (one.noise.sampled, one.matched, one.requests) == (chosen, 1_001, 1_001)


async def test_a_judge_is_ready_once_its_evidence_is_open_and_not_after_its_death(tmp_path: Path) -> None:
    async with judging(tmp_path / "evidence.db") as (link, _):
        await until(lambda: link.is_ready)
        first = link.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: not link.is_ready)
        await until(lambda: link.is_ready and link.pid != first)


async def test_the_sample_is_no_more_than_its_rate_and_all_others_are_counted_unseen(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    async with judging(path, aa_share=0.2, aa_per_s=10.0) as (link, asker):
        asker.answers = lambda one, side: one.control
        link.take(pair(answer({"a": 1}), answer({"a": 1})))
        await until(lambda: any(link.exact for _ in range(20)))
        chosen, began = 0, time.monotonic()
        for number in range(20_000):
            if link.exact:
                link.note(seen())
            else:
                chosen += 1
                link.take(pair(answer({"a": 1}), answer({"a": 1})))
            if number % 1_000 == 0:
                await asyncio.sleep(0.05)
        assert 0 < chosen <= 3 + 10.0 * (time.monotonic() - began)
        await until(lambda: link.facts.get("waiting") == 0 and link.facts.get("pairs") == chosen + 1)
        assert not link.drops
    assert asker.sides() == ["control"] * chosen
    ((_, one),) = (await tallies(path))[0].strata.items()
    assert (one.noise.sampled, one.matched, one.requests) == (chosen, 20_001, 20_001)
    assert 0.9 * 20_001 <= one.ratio.total <= 20_001  # times of some stand for all


async def test_evidence_that_is_away_for_a_while_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "later" / "evidence.db"
    path.parent.write_text("a file stands where the folder will be")
    async with judging(path) as (link, _):
        link.take(pair(answer({"price": 1}), answer({"price": 2})))
        link.note(seen())
        await until(lambda: link.facts.get("publish_failures", 0) >= 2)
        path.parent.unlink()
        path.parent.mkdir()
        await until(lambda: link.facts.get("publish_failures") == 0)
        assert link.restarts == 0
    (tally,) = await tallies(path)
    assert (tally.compared, tally.eligible) == (2, 2)
    async with open_evidence(str(path)) as book:
        assert len(await book.samples("shop", limit=10)) == 1


async def test_a_judge_that_dies_before_it_could_publish_takes_nothing_with_it(tmp_path: Path) -> None:
    path = tmp_path / "later" / "evidence.db"
    path.parent.write_text("a file stands where the folder will be")
    async with judging(path) as (link, _):
        link.take(pair(answer({"a": 1}), answer({"a": 1.0})))
        for _ in range(10):
            link.note(seen())
        await until(lambda: link.facts.get("publish_failures", 0) >= 2 and link.facts.get("noted") == 10)
        first = link.pid
        os.kill(first, signal.SIGKILL)
        path.parent.unlink()
        path.parent.mkdir()
        await until(lambda: link.is_up and link.pid != first)
    (tally,) = await tallies(path)
    assert (tally.eligible, tally.compared, tally.drops) == (11, 10, {"judge_down": 1})


PROXY = """
import asyncio, sys
from pathlib import Path
from tests.integration.judge_rig import judging
from tests.pairs import answer, pair, seen

async def main():
    async with judging(Path(sys.argv[1]), publish_every_s=3600.0, again_after_s=3600.0) as (link, _):
        for _ in range(10):
            link.take(pair(answer({"a": 1}), answer(b'{"a":1}')))
            link.note(seen())
        link.take(pair(answer({"a": 1}), answer({"a": 2})))
        await asyncio.sleep(1.0)
        print(link.pid, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_a_judge_whose_proxy_is_killed_publishes_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    proxy = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROXY, str(path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert proxy.stdout is not None
    while not (line := await proxy.stdout.readline()).strip().isdigit():
        assert line, "the proxy ended early"
    judge = int(line)
    proxy.kill()
    await proxy.wait()

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{judge}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    await until(is_gone)
    (tally,) = await tallies(path)
    assert (tally.eligible, tally.compared) == (21, 21)
    assert sum(one.matched for one in tally.strata.values()) == 20


async def test_a_rule_that_is_added_counts_within_moments_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    rule = Rule(
        id="etag", kind=RuleKind.IGNORE, path="at", owner="ada", reason="a clock", expires_on=dt.date(2999, 1, 1)
    )
    async with judging(path, rules_every_s=0.1) as (link, _):
        link.take(pair(answer({"at": 1}), answer({"at": 2}), method="POST"))
        await until(lambda: link.facts.get("mismatched") == 1)
        async with open_evidence(str(path)) as book:
            await book.add_rule("shop", rule, by="ada")
        await asyncio.sleep(0.5)
        link.take(pair(answer({"at": 1}), answer({"at": 2}), method="POST"))
        await until(lambda: link.facts.get("ignored") == 1)
        assert any(link.exact for _ in range(5))
        asking = replace(rule, id="date", kind=RuleKind.COMPARE, path="header.date")
        async with open_evidence(str(path)) as book:
            await book.add_rule("shop", asking, by="ada")
        await until(lambda: not link.exact)
    fresh, first = [each for each in await tallies(path) if each.compared]
    assert [one.ignored for one in fresh.strata.values()] == [1]
    assert [one.mismatched for one in first.strata.values()] == [1]
    assert fresh.rule_uses == {"etag": 1}


async def test_evidence_may_be_kept_in_a_control_database(database: str) -> None:
    await asyncio.to_thread(migrate, database)
    asker = Answering(two_prices)
    settings = JudgeSettings(evidence=database, secret=SECRET, again_after_s=0.1, aa_share=0.0, publish_every_s=0.2)
    link = JudgeLink(settings, asker, asyncio.get_running_loop())
    await link.start()
    await until(lambda: link.is_up)
    for _ in range(5):
        link.take(pair(answer({"price": 1}), answer({"price": 2}), target=b"/\xff\x00%00", flag=""))
    await until(lambda: link.facts.get("samples_kept", 0) >= 4)
    await link.close()
    async with open_evidence(database) as book:
        (tally,) = await book.tallies("")
        assert [one.confirmed for one in tally.strata.values()] == [5]
        assert len(await book.samples("", limit=10)) >= 4
