"""`strangler sync census` as a person types it: command line, control plane, worker, and both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from strangler_proxy.core.stage import Origin
from strangler_proxy.store import open_store
from tests.integration.cli_process import Done
from tests.integration.control_rig import control_rig
from tests.integration.sync_rig import declared, running, worker_for
from tests.integration.sync_world import build

pytestmark = pytest.mark.long


async def test_the_census_is_set_and_shown_and_what_makes_no_sense_is_refused(
    make_database: Callable[[str], str], tmp_path: Path
) -> None:
    world = build(make_database)
    control = make_database("control")
    with control_rig(control, tmp_path) as rig:
        store = await declared(open_store(control), world)

        async def run(*words: str) -> Done:
            return await asyncio.to_thread(rig.run, "sync", "census", "people", *words)

        async with running(worker_for(store, world)):
            never = await run()
            assert (never.code, "monolith: nobody counts here" in never.out) == (0, True), never.err
            assert "next: strangler sync census people --mode log" in never.err
            counts = await run("--mode", "log", "--triggers", "--reason", "who?")
            assert counts.code == 0, counts.err
            assert "log, with triggers" in counts.out
            assert '{"side"' not in counts.err, "what the worker tells is not for people"
            world.app(Origin.MONOLITH).execute("INSERT INTO person (email) VALUES ('a')")
            shown = await run("--since", "1h", "--side", "monolith", "--sample", "0.2")
            row = next(line for line in shown.out.splitlines() if " write " in line)
            assert "monolith" in row
            assert "session test_app_monolith" in row
            assert "monolith: 1 place wrote these tables since " in shown.out
            document = (await run("--output", "json")).document
            assert [side["side"] for side in document["sides"]] == ["monolith", "extracted"]
            assert document["sides"][0]["places"][0]["table"] == "person"
            assert (await run("--allow", "admin:*", "--allow", "table:tally")).code == 0
            allowed = (await run("-o", "json")).document["sides"][0]["allow"]
            assert allowed == ["admin:*", "table:tally"]
            assert (await run("--allow", "")).code == 0
            assert (await run("-o", "json")).document["sides"][0]["allow"] == []
        both = await run("--mode", "refuse")
        assert (both.code, "needs a side" in both.err) == (2, True)
        owner = await run("--mode", "refuse", "--side", "monolith")
        assert owner.code == 3
        assert "next: strangler sync census people --mode refuse --side extracted" in owner.err
        assert (await run("--since", "yesterday")).code == 2
        await store.close()
    world.close()
