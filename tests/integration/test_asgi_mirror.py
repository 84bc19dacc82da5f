"""The mirror in the ASGI mode: the same copies, compared by a judge of its own, under every server that is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from strangler_proxy.asgi import StranglerProxy
from strangler_proxy.core.route import Cluster, Endpoint
from strangler_proxy.core.shadow_wire import SHADOW_HEADER
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.core.tally import Tally
from strangler_proxy.forward.mirror_options import MirrorOptions
from strangler_proxy.store.evidence_sqlite import SqliteEvidence
from tests.integration.engine_rig import SECRET, ok, wait_until
from tests.integration.test_asgi_mode import COMMANDS, site

pytestmark = pytest.mark.long

ASKED = 24


def tally_of(path: Path) -> Tally:
    """What the evidence of flag `moved` adds up to."""

    async def read() -> Tally:
        async with SqliteEvidence(path, create=False) as book:
            (found,) = await book.tallies("moved")
            return found

    return asyncio.run(read())


@pytest.mark.parametrize("server", COMMANDS)
def test_both_sides_are_compared_and_the_client_gets_the_authoritative_one(server: str, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence.sqlite"
    with site(server, "mirrored", TEST_EVIDENCE=f"sqlite://{evidence}") as served:
        served.extracted.scripts[b"/moved/same"] = served.monolith.scripts[b"/moved/same"] = ok(b"the same")
        asked = lambda: served.get("/moved/same").body == b"the same" and bool(served.monolith.seen)  # noqa: E731
        assert wait_until(asked, 20.0), "it mirrors once its judge has opened the evidence"
        served.monolith.seen.clear()
        for number in range(ASKED):
            assert served.get(f"/moved/{'same' if number % 2 else 'other'}").status == 200
        assert wait_until(lambda: len(served.monolith.seen) >= ASKED, 10.0)
        assert all(seen.values(SHADOW_HEADER) for seen in served.monolith.seen)
        assert not any(seen.values(SHADOW_HEADER) for seen in served.extracted.seen)
    tally = tally_of(evidence)
    assert tally.mirrored >= ASKED
    assert sum(one.mismatched for one in tally.strata.values()) >= ASKED // 2
    assert sum(one.matched for one in tally.strata.values()) >= ASKED // 2


def test_a_mirror_without_evidence_does_not_start() -> None:
    table = RoutingTable.empty(Cluster(name="monolith", endpoints=(Endpoint(host="127.0.0.1", port=1),)))
    with pytest.raises(ValueError, match="go together"):
        StranglerProxy(table, mirror=MirrorOptions(secret=SECRET))
    with pytest.raises(ValueError, match="go together"):
        StranglerProxy(table, evidence="sqlite:///tmp/e")
