"""Open breakers and ejections reach the person who looks: heartbeat, `strangler status`, `strangler watch`, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.forward.follower import Follower
from strangler_proxy.forward.table_file import TableFile
from strangler_proxy.store.memory import memory_store
from tests.integration.control_rig import Proxy, Rig, control_rig
from tests.integration.resilience_rig import closing, cluster_rig

SICK = {
    "breakers": ["payments/payments-list open"],
    "ejected": ["payments 127.0.0.1:8003 outlier"],
    "unmirrored": ["payments"],
    "unproven": ["payments 127.0.0.1:8003"],
}


@pytest.fixture
def control(database: str, tmp_path: Path) -> Iterator[Rig]:
    with control_rig(database, tmp_path) as made:
        assert made.run("apply").code == 0
        yield made


def test_a_heartbeat_says_which_breakers_are_open(tmp_path: Path) -> None:
    with cluster_rig(route={"breaker": BreakerPolicy(failures=2), "retries": 0, "fallback": False}) as engine:
        engine.many[0].default = closing
        for _ in range(2):
            engine.get("/f/x")

        async def beat() -> dict[str, object]:
            store = memory_store()
            follower = Follower(
                store.tables,
                engine.state,
                proxy_id="p1",
                state_dir=tmp_path,
                table_file=TableFile(tmp_path, None),
            )
            await follower._report()
            (live,) = await store.flags.live_proxies()
            return dict(live.upstreams)

        assert engine.call_async(beat) == {"breakers": ["extracted/f open"]}
        engine.call(engine.engine.publish)
        text = engine.metrics.render()
        assert 'strangler_proxy_breaker_open{cluster="extracted",route="f"} 1' in text
        assert 'strangler_proxy_endpoint_ejected{cluster="extracted",endpoint=' in text
        assert 'strangler_proxy_pending_requests{cluster="extracted"} 0' in text


def test_status_and_watch_show_them(control: Rig, database: str) -> None:
    with Proxy(database, "p1", upstreams=SICK):
        done = control.run("status", "--output", "json")
        (proxy,) = done.document["proxies"]
        assert proxy["upstreams"] == SICK
        shown = control.run("status")
        assert "breaker payments/payments-list open" in shown.err
        assert "ejected payments 127.0.0.1:8003 outlier" in shown.err
        assert "mirror paused to payments" in shown.err
        assert "no writes to payments 127.0.0.1:8003" in shown.err
        watched = control.run("watch", "--count", "1", "--output", "json")
        assert watched.document["proxies"][0]["upstreams"] == SICK
